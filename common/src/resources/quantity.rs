//! A count of a resource in units of 1/10000.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// How much of a resource, in units of 1/10000: exact sums, no rounding drift.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Quantity(i64);

/// A number that cannot be a quantity.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantityError {
    /// NaN or infinite.
    #[error("{value} is not a number; give a finite number")]
    NotFinite {
        /// What was given.
        value: f64,
    },
    /// Below zero.
    #[error("{value} is negative; give 0 or more")]
    Negative {
        /// What was given.
        value: f64,
    },
    /// More digits than the fixed point keeps.
    #[error("{value} is finer than 0.0001; round it to a multiple of 0.0001")]
    TooFine {
        /// What was given.
        value: f64,
    },
    /// Outside the range of the fixed point.
    #[error("{value} is too large; the most is about 9.2e14")]
    TooLarge {
        /// What was given.
        value: f64,
    },
}

impl Quantity {
    /// Units in one whole.
    pub const SCALE: i64 = 10_000;
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One whole.
    pub const ONE: Self = Self(Self::SCALE);

    /// From units of 1/10000, as they travel.
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// `whole` wholes; saturates at the ends of the range.
    pub const fn from_whole(whole: i64) -> Self {
        Self(whole.saturating_mul(Self::SCALE))
    }

    /// From a number that a user gave.
    ///
    /// # Errors
    /// When it is not finite, negative, finer than 0.0001 or too large.
    pub fn from_f64(value: f64) -> Result<Self, QuantityError> {
        if !value.is_finite() {
            return Err(QuantityError::NotFinite { value });
        }
        if value < 0.0 {
            return Err(QuantityError::Negative { value });
        }
        let units = value * Self::SCALE as f64;
        if units >= i64::MAX as f64 {
            return Err(QuantityError::TooLarge { value });
        }
        let rounded = units.round();
        // 0.1 + 0.2 is not 0.3: allow for what binary floats lose, relative to the size of the number.
        if (units - rounded).abs() > 1e-3_f64.max(units.abs() * 1e-12) {
            return Err(QuantityError::TooFine { value });
        }
        Ok(Self(rounded as i64))
    }

    /// Units of 1/10000, as they travel.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// As a floating-point number, for display and Python.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::SCALE as f64
    }

    /// Wholes, rounded down.
    pub const fn whole(self) -> i64 {
        self.0.div_euclid(Self::SCALE)
    }

    /// Whether there is no fraction.
    pub const fn is_whole(self) -> bool {
        self.0 % Self::SCALE == 0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether this is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        let (whole, rest) = (units / Self::SCALE as u64, units % Self::SCALE as u64);
        if rest == 0 {
            write!(f, "{sign}{whole}")
        } else {
            let digits = format!("{rest:04}");
            write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tenths_are_one() {
        let tenth = Quantity::from_f64(0.1).unwrap();
        assert_eq!((0..10).map(|_| tenth).sum::<Quantity>(), Quantity::ONE);
        assert_eq!(Quantity::from_f64(0.1 + 0.2), Quantity::from_f64(0.3));
    }

    #[test]
    fn bad_numbers_are_refused_with_cause_and_fix() {
        let text = |value: f64| Quantity::from_f64(value).unwrap_err().to_string();
        assert_eq!(text(-1.0), "-1 is negative; give 0 or more");
        assert_eq!(
            text(0.00005),
            "0.00005 is finer than 0.0001; round it to a multiple of 0.0001"
        );
        assert!(text(f64::NAN).contains("not a number"));
        assert!(text(1e300).contains("too large"));
    }

    #[test]
    fn display_has_no_needless_digits() {
        for (value, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (2.0625, "2.0625"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(Quantity::from_f64(value).unwrap().to_string(), text);
        }
        assert_eq!(Quantity::from_units(-5_000).to_string(), "-0.5");
    }

    #[test]
    fn terabytes_of_memory_are_exact() {
        let bytes = 6.0 * 1024f64.powi(4) + 1.0;
        assert_eq!(Quantity::from_f64(bytes).unwrap().as_f64(), bytes);
    }
}
