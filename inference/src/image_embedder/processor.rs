//! What is done to an image before a model sees it: resize, crop the middle, rescale, normalize. Which of it, and how, is read in
//! [`settings`](super::settings).

use std::ops::Range;
use std::path::Path;

use super::resample::{CHANNELS, Filter, Resized, RgbImage};
use super::settings::{self, Settings};
use crate::error::LoadError;

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
pub(super) enum Target {
    Exact(Size),
    /// Its shorter side becomes so long, and the other as much longer as it was.
    ShortestEdge(usize),
}

impl Processor {
    /// That of a folder.
    pub(super) fn read(folder: &Path, model_type: &str) -> Result<Self, LoadError> {
        settings::read(folder, model_type, Self::of)
    }

    fn of(settings: &Settings) -> Result<Self, String> {
        let (resize, crop) = (settings.resize()?, settings.crop()?);
        if crop.is_none() && !matches!(resize, Some((Target::Exact(_), _))) {
            return Err("images keep different sizes after it, and a batch has one: size needs height and width, or do_center_crop must be true".to_owned());
        }
        Ok(Self {
            resize,
            crop,
            levels: settings.levels()?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_embedder::settings::{SETTINGS, SIDE, SQUARE};

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
