//! Resizing as Pillow before 13 does it, bit by bit: processors of images call that, and models were trained with it.
//!
//! Each output value is a weighted sum of the inputs around it, along the width and then along the height, in fixed point; the window grows with the
//! scale where an image is made smaller. Source: `src/libImaging/Resample.c` of Pillow.

use std::ops::Range;

/// An image of three channels, row after row, the channels of a pixel beside each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RgbImage {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) pixels: Vec<u8>,
}

/// Channels of a pixel.
pub(super) const CHANNELS: usize = 3;
/// Bits of a weight's fraction: what 32 leave beside those of a value and two for sums beyond it.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// What the inputs around a place weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// By Pillow's number.
    pub(super) fn of_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return None,
        })
    }

    /// How far it reaches to each side, in pixels of the smaller image.
    fn reach(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Hamming if distance >= 1.0 => 0.0,
            Self::Hamming => sinc(x) * (0.54 + 0.46 * (x * std::f64::consts::PI).cos()),
            Self::Bicubic => bicubic(distance),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// Keys (1981), with a slope of -0.5 at 1.
fn bicubic(x: f64) -> f64 {
    const SLOPE: f64 = -0.5;
    if x < 1.0 {
        return ((SLOPE + 2.0) * x - (SLOPE + 3.0)) * x * x + 1.0;
    }
    if x < 2.0 {
        return (((x - 5.0) * x + 8.0) * x - 4.0) * SLOPE;
    }
    0.0
}

/// The inputs that an output is made of.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Those of the outputs `kept` of `to` along an axis.
fn windows(from: usize, to: usize, kept: Range<usize>, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.reach() * stretch;
    let windows = kept.map(|output| {
        let center = (output as f64 + 0.5) * scale;
        // Casts cut off, and what is below 0 becomes 0.
        let first = (center - reach + 0.5) as usize;
        let last = ((center + reach + 0.5) as usize).min(from);
        let weights = (first..last)
            .map(|input| filter.weight((input as f64 - center + 0.5) * (1.0 / stretch)));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        let fixed = weights.iter().map(|weight| {
            let weight = if sum == 0.0 { *weight } else { weight / sum };
            // Halves go away from zero, as in Pillow.
            (weight * f64::from(1u32 << FRACTION_BITS)).round() as i32
        });
        Taps {
            first,
            weights: fixed.collect(),
        }
    });
    windows.collect()
}

/// The inputs that any of them needs, which are counted from the first of these from now on.
fn from_zero(windows: &mut [Taps]) -> Range<usize> {
    let start = windows.iter().map(|window| window.first).min().unwrap_or(0);
    let ends = windows
        .iter()
        .map(|window| window.first + window.weights.len());
    let end = ends.max().unwrap_or(start);
    for window in windows {
        window.first -= start;
    }
    start..end
}

fn rounded(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// An axis at another length, and what is kept of that.
#[derive(Debug, Clone)]
pub(super) struct Resized {
    pub(super) length: usize,
    pub(super) kept: Range<usize>,
}

impl Resized {
    fn changes(&self, from: usize) -> bool {
        self.length != from || self.kept.len() != from
    }
}

/// Half of the last place, so that cutting off rounds.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

impl RgbImage {
    /// What is kept of the image at another size. The rest is not computed: of a long and narrow image it can be gigabytes.
    pub(super) fn resized(self, height: &Resized, width: &Resized, filter: Filter) -> Self {
        let windows = |axis: &Resized, from| {
            axis.changes(from)
                .then(|| windows(from, axis.length, axis.kept.clone(), filter))
        };
        let mut rows = windows(height, self.height);
        let narrowed = match windows(width, self.width) {
            None => self,
            Some(columns) => {
                let needed = rows.as_deref_mut().map_or(0..self.height, from_zero);
                self.with_width(needed, &columns)
            }
        };
        match rows {
            None => narrowed,
            Some(rows) => narrowed.with_height(&rows),
        }
    }

    /// Of the rows `needed` alone.
    fn with_width(&self, needed: Range<usize>, windows: &[Taps]) -> Self {
        let (height, width) = (needed.len(), windows.len());
        let stride = self.width * CHANNELS;
        let mut pixels = Vec::with_capacity(height * width * CHANNELS);
        for row in self.pixels[needed.start * stride..needed.end * stride].chunks_exact(stride) {
            for window in windows {
                let (inputs, _) = row[window.first * CHANNELS..].as_chunks::<CHANNELS>();
                let mut sums = [HALF; CHANNELS];
                for (pixel, weight) in inputs.iter().zip(&window.weights) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                pixels.extend(sums.map(rounded));
            }
        }
        Self {
            height,
            width,
            pixels,
        }
    }

    fn with_height(&self, windows: &[Taps]) -> Self {
        let height = windows.len();
        let stride = self.width * CHANNELS;
        let mut pixels = Vec::with_capacity(height * stride);
        let mut sums = vec![HALF; stride];
        for window in windows {
            sums.fill(HALF);
            let rows = self.pixels[window.first * stride..].chunks_exact(stride);
            for (row, weight) in rows.zip(&window.weights) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += i32::from(*value) * weight;
                }
            }
            pixels.extend(sums.iter().copied().map(rounded));
        }
        Self {
            height,
            width: self.width,
            pixels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize, value: impl Fn(usize) -> u8) -> RgbImage {
        RgbImage {
            height,
            width,
            pixels: (0..height * width * CHANNELS).map(value).collect(),
        }
    }

    fn whole(length: usize) -> Resized {
        Resized {
            length,
            kept: 0..length,
        }
    }

    const FILTERS: [Filter; 5] = [
        Filter::Lanczos,
        Filter::Bilinear,
        Filter::Bicubic,
        Filter::Box,
        Filter::Hamming,
    ];

    #[test]
    fn one_color_stays_that_color_at_every_size() {
        for filter in FILTERS {
            for (height, width) in [(1, 1), (3, 50), (40, 2), (7, 9)] {
                let resized = image(7, 9, |at| [3, 250, 255][at % 3]).resized(
                    &whole(height),
                    &whole(width),
                    filter,
                );
                assert_eq!(resized.pixels.len(), height * width * CHANNELS);
                let expected = image(height, width, |at| [3, 250, 255][at % 3]);
                assert_eq!(resized, expected, "{filter:?} {height} x {width}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_as_it_is_in_the_whole() {
        let noise = || image(7, 9, |at| (at * at * 31 % 251) as u8);
        for filter in FILTERS {
            for (height, width) in [(7, 9), (7, 20), (30, 9), (4, 5), (19, 23)] {
                let all = noise().resized(&whole(height), &whole(width), filter);
                let [rows, columns] = [1..height - 1, 2..width];
                let expected = rows.clone().flat_map(|y| {
                    let row = y * width;
                    all.pixels[(row + columns.start) * CHANNELS..(row + columns.end) * CHANNELS]
                        .to_vec()
                });
                let [tall, wide] = [(height, rows.clone()), (width, columns.clone())]
                    .map(|(length, kept)| Resized { length, kept });
                let part = noise().resized(&tall, &wide, filter);
                assert_eq!((part.height, part.width), (rows.len(), columns.len()));
                assert!(
                    part.pixels.into_iter().eq(expected),
                    "{filter:?} {height} x {width}"
                );
            }
        }
    }

    #[test]
    fn halves_are_means_and_edges_are_kept() {
        let ramp = image(1, 4, |at| (at / CHANNELS) as u8 * 10);
        let half = ramp.resized(&whole(1), &whole(2), Filter::Box);
        assert_eq!(half.pixels, [5, 5, 5, 25, 25, 25]);
        let column = image(4, 1, |at| (at / CHANNELS) as u8 * 10);
        let half = column.resized(&whole(2), &whole(1), Filter::Box);
        assert_eq!(half.pixels, [5, 5, 5, 25, 25, 25]);
    }
}
