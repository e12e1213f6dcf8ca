//! The types a setting can have, and how they read and print.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::resources::format_bytes;

/// A type that a setting can have.
pub trait SettingValue: Sized {
    /// Reads it; the error says what would be right.
    ///
    /// # Errors
    /// A fragment such as "is not a whole number".
    fn parse(text: &str) -> Result<Self, String>;

    /// Prints it so that [`Self::parse`] reads it back; `None` when it is not set.
    fn render(&self) -> Option<String>;
}

/// What becomes of tasks and actors that no node of the cluster can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Infeasible {
    /// They fail, unless a node that was there lately could run them.
    #[default]
    Fail,
    /// They wait for a node that can, as in Ray.
    Wait,
}

impl SettingValue for Infeasible {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "fail" => Ok(Self::Fail),
            "wait" => Ok(Self::Wait),
            _ => Err("is neither \"fail\" nor \"wait\"".to_owned()),
        }
    }

    fn render(&self) -> Option<String> {
        let text = match self {
            Self::Fail => "fail",
            Self::Wait => "wait",
        };
        Some(text.to_owned())
    }
}

/// Text that must not appear in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl SettingValue for Secret {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("is empty".to_owned())
        } else {
            Ok(Self::new(text))
        }
    }

    fn render(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn render(&self) -> Option<String> {
        self.as_ref().and_then(T::render)
    }
}

impl SettingValue for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn render(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl SettingValue for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("is not a path".to_owned())
        } else {
            Ok(Self::from(text))
        }
    }

    fn render(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl SettingValue for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        }
    }

    fn render(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for u32 {
    fn parse(text: &str) -> Result<Self, String> {
        // Python hands whole numbers over as floats now and then.
        let digits = text.strip_suffix(".0").unwrap_or(text);
        digits
            .parse()
            .map_err(|_| "is not a whole number of 0 or more".to_owned())
    }

    fn render(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for f64 {
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<Self>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err("is not a number".to_owned()),
        }
    }

    fn render(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A number of bytes; reads `1073741824`, `512MiB`, `1.5 GiB`, `2GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl SettingValue for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed
            .trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .trim_end();
        let unit = trimmed[digits.len()..].trim().to_ascii_lowercase();
        let scale: u64 = match unit.as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            "kb" | "k" => 1_000,
            "mb" | "m" => 1_000_000,
            "gb" | "g" => 1_000_000_000,
            "tb" | "t" => 1_000_000_000_000,
            _ => return Err("is not a size; give bytes, or a size such as 512MiB".to_owned()),
        };
        if let Ok(count) = digits.parse::<u64>() {
            let bytes = count.checked_mul(scale);
            return bytes
                .map(Self)
                .ok_or_else(|| "is too large a size".to_owned());
        }
        match digits.parse::<f64>() {
            Ok(count) if count.is_finite() && count >= 0.0 => {
                Ok(Self((count * scale as f64) as u64))
            }
            _ => Err("is not a size; give bytes, or a size such as 512MiB".to_owned()),
        }
    }

    fn render(&self) -> Option<String> {
        // Only where reading it back gives the same number.
        let pretty = format_bytes(self.0);
        let is_exact = Self::parse(&pretty).is_ok_and(|read| read == *self);
        Some(if is_exact { pretty } else { self.0.to_string() })
    }
}

impl SettingValue for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed
            .trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .trim_end();
        let seconds = match trimmed[digits.len()..].trim() {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err("is not a time; give seconds, or a time such as 500ms".to_owned()),
        };
        match digits.parse::<f64>() {
            Ok(count) if (0.0..1e9).contains(&count) => Ok(Self::from_secs_f64(count * seconds)),
            _ => Err("is not a time; give seconds, or a time such as 500ms".to_owned()),
        }
    }

    fn render(&self) -> Option<String> {
        let millis = self.as_millis();
        Some(if millis.is_multiple_of(1000) {
            format!("{}s", millis / 1000)
        } else {
            format!("{millis}ms")
        })
    }
}

impl SettingValue for BTreeMap<String, f64> {
    fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text)
            .map_err(|_| r#"is not a JSON object of numbers, such as {"disk": 2}"#.to_owned())
    }

    fn render(&self) -> Option<String> {
        serde_json::to_string(self)
            .ok()
            .filter(|_| !self.is_empty())
    }
}

impl SettingValue for BTreeMap<String, String> {
    fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text)
            .map_err(|_| r#"is not a JSON object of texts, such as {"zone": "a"}"#.to_owned())
    }

    fn render(&self) -> Option<String> {
        serde_json::to_string(self)
            .ok()
            .filter(|_| !self.is_empty())
    }
}

impl SettingValue for Vec<String> {
    fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text)
            .map_err(|_| r#"is not a JSON list of texts, such as ["a", "b"]"#.to_owned())
    }

    fn render(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_with_and_without_units() {
        for (text, bytes) in [
            ("1024", 1024),
            ("512MiB", 512 << 20),
            ("1.5 GiB", 3 << 29),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
        assert!(Bytes::parse("-5").is_err() && Bytes::parse("5 parsecs").is_err());
        assert_eq!(Bytes(100 << 10).render().unwrap(), "100 KiB");
        assert_eq!(Bytes((1 << 30) + 1).render().unwrap(), "1073741825");
    }

    #[test]
    fn times_read_with_and_without_units() {
        assert_eq!(Duration::parse("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(Duration::parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(Duration::parse("2m"), Ok(Duration::from_secs(120)));
        assert!(Duration::parse("soon").is_err() && Duration::parse("-1s").is_err());
        assert_eq!(Duration::from_millis(1500).render().unwrap(), "1500ms");
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret::new("abc")), "Secret(..)");
    }
}
