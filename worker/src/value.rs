//! Serialised values: what tasks take and give.
//!
//! A value is an in-band part and any number of out-of-band buffers (pickle protocol 5, Arrow IPC). Laid out, every part
//! starts at a multiple of [`PART_ALIGNMENT`](aktis_lane::PART_ALIGNMENT) bytes, so that numpy, Arrow and torch read the buffers in place. A frame says
//! how long they are (protobuf `ValueLayout`), and they are its payload; an object of the store begins with that
//! (`store::layout`):
//!
//! ```text
//! part 0 (in-band) | pad | part 1 | pad | part 2 ...
//! ```

use std::ops::Range;

use aktis_lane::{Payload, PayloadParts, align_up, aligned_copy};
use bytes::Bytes;
use thin_vec::{ThinVec, thin_vec};

use crate::inband::Inband;
use crate::reference::ObjectRef;

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
    /// A result that lies in the store already: the in-band part is its size there. Does not travel.
    Placed = 6,
}

/// A buffer whose bytes are made where they come to lie.
pub trait MadeBytes: Sync {
    /// How many there are.
    fn len_bytes(&self) -> usize;

    /// Makes those from `at` on, as many as `into` has room for. What is there now means nothing.
    fn make(&self, at: usize, into: &mut [u8]);
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
    /// Out-of-band buffers, each aligned to [`PART_ALIGNMENT`](aktis_lane::PART_ALIGNMENT) when read from a lane or a store.
    /// Those of an Arrow stream are pieces of the one buffer that it has where it is read.
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

    /// The same, of pieces that are put together where the stream is written to: nothing is copied before.
    pub fn arrow_stream_of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            buffers: pieces.into_iter().collect(),
            ..Self::arrow_stream(Bytes::new())
        }
    }

    /// A result that lies in the store already.
    pub(crate) fn placed(size_bytes: u64) -> Self {
        Self::inband(Format::Placed, &size_bytes.to_le_bytes()[..])
    }

    /// The size in the store of a result that lies there already.
    pub(crate) fn placed_bytes(&self) -> Option<u64> {
        let size = || self.inband[..].try_into().ok().map(u64::from_le_bytes);
        (self.format == Format::Placed).then(size).flatten()
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
        let buffers = self
            .parts()
            .map(|pieces| pieces.iter().map(Bytes::len).sum());
        std::iter::once(self.inband.len()).chain(buffers)
    }

    /// The buffers, each with the pieces that it has here.
    fn parts(&self) -> impl Iterator<Item = &[Bytes]> {
        let pieces = match self.format {
            Format::ArrowStream => self.buffers.len(),
            _ => 1,
        };
        self.buffers.chunks(pieces.max(1))
    }

    /// Appends the parts to `payload`, which starts at an aligned position of the frame.
    pub(crate) fn append_to(&self, payload: &mut PayloadParts) {
        payload.align();
        match self.inband.as_shared() {
            Some(shared) => payload.push_shared(shared),
            None => payload.push(&self.inband),
        }
        for pieces in self.parts() {
            payload.align();
            pieces.iter().for_each(|piece| payload.push_shared(piece));
        }
    }
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
            _ if end <= payload.len_bytes() => Some(start..end),
            _ => None,
        }
    };
    let (first, rest) = lengths.split_first().unwrap_or((&0, &[]));
    let inband = inband_of(payload, next(*first)?);
    let mut buffers = ThinVec::with_capacity(rest.len());
    for length in rest {
        let range = next(*length)?;
        buffers.push(if range.is_empty() {
            Bytes::new()
        } else {
            payload.bytes(range)
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

fn inband_of(payload: &Payload<'_>, range: Range<usize>) -> Inband {
    match payload {
        Payload::Borrowed(slice) => Inband::from(&slice[range]),
        Payload::Owned(bytes) => Inband::cut(bytes, range),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A value with parts of these lengths.
    pub(crate) fn value_of(inband: usize, buffers: &[usize]) -> Value {
        Value {
            format: Format::Pickle,
            inband: vec![1; inband].into(),
            buffers: buffers.iter().map(|len| vec![2; *len].into()).collect(),
            contained: ThinVec::new(),
        }
    }

    #[test]
    fn pieces_of_an_arrow_stream_are_one_buffer_where_it_is_read() {
        let pieces = [vec![1; 3], Vec::new(), vec![2; 70], vec![3; 20 << 10]];
        let whole: Vec<u8> = pieces.concat();
        let value = Value::arrow_stream_of(pieces.map(Bytes::from));
        let mut payload = PayloadParts::default();
        value.append_to(&mut payload);
        let lengths: Vec<u64> = value.part_lengths().map(|length| length as u64).collect();
        assert_eq!(lengths, [0, whole.len() as u64]);
        let payload = Payload::Owned(payload.concat().into());
        let (read, _) = cut_value(value.format, &lengths, &payload, 0).expect("own payload");
        assert_eq!(read.buffers.as_slice(), [whole]);
    }

    proptest! {
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
    }
}
