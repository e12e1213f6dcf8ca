//! `preprocessor_config.json`: how a folder's images are prepared. What is not written, or null, is as the family of processors has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::processor::{Size, Target};
use super::resample::{CHANNELS, Filter};
use crate::error::LoadError;
use crate::model_folder::{Fields, parse_fields, read_json};

pub(super) const SETTINGS: &str = "preprocessor_config.json";
/// Where newer versions of `transformers` have it, if the model reads texts, too.
const NESTED: [&str; 2] = ["processor_config.json", "image_processor"];

/// What is written, and what the family has in the place of the rest.
pub(super) struct Settings {
    told: Told,
    family: Family,
}

/// Reads the settings of a folder and makes of them what `steps` does; settings of other steps are refused.
pub(super) fn read<T>(
    folder: &Path,
    model_type: &str,
    steps: impl FnOnce(&Settings) -> Result<T, String>,
) -> Result<T, LoadError> {
    let (path, fields) = fields_of(folder)?;
    let told: Told = parse_fields(&path, &fields)?;
    let made = Family::of(&told, model_type).and_then(|family| {
        let made = steps(&Settings { told, family })?;
        refuse_other_steps(&fields)?;
        Ok(made)
    });
    made.map_err(|reason| LoadError::ImageProcessor { path, reason })
}

impl Settings {
    /// What images are resized to, and how.
    pub(super) fn resize(&self) -> Result<Option<(Target, Filter)>, String> {
        let Self { told, family } = self;
        match told.do_resize.unwrap_or(true) {
            true => Ok(Some((target_of(told, family)?, filter_of(told, family)?))),
            false => Ok(None),
        }
    }

    /// What is kept of their middle.
    pub(super) fn crop(&self) -> Result<Option<Size>, String> {
        let Self { told, family } = self;
        match told.do_center_crop.unwrap_or(family.crop.is_some()) {
            true => Ok(Some(crop_of(told, family)?)),
            false => Ok(None),
        }
    }

    /// Of each channel what becomes of each of the 256 values: there are no others after resizing.
    pub(super) fn levels(&self) -> Result<[Vec<f32>; CHANNELS], String> {
        levels(&self.told, &self.family)
    }
}

