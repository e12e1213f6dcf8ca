//! Messages one after another in a file that may end anywhere.
//!
//! ```text
//!  length     checksum    message
//!  u32, LE    CRC-32      protobuf, `length` bytes
//! ```
//! Whoever is killed while it writes, or loses what the disk had not taken yet, leaves a last frame that is cut off, or is not what
//! was written. Such a frame, and whatever comes behind it, was never written.

use prost::Message;

const HEAD_BYTES: usize = 8;

/// Adds a message.
pub(super) fn push(bytes: &mut Vec<u8>, message: &impl Message) {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).expect("a message is far smaller than 4 GiB");
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc32fast::hash(&encoded).to_le_bytes());
    bytes.extend(encoded);
}

/// The messages that are whole, and how many bytes they take.
pub(super) fn read<M: Message + Default>(bytes: &[u8]) -> (Vec<M>, usize) {
    let (mut messages, mut end) = (Vec::new(), 0);
    while let Some((message, taken)) = first(&bytes[end..]) {
        messages.push(message);
        end += taken;
    }
    (messages, end)
}

fn first<M: Message + Default>(bytes: &[u8]) -> Option<(M, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (length, checksum) = head.split_at(4);
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let encoded = rest.get(..length)?;
    if crc32fast::hash(encoded).to_le_bytes() != checksum {
        return None;
    }
    Some((M::decode(encoded).ok()?, HEAD_BYTES + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::spec::NamesStep;

    fn message(name: &str) -> NamesStep {
        NamesStep {
            names: vec![name.to_owned()],
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_was_never_written() {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for name in ["one", "two", ""] {
            push(&mut bytes, &message(name));
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let (messages, end) = read::<NamesStep>(&bytes[..cut]);
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            assert_eq!((messages.len(), end), (whole, ends[whole]));
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let (messages, _) = read::<NamesStep>(&changed);
            assert!(messages.len() < 3, "byte {place} was changed");
        }
    }
}
