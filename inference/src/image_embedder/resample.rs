//! Resizing as Pillow before 13 does it, bit by bit: processors of images call that, and models were trained with it.
//!
//! Each output value is a weighted sum of the inputs around it, along the width and then along the height, in fixed point; the window grows with the
//! scale where an image is made smaller. Source: `src/libImaging/Resample.c` of Pillow.

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

/// Those of every output along an axis.
fn windows(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.reach() * stretch;
    let windows = (0..to).map(|output| {
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

fn rounded(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Half of the last place, so that cutting off rounds.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

impl RgbImage {
    /// The image at another size.
    pub(super) fn resized(self, height: usize, width: usize, filter: Filter) -> Self {
        let narrowed = if width == self.width {
            self
        } else {
            self.with_width(width, filter)
        };
        if height == narrowed.height {
            narrowed
        } else {
            narrowed.with_height(height, filter)
        }
    }

    fn with_width(&self, width: usize, filter: Filter) -> Self {
        let windows = windows(self.width, width, filter);
        let mut pixels = Vec::with_capacity(self.height * width * CHANNELS);
        for row in self.pixels.chunks_exact(self.width * CHANNELS) {
            for window in &windows {
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
            height: self.height,
            width,
            pixels,
        }
    }

    fn with_height(&self, height: usize, filter: Filter) -> Self {
        let stride = self.width * CHANNELS;
        let mut pixels = Vec::with_capacity(height * stride);
        let mut sums = vec![HALF; stride];
        for window in windows(self.height, height, filter) {
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
                let resized =
                    image(7, 9, |at| [3, 250, 255][at % 3]).resized(height, width, filter);
                assert_eq!(resized.pixels.len(), height * width * CHANNELS);
                let expected = image(height, width, |at| [3, 250, 255][at % 3]);
                assert_eq!(resized, expected, "{filter:?} {height} x {width}");
            }
        }
    }

    #[test]
    fn halves_are_means_and_edges_are_kept() {
        let ramp = image(1, 4, |at| (at / CHANNELS) as u8 * 10);
        let half = ramp.resized(1, 2, Filter::Box);
        assert_eq!(half.pixels, [5, 5, 5, 25, 25, 25]);
        let column = image(4, 1, |at| (at / CHANNELS) as u8 * 10);
        let half = column.resized(2, 1, Filter::Box);
        assert_eq!(half.pixels, [5, 5, 5, 25, 25, 25]);
    }
}