/// The settings as they are written. What is not written, or null, is as the family has it.
#[derive(Debug, Clone, Default, Deserialize)]
struct Told {
    image_processor_type: Option<String>,
    /// The same, as older versions write it.
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<SizeSetting>,
    resample: Option<u64>,
    do_center_crop: Option<bool>,
    crop_size: Option<SizeSetting>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum SizeSetting {
    Edge(usize),
    Named(BTreeMap<String, Option<usize>>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    One(f64),
    Each([f64; CHANNELS]),
}

impl PerChannel {
    fn values(&self) -> [f64; CHANNELS] {
        match *self {
            Self::One(value) => [value; CHANNELS],
            Self::Each(values) => values,
        }
    }
}

/// What a family does where nothing is written.
struct Family {
    filter: u64,
    size: Target,
    crop: Option<Size>,
    mean: [f64; CHANNELS],
    std: [f64; CHANNELS],
}

pub(super) const SIDE: usize = 224;
pub(super) const SQUARE: Size = Size {
    height: SIDE,
    width: SIDE,
};

impl Family {
    /// By the name of its processor, and without that by the family that `config.json` names.
    fn of(settings: &Told, model_type: &str) -> Result<Self, String> {
        let told = settings.image_processor_type.as_deref();
        let told = told.or(settings.feature_extractor_type.as_deref());
        let kind = told.map(|name| {
            let name = name.trim_end_matches("Fast").trim_end_matches("Pil");
            name.trim_end_matches("ImageProcessor")
                .trim_end_matches("FeatureExtractor")
        });
        match kind.unwrap_or(model_type) {
            "CLIP" | "clip" | "clip_vision_model" => Ok(Self {
                filter: 3,
                size: Target::ShortestEdge(SIDE),
                crop: Some(SQUARE),
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            }),
            "ViT" | "vit" => Ok(Self {
                filter: 2,
                size: Target::Exact(SQUARE),
                crop: None,
                mean: [0.5; CHANNELS],
                std: [0.5; CHANNELS],
            }),
            other => Err(format!(
                "its images are prepared as `{other}` does it, and CLIPImageProcessor and ViTImageProcessor are known; for others prepare \
                 the images by a function and give them to aktis.models.OnnxModel"
            )),
        }
    }
}

/// Settings of other steps, which would make other pixels.
const OTHER_STEPS: [&str; 14] = [
    "crop_pct",
    "do_align_long_axis",
    "do_color_quantize",
    "do_flip_channel_order",
    "do_image_splitting",
    "do_pad",
    "do_rotate",
    "do_thumbnail",
    "ensure_multiple_of",
    "keep_aspect_ratio",
    "pad_size",
    "rescale_offset",
    "size_divisor",
    "use_square_size",
];

fn refuse_other_steps(fields: &Fields) -> Result<(), String> {
    let is_set = |name: &&&str| fields.get(**name).is_some_and(|value| *value != false);
    match OTHER_STEPS.iter().find(is_set) {
        None => Ok(()),
        Some(name) => Err(format!(
            "{name} is not supported; prepare the images by a function and give them to aktis.models.OnnxModel"
        )),
    }
}

fn fields_of(folder: &Path) -> Result<(PathBuf, Fields), LoadError> {
    let own = folder.join(SETTINGS);
    let [file, key] = NESTED;
    let nested = folder.join(file);
    let refused = |reason: &str| LoadError::ImageProcessor {
        path: folder.to_owned(),
        reason: reason.to_owned(),
    };
    let (path, mut fields) = if own.is_file() {
        let fields: Fields = read_json(&own)?;
        (own, fields)
    } else if nested.is_file() {
        let mut all: Fields = read_json(&nested)?;
        match all.remove(key) {
            Some(serde_json::Value::Object(fields)) => (nested, fields),
            _ => return Err(refused("its processor_config.json has no image_processor")),
        }
    } else {
        return Err(refused(
            "it has no preprocessor_config.json; transformers.AutoImageProcessor.from_pretrained(NAME).save_pretrained(FOLDER) writes it",
        ));
    };
    fields.retain(|_, value| !value.is_null());
    Ok((path, fields))
}

fn filter_of(settings: &Told, family: &Family) -> Result<Filter, String> {
    let code = settings.resample.unwrap_or(family.filter);
    Filter::of_code(code).ok_or_else(|| {
        format!("resample {code} is not supported; 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) and 5 (hamming) are")
    })
}

fn target_of(settings: &Told, family: &Family) -> Result<Target, String> {
    match &settings.size {
        None => Ok(family.size),
        // What a single number means differs between the families.
        Some(SizeSetting::Edge(side)) => in_bounds(
            "size",
            match family.size {
                Target::ShortestEdge(_) => Target::ShortestEdge(*side),
                Target::Exact(_) => Target::Exact(Size {
                    height: *side,
                    width: *side,
                }),
            },
        ),
        Some(SizeSetting::Named(sides)) => {
            let named = named(sides);
            match named[..] {
                [("height", height), ("width", width)] => {
                    in_bounds("size", Target::Exact(Size { height, width }))
                }
                [("shortest_edge", side)] => in_bounds("size", Target::ShortestEdge(side)),
                _ => Err(format!(
                    "size {named:?} is not supported; height with width, or shortest_edge alone, is"
                )),
            }
        }
    }
}

fn crop_of(settings: &Told, family: &Family) -> Result<Size, String> {
    let size = match &settings.crop_size {
        None => family.crop.unwrap_or(SQUARE),
        Some(SizeSetting::Edge(side)) => Size {
            height: *side,
            width: *side,
        },
        Some(SizeSetting::Named(sides)) => match named(sides)[..] {
            [("height", height), ("width", width)] => Size { height, width },
            _ => return Err("crop_size needs height and width".to_owned()),
        },
    };
    in_bounds("crop_size", Target::Exact(size))?;
    Ok(size)
}

/// The sides that have a length, in the order of their names.
fn named(sides: &BTreeMap<String, Option<usize>>) -> Vec<(&str, usize)> {
    let sides = sides.iter();
    sides
        .filter_map(|(name, side)| Some((name.as_str(), (*side)?)))
        .collect()
}

/// Longest side of prepared images: many times what models take, and a number with a typo takes no memory.
const MOST_SIDE: usize = 4096;

fn in_bounds(setting: &str, target: Target) -> Result<Target, String> {
    let sides = match target {
        Target::Exact(Size { height, width }) => [height, width],
        Target::ShortestEdge(side) => [side; 2],
    };
    match sides.iter().find(|side| !(1..=MOST_SIDE).contains(*side)) {
        Some(side) => Err(format!(
            "a side of its {setting} is {side}, and 1 to {MOST_SIDE} are supported"
        )),
        None => Ok(target),
    }
}

fn levels(settings: &Told, family: &Family) -> Result<[Vec<f32>; CHANNELS], String> {
    let factor = match settings.do_rescale.unwrap_or(true) {
        true => settings.rescale_factor.unwrap_or(1.0 / 255.0),
        false => 1.0,
    };
    let told = |setting: &Option<PerChannel>, default| {
        setting.as_ref().map_or(default, PerChannel::values)
    };
    let (mean, std) = match settings.do_normalize.unwrap_or(true) {
        true => (
            told(&settings.image_mean, family.mean),
            told(&settings.image_std, family.std),
        ),
        false => ([0.0; CHANNELS], [1.0; CHANNELS]),
    };
    if std.contains(&0.0) {
        return Err(format!("image_std {std:?} has a 0"));
    }
    Ok(std::array::from_fn(|channel| {
        let (mean, std) = (mean[channel] as f32, std[channel] as f32);
        let values = (0..=u8::MAX).map(|value| ((f64::from(value) * factor) as f32 - mean) / std);
        values.collect()
    }))
}
