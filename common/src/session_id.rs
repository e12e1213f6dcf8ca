//! The name of a session.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest one; paths of unix sockets are short.
const MAX_BYTES: usize = 40;

/// The name of a session, which also names folders: letters, digits and dashes, so that one that came over the network leads
/// nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// Text that is no session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no session id: it has letters, digits and dashes only, at most {MAX_BYTES}")]
pub struct InvalidSessionId {
    text: String,
}

impl SessionId {
    /// Reads a session id from a message or a file.
    ///
    /// # Errors
    /// When it could mean more than a name in a path.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionId> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_valid = (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(is_plain)
            && !text.starts_with('-');
        if is_valid {
            return Ok(Self(text.to_owned()));
        }
        // Somebody else's text: no more of it than one wants to read.
        let text = text.chars().take(2 * MAX_BYTES).collect();
        Err(InvalidSessionId { text })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, InvalidSessionId> {
        Self::parse(&text)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_session_ids() {
        for text in ["1764350000-a1b2c3", "s"] {
            assert_eq!(SessionId::parse(text).unwrap().as_str(), text);
        }
        let long = "a".repeat(1000);
        for text in [
            "", "..", "../x", "/tmp/x", "a/b", "-a", "a\0b", "a b", "ä", &long,
        ] {
            let error = SessionId::parse(text).unwrap_err().to_string();
            assert!(error.len() < 200, "{error}");
        }
        assert!(serde_json::from_str::<SessionId>(r#""../../etc""#).is_err());
    }
}
