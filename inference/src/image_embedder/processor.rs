//! What is done to an image before a model sees it, as `preprocessor_config.json` says: resize, crop the middle, rescale, normalize.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::resample::{CHANNELS, Filter, Resized, RgbImage};
use crate::error::LoadError;
use crate::model_folder::{Fields, parse_fields, read_json};

const SETTINGS: &str = "preprocessor_config.json";
/// Where newer versions of `transformers` have it, if the model reads texts, too.
const NESTED: [&str; 2] = ["processor_config.json", "image_processor"];

/// The steps, ready to be taken.
#[derive(Debug, Clone)]
pub(super) struct Processor {
    resize: Option<(Target, Filter)>,
    crop: Option<Size>,
    /// What becomes of each value of each channel.
    levels: [Vec<f32>; CHANNELS],
}

/// Height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// What an image is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Exact(Size),
    /// Its shorter side becomes so long, and the other as much longer as it was.
    ShortestEdge(usize),
}

/// The settings as they are written. What is not written, or null, is as the family has it.
#[derive(Debug, Clone, Default, Deserialize)]
struct Settings {
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

const SIDE: usize = 224;
const SQUARE: Size = Size {
    height: SIDE,
    width: SIDE,
};

impl Family {
    /// By the name of its processor, and without that by the family that `config.json` names.
    fn of(settings: &Settings, model_type: &str) -> Result<Self, String> {
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

impl Processor {
    /// That of a folder.
    pub(super) fn read(folder: &Path, model_type: &str) -> Result<Self, LoadError> {
        let (path, fields) = settings_of(folder)?;
        let settings: Settings = parse_fields(&path, &fields)?;
        let family = Family::of(&settings, model_type);
        let steps = family.and_then(|family| {
            let steps = Self::of(&settings, &family)?;
            refuse_other_steps(&fields)?;
            Ok(steps)
        });
        steps.map_err(|reason| LoadError::ImageProcessor { path, reason })
    }

    fn of(settings: &Settings, family: &Family) -> Result<Self, String> {
        let crop = match settings.do_center_crop.unwrap_or(family.crop.is_some()) {
            true => Some(crop_of(settings, family)?),
            false => None,
        };
        let resize = match settings.do_resize.unwrap_or(true) {
            true => Some((target_of(settings, family)?, filter_of(settings, family)?)),
            false => None,
        };
        if crop.is_none() && !matches!(resize, Some((Target::Exact(_), _))) {
            return Err("images keep different sizes after it, and a batch has one: size needs height and width, or do_center_crop must be true".to_owned());
        }
        Ok(Self {
            resize,
            crop,
            levels: levels(settings, family)?,
        })
    }

    /// What every image becomes.
    pub(super) fn size(&self) -> Size {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Some((Target::Exact(size), _))) => size,
            _ => unreachable!("checked when it was read"),
        }
    }

    /// Adds the prepared image to `pixels`: channel after channel, row after row.
    pub(super) fn append(&self, image: RgbImage, pixels: &mut Vec<f32>) {
        let size = self.size();
        let image = match self.resize {
            Some((target, filter)) => {
                let target = target.of(&image);
                let [height, width] = [(target.height, size.height), (target.width, size.width)]
                    .map(|(length, wanted)| Resized {
                        length,
                        kept: Middle::of(length, wanted).kept(wanted),
                    });
                image.resized(&height, &width, filter)
            }
            None => image,
        };
        let (rows, columns) = (
            Middle::of(image.height, size.height),
            Middle::of(image.width, size.width),
        );
        let (cells, _) = image.pixels.as_chunks::<CHANNELS>();
        for (channel, levels) in self.levels.iter().enumerate() {
            for y in 0..size.height {
                let row = rows.source(y).map(|y| &cells[y * image.width..]);
                pixels.extend((0..size.width).map(|x| {
                    // What lies beyond the image is black.
                    let cell = row.and_then(|row| Some(row[columns.source(x)?]));
                    levels[usize::from(cell.map_or(0, |cell| cell[channel]))]
                }));
            }
        }
    }
}

impl Target {
    fn of(self, image: &RgbImage) -> Size {
        match self {
            Self::Exact(size) => size,
            Self::ShortestEdge(short) => {
                // Cut off, as `transformers` does.
                let other = |long: usize, shorter: usize| (short * long) / shorter;
                if image.width <= image.height {
                    Size {
                        height: other(image.height, image.width),
                        width: short,
                    }
                } else {
                    Size {
                        height: short,
                        width: other(image.width, image.height),
                    }
                }
            }
        }
    }
}

/// Where the middle of an axis lies.
struct Middle {
    /// Left out before it.
    skipped: usize,
    /// Missing before it, where the axis is shorter.
    missing: usize,
    /// The axis.
    length: usize,
}

impl Middle {
    fn of(length: usize, wanted: usize) -> Self {
        Self {
            skipped: length.saturating_sub(wanted) / 2,
            missing: wanted.saturating_sub(length).div_ceil(2),
            length,
        }
    }

    /// What of it is inside of `wanted` places.
    fn kept(&self, wanted: usize) -> Range<usize> {
        self.skipped..self.skipped + self.length.min(wanted)
    }

