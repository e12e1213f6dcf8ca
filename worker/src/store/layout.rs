//! How a value lies in the object store.
//!
//! ```text
//! u32 magic | u32 format | u32 parts | u32 refs bytes | u64 length per part | contained refs | pad | parts as on a lane
//! ```

use aktis_lane::{Payload, PayloadPart, PayloadParts, align_up};
use aktis_proto::v1 as wire;
use bytes::Bytes;

use crate::reference::ObjectRef;
use crate::value::{Format, Value, cut_value};

const STORED_MAGIC: u32 = 0x3156_4b41;
const STORED_HEAD_BYTES: usize = 16;

/// Bytes that are not a stored value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a stored value: {0}")]
pub(crate) struct InvalidStored(&'static str);

/// A value laid out for the object store.
pub(crate) struct StoredLayout {
    head: Vec<u8>,
    payload: PayloadParts,
}

impl StoredLayout {
    pub(crate) fn of(value: &Value) -> Self {
        let refs = wire::ValueLayout {
            contained_refs: value.contained.iter().map(ObjectRef::to_wire).collect(),
            ..Default::default()
        };
        let refs = prost::Message::encode_to_vec(&refs);
        let lengths: Vec<usize> = value.part_lengths().collect();
        let head = head_of(value.format, &lengths, &refs);
        let mut payload = PayloadParts::default();
        value.append_to(&mut payload);
        Self { head, payload }
    }

    /// Bytes of the whole object.
    pub(crate) fn len_bytes(&self) -> usize {
        self.head.len() + self.payload.len_bytes()
    }

    /// The ranges to write, in order.
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        std::iter::once(&self.head[..])
            .chain(self.payload.parts().map(PayloadPart::as_slice))
            .collect()
    }
}

/// What lies before the bytes of an Arrow stream of so many.
pub(crate) fn stream_head(len_bytes: usize) -> Vec<u8> {
    head_of(Format::ArrowStream, &[0, len_bytes], &[])
}

fn head_of(format: Format, lengths: &[usize], refs: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(STORED_HEAD_BYTES + 8 * lengths.len() + refs.len());
    let count = u32::try_from(lengths.len()).expect("a value has few buffers");
    let refs_bytes = u32::try_from(refs.len()).expect("references of a value fit 4 GiB");
    for word in [STORED_MAGIC, format as u32, count, refs_bytes] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    for length in lengths {
        head.extend_from_slice(&(*length as u64).to_le_bytes());
    }
    head.extend_from_slice(refs);
    head.resize(align_up(head.len()), 0);
    head
}

/// Reads a stored value in place. The references it contains are returned in wire form.
pub(crate) fn read_stored(object: &Bytes) -> Result<(Value, Vec<wire::ObjectRef>), InvalidStored> {
    let word = |index: usize| -> Option<u32> {
        let bytes = object.get(4 * index..4 * index + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(magic), Some(format), Some(count), Some(refs_bytes)) =
        (word(0), word(1), word(2), word(3))
    else {
        return Err(InvalidStored("shorter than its head"));
    };
    if magic != STORED_MAGIC {
        return Err(InvalidStored("wrong magic number"));
    }
    let format = Format::from_u32(format).ok_or(InvalidStored("unknown format"))?;
    let lengths_end = STORED_HEAD_BYTES + 8 * count as usize;
    let refs_end = lengths_end + refs_bytes as usize;
    let lengths = object
        .get(STORED_HEAD_BYTES..lengths_end)
        .ok_or(InvalidStored("lengths are cut off"))?;
    let lengths: Vec<u64> = lengths
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("chunks of eight")))
        .collect();
    let refs = object
        .get(lengths_end..refs_end)
        .ok_or(InvalidStored("references are cut off"))?;
    let refs: wire::ValueLayout =
        prost::Message::decode(refs).map_err(|_| InvalidStored("references are not readable"))?;
    let payload_start = align_up(refs_end);
    if payload_start > object.len() {
        return Err(InvalidStored("payload is cut off"));
    }
    let payload = Payload::Owned(object.slice(payload_start..));
    let (value, _) = cut_value(format, &lengths, &payload, 0)
        .ok_or(InvalidStored("parts reach beyond the object"))?;
    Ok((value, refs.contained_refs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::tests::value_of;

    proptest! {
        #[test]
        fn values_survive_the_store(inband in 0usize..300, buffers in proptest::collection::vec(0usize..300, 0..5)) {
            let value = value_of(inband, &buffers);
            let stored: Bytes = StoredLayout::of(&value).slices().concat().into();
            prop_assert_eq!(stored.len(), StoredLayout::of(&value).len_bytes());
            let (read, refs) = read_stored(&stored).expect("own layout");
            prop_assert!(refs.is_empty());
            prop_assert_eq!(read.inband, value.inband);
            prop_assert_eq!(read.buffers, value.buffers);
        }

        #[test]
        fn a_stream_that_is_made_in_its_place_lies_there_like_any(len in 1usize..300) {
            let stream = Bytes::from(vec![7; len]);
            let written = StoredLayout::of(&Value::arrow_stream(stream.clone())).slices().concat();
            let made = [stream_head(len).as_slice(), stream.as_ref()].concat();
            prop_assert_eq!(made, written);
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&STORED_MAGIC.to_le_bytes());
            }
            let _ = read_stored(&bytes.into());
        }
    }
}
