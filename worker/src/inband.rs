//! The in-band part of a value.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::Bytes;

/// Longest part that lies in the value itself.
const SHORT_BYTES: usize = 38;

/// Bytes that are cheap to clone. Short ones, those of most calls, lie in place and are never allocated.
#[derive(Clone)]
pub struct Inband(InbandBytes);

#[derive(Clone)]
enum InbandBytes {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Shared(Bytes),
}

impl Inband {
    /// A part of shared bytes.
    pub(crate) fn cut(bytes: &Bytes, range: Range<usize>) -> Self {
        Self::short(&bytes[range.clone()])
            .unwrap_or_else(|| Self(InbandBytes::Shared(bytes.slice(range))))
    }

    fn short(slice: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT_BYTES];
        bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        let len = u8::try_from(slice.len()).expect("at most SHORT_BYTES");
        Some(Self(InbandBytes::Short { len, bytes }))
    }

    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            InbandBytes::Short { len, bytes } => Bytes::copy_from_slice(&bytes[..usize::from(len)]),
            InbandBytes::Shared(bytes) => bytes,
        }
    }

    /// The bytes if they are shared, that is to say long.
    pub(crate) fn as_shared(&self) -> Option<&Bytes> {
        match &self.0 {
            InbandBytes::Short { .. } => None,
            InbandBytes::Shared(bytes) => Some(bytes),
        }
    }
}

impl Default for Inband {
    fn default() -> Self {
        Self(InbandBytes::Short {
            len: 0,
            bytes: [0; SHORT_BYTES],
        })
    }
}

impl Deref for Inband {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            InbandBytes::Short { len, bytes } => &bytes[..usize::from(*len)],
            InbandBytes::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Inband {
    fn from(slice: &[u8]) -> Self {
        Self::short(slice)
            .unwrap_or_else(|| Self(InbandBytes::Shared(Bytes::copy_from_slice(slice))))
    }
}

impl From<Bytes> for Inband {
    fn from(bytes: Bytes) -> Self {
        Self::short(&bytes).unwrap_or(Self(InbandBytes::Shared(bytes)))
    }
}

impl From<Vec<u8>> for Inband {
    fn from(bytes: Vec<u8>) -> Self {
        Self::short(&bytes).unwrap_or_else(|| Self(InbandBytes::Shared(bytes.into())))
    }
}

impl fmt::Debug for Inband {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inband({} bytes)", self.len())
    }
}

impl PartialEq for Inband {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_whatever_their_length() {
        for len in [0, 1, SHORT_BYTES, SHORT_BYTES + 1, 1000] {
            let bytes: Vec<u8> = (0..=255).cycle().take(len).collect();
            for kept in [
                Inband::from(&bytes[..]),
                Inband::from(bytes.clone()),
                Inband::from(Bytes::from(bytes.clone())),
            ] {
                assert_eq!(*kept, bytes[..]);
                assert_eq!(kept.clone().into_bytes(), bytes);
                assert_eq!(kept.as_shared().is_some(), len > SHORT_BYTES);
            }
            let whole = Bytes::from(bytes.clone());
            assert_eq!(*Inband::cut(&whole, len / 2..len), bytes[len / 2..]);
        }
    }
}