    fn source(&self, place: usize) -> Option<usize> {
        let source = (place + self.skipped).checked_sub(self.missing)?;
        (source < self.length).then_some(source)
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

fn settings_of(folder: &Path) -> Result<(PathBuf, Fields), LoadError> {
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

fn filter_of(settings: &Settings, family: &Family) -> Result<Filter, String> {
    let code = settings.resample.unwrap_or(family.filter);
    Filter::of_code(code).ok_or_else(|| {
        format!("resample {code} is not supported; 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) and 5 (hamming) are")
    })
}

fn target_of(settings: &Settings, family: &Family) -> Result<Target, String> {
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

fn crop_of(settings: &Settings, family: &Family) -> Result<Size, String> {
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

/// Of each channel what becomes of each of the 256 values: there are no others after resizing.
fn levels(settings: &Settings, family: &Family) -> Result<[Vec<f32>; CHANNELS], String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(text: &str) -> Result<Processor, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SETTINGS), text).unwrap();
        Processor::read(folder.path(), "vit").map_err(|error| crate::explain(&error))
    }

    #[test]
    fn families_have_their_own_meaning_of_one_number_and_of_nothing() {
        let clip = processor(
            r#"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 8, "crop_size": 6}"#,
        );
        let clip = clip.unwrap();
        assert_eq!(
            clip.size(),
            Size {
                height: 6,
                width: 6
            }
        );
        let wide = RgbImage {
            height: 10,
            width: 21,
            pixels: vec![0; 630],
        };
        let target = clip.resize.unwrap().0.of(&wide);
        assert_eq!((target.height, target.width), (8, 16), "cut off");
        let vit = processor(r#"{"size": 8, "image_mean": null, "resample": null}"#).unwrap();
        assert_eq!(
            vit.size(),
            Size {
                height: 8,
                width: 8
            }
        );
        assert_eq!((vit.levels[0][0], vit.levels[2][255]), (-1.0, 1.0));
        assert_eq!(processor("{}").unwrap().size(), SQUARE);
        let told = r#"{"do_pad": false, "use_square_size": null, "data_format": "channels_first"}"#;
        assert!(processor(told).is_ok());
    }

    #[test]
    fn of_long_and_narrow_images_only_the_middle_is_made() {
        let clip = processor(r#"{"image_processor_type": "CLIPImageProcessor"}"#).unwrap();
        // The whole would be of 10 GB.
        for (height, width) in [(1, 65_535), (65_535, 1)] {
            let image = RgbImage {
                height,
                width,
                pixels: vec![9; height * width * CHANNELS],
            };
            let mut pixels = Vec::new();
            clip.append(image, &mut pixels);
            let expected = [0, 1, 2].map(|channel| clip.levels[channel][9]);
            let channels = pixels.chunks_exact(SIDE * SIDE).zip(expected);
            assert!(channels.clone().count() == CHANNELS);
            for (found, level) in channels {
                assert!(found.iter().all(|value| *value == level));
            }
        }
    }

    #[test]
    fn small_images_are_put_into_the_middle_of_black() {
        let text = r#"{"do_resize": false, "do_center_crop": true, "crop_size": {"height": 2, "width": 4},
            "do_rescale": false, "do_normalize": false}"#;
        let image = RgbImage {
            height: 3,
            width: 1,
            pixels: (1..10).collect(),
        };
        let mut pixels = Vec::new();
        processor(text).unwrap().append(image, &mut pixels);
        // Rows 0 and 1 of three, the only column behind two that are missing.
        assert_eq!(pixels[..8], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 0.0]);
        assert_eq!(pixels.len(), 24);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_name() {
        for (text, said) in [
            (
                r#"{"image_processor_type": "DonutImageProcessor"}"#,
                "`Donut`",
            ),
            (r#"{"resample": 0}"#, "resample 0"),
            (r#"{"size": {"longest_edge": 9}}"#, "longest_edge"),
            (r#"{"size": {"shortest_edge": 9}}"#, "different sizes"),
            (r#"{"do_resize": false}"#, "different sizes"),
            (r#"{"do_pad": true}"#, "do_pad"),
            (r#"{"pad_size": {"height": 9, "width": 9}}"#, "pad_size"),
            (r#"{"use_square_size": true}"#, "use_square_size"),
            (
                r#"{"do_flip_channel_order": true}"#,
                "do_flip_channel_order",
            ),
            (r#"{"size": 0}"#, "side of its size is 0"),
            (
                r#"{"size": {"height": 9, "width": 16384}}"#,
                "side of its size is 16384",
            ),
            (
                r#"{"do_center_crop": true, "crop_size": 16384}"#,
                "side of its crop_size is 16384",
            ),
            (r#"{"image_std": [1, 0, 1]}"#, "has a 0"),
            (r#"{"image_mean": [1, 0]}"#, "`image_mean`"),
        ] {
            let error = processor(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = Processor::read(folder.path(), "vit")
            .unwrap_err()
            .to_string();
        assert!(error.contains("no preprocessor_config.json"), "{error}");
    }
}
