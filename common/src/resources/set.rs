//! Named quantities.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CPU, MEMORY, OBJECT_STORE_MEMORY, Quantity, QuantityError};

/// Quantities by resource name. A name with nothing is not kept, so equal sets compare equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceSet(BTreeMap<String, Quantity>);

impl ResourceSet {
    /// A set with nothing in it.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// A set of `cpus` whole CPUs.
    pub fn of_cpus(cpus: i64) -> Self {
        let mut set = Self::new();
        set.set(CPU, Quantity::from_whole(cpus));
        set
    }

    /// From names and units of 1/10000, as they travel.
    pub fn from_units<N: Into<String>>(units: impl IntoIterator<Item = (N, i64)>) -> Self {
        let mut set = Self::new();
        for (name, units) in units {
            set.set(name, Quantity::from_units(units));
        }
        set
    }

    /// From numbers that a user gave.
    ///
    /// # Errors
    /// The name and the reason of the first quantity that makes no sense.
    pub fn from_numbers<N: Into<String>>(
        numbers: impl IntoIterator<Item = (N, f64)>,
    ) -> Result<Self, (String, QuantityError)> {
        let mut set = Self::new();
        for (name, number) in numbers {
            let name = name.into();
            match Quantity::from_f64(number) {
                Ok(quantity) => set.set(name, quantity),
                Err(error) => return Err((name, error)),
            }
        }
        Ok(set)
    }

    /// How much of `name`; zero when it is not in the set.
    pub fn get(&self, name: &str) -> Quantity {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Sets the quantity of `name`.
    pub fn set(&mut self, name: impl Into<String>, quantity: Quantity) {
        let name = name.into();
        if quantity.is_zero() {
            self.0.remove(&name);
        } else {
            self.0.insert(name, quantity);
        }
    }

    /// The same set with `quantity` of `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, quantity: Quantity) -> Self {
        self.set(name, quantity);
        self
    }

    /// The same set without `name`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Names and quantities in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0
            .iter()
            .map(|(name, quantity)| (name.as_str(), *quantity))
    }

    /// Names and units of 1/10000, as they travel.
    pub fn units(&self) -> impl Iterator<Item = (String, i64)> + '_ {
        self.iter()
            .map(|(name, quantity)| (name.to_owned(), quantity.units()))
    }

    /// Whether there is nothing in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this holds at least `wanted` of everything.
    pub fn covers(&self, wanted: &Self) -> bool {
        wanted
            .iter()
            .all(|(name, quantity)| quantity <= self.get(name))
    }

    /// Names of which this holds less than `wanted`.
    pub fn short_of<'a>(&self, wanted: &'a Self) -> Vec<&'a str> {
        wanted
            .iter()
            .filter(|(name, q)| *q > self.get(name))
            .map(|(name, _)| name)
            .collect()
    }

    /// The part of this set whose names are in `names`.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        let kept = self
            .0
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()));
        Self(
            kept.map(|(name, quantity)| (name.clone(), *quantity))
                .collect(),
        )
    }

    /// Adds everything of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, quantity) in other.iter() {
            self.set(name, self.get(name) + quantity);
        }
    }

    /// Takes everything of `other` away; may go below zero.
    pub fn subtract(&mut self, other: &Self) {
        for (name, quantity) in other.iter() {
            self.set(name, self.get(name) - quantity);
        }
    }
}

impl<N: Into<String>> FromIterator<(N, Quantity)> for ResourceSet {
    fn from_iter<I: IntoIterator<Item = (N, Quantity)>>(iter: I) -> Self {
        let mut set = Self::new();
        iter.into_iter()
            .for_each(|(name, quantity)| set.set(name, quantity));
        set
    }
}

impl fmt::Display for ResourceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, quantity)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match name {
                MEMORY | OBJECT_STORE_MEMORY => {
                    let bytes = u64::try_from(quantity.whole()).unwrap_or(0);
                    write!(f, "{comma}\"{name}\": {}", format_bytes(bytes))?;
                }
                _ => write!(f, "{comma}\"{name}\": {quantity}")?,
            }
        }
        f.write_str("}")
    }
}

/// Bytes as people read them: `1.5 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if bytes >= 1 << shift {
            let value = bytes as f64 / (1u64 << shift) as f64;
            let text = format!("{value:.1}");
            return format!("{} {unit}", text.trim_end_matches(".0"));
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[(&str, f64)]) -> ResourceSet {
        ResourceSet::from_numbers(numbers.iter().copied()).unwrap()
    }

    #[test]
    fn subtracting_what_was_added_leaves_nothing_behind() {
        let mut total = set(&[("CPU", 2.0)]);
        let extra = set(&[("CPU", 0.5), ("disk", 1.0)]);
        total.add(&extra);
        total.subtract(&extra);
        assert_eq!(total, set(&[("CPU", 2.0)]));
    }

    #[test]
    fn display_reads_like_the_python_call() {
        let text = set(&[
            ("CPU", 2.0),
            ("GPU", 0.5),
            ("memory", 1.5 * 1024f64.powi(3)),
        ])
        .to_string();
        assert_eq!(text, r#"{"CPU": 2, "GPU": 0.5, "memory": 1.5 GiB}"#);
    }

    #[test]
    fn shortage_names_what_is_missing() {
        let wanted = set(&[("CPU", 4.0), ("disk", 1.0)]);
        assert_eq!(set(&[("CPU", 4.0)]).short_of(&wanted), ["disk"]);
    }
}
