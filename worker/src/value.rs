//! Serialised values: what tasks take and give, and what the object store holds.
//!
//! A value is an in-band part and any number of out-of-band buffers (pickle protocol 5, Arrow IPC). Laid out, every part
//! starts at a multiple of [`PART_ALIGNMENT`] bytes, so that numpy, Arrow and torch read the buffers in place:
//!
//! ```text
//! wire    layout (protobuf ValueLayout) ...... part 0 (in-band) | pad | part 1 | pad | part 2 ...
//! store   u32 magic | u32 format | u32 parts | u32 refs bytes | u64 length per part | contained refs | pad | parts as above
//! ```

use std::ops::Range;

use bytes::Bytes;

use aktis_proto::v1 as wire;
use thin_vec::{ThinVec, thin_vec};

use crate::buffer::aligned_copy;
use crate::inband::Inband;
use crate::reference::ObjectRef;

/// Alignment of every part of a laid-out value, in bytes.
pub const PART_ALIGNMENT: usize = 64;

/// How the bytes of a value are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Format {
    /// Pickle protocol 5; buffers are the out-of-band buffers in order.
    Pickle = 0,
    /// The in-band part is bytes as they are.
    Bytes = 1,
    /// The in-band part is the compact encoding of plain Python data (see the bindings' `codec`).
    Plain = 2,
    /// One buffer: an Arrow IPC stream.
    ArrowStream = 3,
    /// Opaque to Python: bytes between native functions.
    Native = 4,
    /// A large byte string in the one buffer (read in place), in-band part empty.
    BytesBuffer = 5,
}

impl Format {
    /// Reads the number that travels.
    pub fn from_u32(number: u32) -> Option<Self> {
        const ALL: [Format; 6] = [
            Format::Pickle,
            Format::Bytes,
            Format::Plain,
            Format::ArrowStream,
            Format::Native,
            Format::BytesBuffer,
        ];
        ALL.into_iter().find(|format| *format as u32 == number)
    }
}

/// A serialised value. Cheap to clone: the bytes are shared.
///
/// The buffers may lie in the object store; holding the value keeps them there.
#[derive(Debug, Clone)]
pub struct Value {
    /// How to read it.
    pub format: Format,
    /// The in-band part.
    pub inband: Inband,
    /// Out-of-band buffers, each aligned to [`PART_ALIGNMENT`] when read from a lane or a store.
    pub buffers: ThinVec<Bytes>,
    /// References held in the inside of the value.
    pub contained: ThinVec<ObjectRef>,
}

impl Default for Value {
    /// Nothing, opaque to Python.
    fn default() -> Self {
        Self::native(Inband::default())
    }
}

impl Value {
    /// A value without buffers and references.
    pub fn inband(format: Format, inband: impl Into<Inband>) -> Self {
        Self {
            format,
            inband: inband.into(),
            buffers: ThinVec::new(),
            contained: ThinVec::new(),
        }
    }

    /// Opaque bytes between native functions.
    pub fn native(bytes: impl Into<Inband>) -> Self {
        Self::inband(Format::Native, bytes)
    }

    /// An Arrow IPC stream, read in place by its consumers.
    pub fn arrow_stream(stream: impl Into<Bytes>) -> Self {
        Self {
            format: Format::ArrowStream,
            inband: Inband::default(),
            buffers: thin_vec![stream.into()],
            contained: ThinVec::new(),
        }
    }

    /// Copies the buffers, for a value whose memory may change or go after this.
    pub fn own_buffers(&mut self) {
        for buffer in &mut self.buffers {
            *buffer = aligned_copy(buffer);
        }
    }

    /// Bytes of all parts without padding.
    pub fn data_bytes(&self) -> usize {
        self.inband.len() + self.buffers.iter().map(Bytes::len).sum::<usize>()
    }

    /// Bytes of the parts in order, the in-band part first.
    pub fn part_lengths(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.inband.len()).chain(self.buffers.iter().map(Bytes::len))
    }

    /// Bytes of the payload this value makes on a lane, padding between parts included.
    pub fn payload_bytes(&self) -> usize {
        self.part_lengths()
            .fold(0, |end, length| align_up(end) + length)
    }

    /// Appends the parts to `payload`, which starts at an aligned position of the frame.
    pub(crate) fn append_to(&self, payload: &mut PayloadParts) {
        payload.align();
        match self.inband.as_shared() {
            Some(shared) => payload.push_shared(shared),
            None => payload.push(&self.inband),
        }
        for buffer in &self.buffers {
            payload.align();
            payload.push_shared(buffer);
        }
    }
}

/// Rounds up to the next multiple of [`PART_ALIGNMENT`].
pub const fn align_up(position: usize) -> usize {
    (position + PART_ALIGNMENT - 1) & !(PART_ALIGNMENT - 1)
}

/// Bytes up to this many are copied together instead of being written from where they lie.
const COPY_BELOW_BYTES: usize = 16 << 10;

/// The payload of a frame: short ranges copied together, long ones shared.
#[derive(Debug, Default)]
pub struct PayloadParts {
    copied: Vec<u8>,
    /// Long ranges, each with the number of copied bytes that go before it.
    shared: Vec<(usize, Bytes)>,
    len_bytes: usize,
}

