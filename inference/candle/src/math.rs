//! exp, erf and norms in `f32`, written so that the compiler vectorises loops over them: no call, no branch, no table.
//!
//! The C library's versions, called number by number, cost as much as the matrix products around them.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

/// erf is `x P(x²) / Q(x²)` on [-4, 4], fitted by iteratively reweighted least squares: the equal-ripple error is
/// 5.4e-8, and with rounding in `f32` it stays below 5e-7. Beyond 4, erf is 1 in `f32`.
const ERF_NUMERATOR: [f32; 7] = [
    1.128_378_6,
    0.213_944_88,
    0.052_433_49,
    0.004_293_062,
    1.555_371_3e-4,
    -1.990_324_3e-6,
    1.921_722_9e-8,
];
const ERF_DENOMINATOR: [f32; 5] = [1.0, 0.522_931_4, 0.120_799_7, 0.015_551_107, 1.098_040_6e-3];
const ERF_LIMIT: f32 = 4.0;

/// Taylor's series of exp up to the seventh power: on [-ln 2 / 2, ln 2 / 2] it is exact to 6e-9.
const EXP_SERIES: [f32; 8] = [
    1.0,
    1.0,
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
];
/// Below this, exp is nothing next to the largest term of a softmax, which is 1.
const EXP_SMALLEST: f32 = -80.0;
/// ln 2 in two parts, so that multiples of the first one are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 x 2^23: adding it rounds a small number to an integer, and leaves that in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;
const MANTISSA_BITS: u32 = 23;

/// The exact GELU, `x/2 (1 + erf(x/√2))`.
#[inline]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// GELU by its usual approximation, `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`. With `(1 + tanh u) / 2 = sigmoid(2 u)`.
#[inline]
pub(crate) fn gelu_by_tanh(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    x * sigmoid(TWICE_ROOT * x * (1.0 + 0.044_715 * x * x))
}

/// `x sigmoid(x)`.
#[inline]
pub(crate) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline]
fn sigmoid(x: f32) -> f32 {
    let power = exp_of_negative(-x.abs());
    let numerator = if x < 0.0 { power } else { 1.0 };
    numerator / (1.0 + power)
}

/// LayerNorm (Ba et al., 2016); without a shift that is 0.
pub(crate) fn layer_norm(row: &mut [f32], weight: &[f32], shift: Option<&[f32]>, epsilon: f32) {
    let count = row.len() as f32;
    let mean = sum(row.iter().copied()) / count;
    for value in row.iter_mut() {
        *value -= mean;
    }
    let variance = sum(row.iter().map(|value| value * value)) / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for (value, weight) in row.iter_mut().zip(weight) {
        *value = *value * scale * weight;
    }
    for (value, shift) in row.iter_mut().zip(shift.into_iter().flatten()) {
        *value += shift;
    }
}

/// RMSNorm (Zhang and Sennrich, 2019).
pub(crate) fn rms_norm(row: &mut [f32], weight: &[f32], epsilon: f32) {
    let mean = sum(row.iter().map(|value| value * value)) / row.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for (value, weight) in row.iter_mut().zip(weight) {
        *value = *value * scale * weight;
    }
}

/// A sum in eight interleaved parts, which the compiler can keep in one vector.
pub(crate) fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut parts = [0.0f32; 8];
    for (index, value) in values.enumerate() {
        parts[index % 8] += value;
    }
    parts.iter().sum()
}

#[inline]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-ERF_LIMIT, ERF_LIMIT);
    let square = x * x;
    x * polynomial(&ERF_NUMERATOR, square) / polynomial(&ERF_DENOMINATOR, square)
}

/// exp of a number that is at most 0.
#[inline]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    let x = x.max(EXP_SMALLEST);
    let shifted = x * LOG2_E + ROUNDING;
    let power = shifted - ROUNDING;
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    // The exponent's bits of 1, plus the power of two.
    let scale = f32::from_bits((shifted.to_bits() << MANTISSA_BITS).wrapping_add(1.0f32.to_bits()));
    polynomial(&EXP_SERIES, rest) * scale
}

#[inline]
fn polynomial<const TERMS: usize>(coefficients: &[f32; TERMS], x: f32) -> f32 {
    coefficients
        .iter()
        .rev()
        .fold(0.0, |sum, &coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_tabulated_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, value) in [
            (0.0, 0.0),
            (0.1, 0.112_462_92),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (1.5, 0.966_105_1),
            (2.0, 0.995_322_3),
            (3.0, 0.999_977_9),
            (9.0, 1.0),
        ] {
            assert!((erf(x) - value).abs() < 5e-7, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + value).abs() < 5e-7, "erf(-{x}) = {}", erf(-x));
        }
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in 0..80_000 {
            let x = -(step as f32) / 1000.0;
            let (ours, theirs) = (exp_of_negative(x), x.exp());
            assert!(
                (ours - theirs).abs() <= 4e-7 * theirs,
                "exp({x}) = {ours}, not {theirs}"
            );
        }
        assert!(exp_of_negative(-10_000.0) < 2e-35);
    }

    #[test]
    fn gelu_leaves_large_numbers_and_drops_small_ones() {
        assert_eq!(gelu(0.0), 0.0);
        assert!((gelu(10.0) - 10.0).abs() < 1e-5);
        assert!(gelu(-10.0).abs() < 1e-5);
        assert!((gelu(1.0) - 0.841_344_7).abs() < 1e-6);
    }
}