/// A range of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PayloadPart<'a> {
    Copied(&'a [u8]),
    Shared(&'a Bytes),
}

impl<'a> PayloadPart<'a> {
    pub(crate) fn as_slice(self) -> &'a [u8] {
        match self {
            Self::Copied(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl PayloadParts {
    /// Bytes so far.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The ranges in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = PayloadPart<'_>> {
        let mut begin = 0;
        let pairs = self.shared.iter().flat_map(move |(end, bytes)| {
            let copied = &self.copied[std::mem::replace(&mut begin, *end)..*end];
            [PayloadPart::Copied(copied), PayloadPart::Shared(bytes)]
        });
        let last = self.shared.last().map_or(0, |(end, _)| *end);
        pairs.chain(std::iter::once(PayloadPart::Copied(&self.copied[last..])))
    }

    /// All bytes in one piece.
    pub(crate) fn concat(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len_bytes);
        for part in self.parts() {
            whole.extend_from_slice(part.as_slice());
        }
        whole
    }

    fn push(&mut self, slice: &[u8]) {
        self.len_bytes += slice.len();
        self.copied.extend_from_slice(slice);
    }

    fn push_shared(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_BELOW_BYTES {
            return self.push(bytes);
        }
        self.len_bytes += bytes.len();
        self.shared.push((self.copied.len(), bytes.clone()));
    }

    fn align(&mut self) {
        const ZEROS: [u8; PART_ALIGNMENT] = [0; PART_ALIGNMENT];
        let padding = align_up(self.len_bytes) - self.len_bytes;
        self.push(&ZEROS[..padding]);
    }
}

/// A payload as it was received: short ones still lie in the memory that the socket was read into.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Borrowed(slice) => slice.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// The bytes, to be kept. Aligned for numpy and Arrow.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed([]) => Bytes::new(),
            Self::Borrowed(slice) => aligned_copy(slice),
            Self::Owned(bytes) => bytes,
        }
    }

    fn inband(&self, range: Range<usize>) -> Inband {
        match self {
            Self::Borrowed(slice) => Inband::from(&slice[range]),
            Self::Owned(bytes) => Inband::cut(bytes, range),
        }
    }

    fn buffer(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Borrowed(slice) => aligned_copy(&slice[range]),
            Self::Owned(bytes) => bytes.slice(range),
        }
    }
}

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
        let mut head =
            Vec::with_capacity(STORED_HEAD_BYTES + 8 * (1 + value.buffers.len()) + refs.len());
        let count = u32::try_from(1 + value.buffers.len()).expect("a value has few buffers");
        let refs_bytes = u32::try_from(refs.len()).expect("references of a value fit 4 GiB");
        for word in [STORED_MAGIC, value.format as u32, count, refs_bytes] {
            head.extend_from_slice(&word.to_le_bytes());
        }
        for length in value.part_lengths() {
            head.extend_from_slice(&(length as u64).to_le_bytes());
        }
        head.extend_from_slice(&refs);
        head.resize(align_up(head.len()), 0);
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

/// Cuts a value out of `payload` from the aligned `position` on; also says where it ends.
pub(crate) fn cut_value(
    format: Format,
    lengths: &[u64],
    payload: &Payload<'_>,
    position: usize,
) -> Option<(Value, usize)> {
    let mut end = position;
    let mut next = |length: u64| {
        let length = usize::try_from(length).ok()?;
        // Padding is only written before a part that has bytes after it; a trailing empty part may begin past the end.
        let start = align_up(end);
        end = start.checked_add(length)?;
        match length {
            0 => Some(0..0),
            _ if end <= payload.len() => Some(start..end),
            _ => None,
        }
    };
    let (first, rest) = lengths.split_first().unwrap_or((&0, &[]));
    let inband = payload.inband(next(*first)?);
    let mut buffers = ThinVec::with_capacity(rest.len());
    for length in rest {
        let range = next(*length)?;
        buffers.push(if range.is_empty() {
            Bytes::new()
        } else {
            payload.buffer(range)
        });
    }
    let value = Value {
        format,
        inband,
        buffers,
        contained: ThinVec::new(),
    };
    Some((value, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value_of(inband: usize, buffers: &[usize]) -> Value {
        Value {
            format: Format::Pickle,
            inband: vec![1; inband].into(),
            buffers: buffers.iter().map(|len| vec![2; *len].into()).collect(),
            contained: ThinVec::new(),
        }
    }

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
        fn several_values_are_cut_from_one_payload(sizes in proptest::collection::vec((0usize..200, 0usize..200), 1..6)) {
            let values: Vec<Value> = sizes.iter().map(|(inband, buffer)| value_of(*inband, &[*buffer])).collect();
            let mut payload = PayloadParts::default();
            values.iter().for_each(|value| value.append_to(&mut payload));
            let bytes: Bytes = payload.concat().into();
            let mut position = 0;
            for value in &values {
                let lengths: Vec<u64> = value.part_lengths().map(|length| length as u64).collect();
                let (read, end) = cut_value(value.format, &lengths, &Payload::Owned(bytes.clone()), position).expect("own payload");
                let (copied, copied_end) = cut_value(value.format, &lengths, &Payload::Borrowed(&bytes), position).expect("own payload");
                prop_assert_eq!(&read.inband, &value.inband);
                prop_assert_eq!(&read.buffers, &value.buffers);
                prop_assert_eq!((&copied.inband, &copied.buffers, copied_end), (&read.inband, &read.buffers, end));
                position = end;
            }
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
