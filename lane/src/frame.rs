//! Frames: a protobuf header and a payload that never enters the protobuf.
//!
//! ```text
//! | u32 LE: bytes after this word | u32 LE: header bytes | header | payload ... |
//! ```
//! If the upper bit of the second word is set, the payload lies in shared memory ([`crate::slots`]), and what follows the
//! header says where:
//! ```text
//! | u32 LE: bytes after this word | u32 LE: header bytes + 2^31 | header | u32 LE: slot | u32 LE: payload bytes |
//! ```
//! A received payload that is long lies in memory of its own, aligned for numpy and Arrow, so that values read from it stay
//! valid as long as somebody holds them. A short one is handed out where it was read, and what is kept of it is copied.

use bytes::{BufMut, Bytes};
use prost::Message;

use super::slots::{ReceivedSlots, SlotRange};
use crate::buffer::AlignedBuffer;
use crate::payload::{Payload, PayloadParts};

/// Largest frame a peer may announce, in bytes: larger values go through the object store.
pub(crate) const MAX_FRAME_BYTES: usize = 1 << 30;
/// Largest first frame of a peer that has not said who it is.
const MAX_HELLO_BYTES: usize = 64 << 10;
/// A payload gets this much memory when it is announced, and more as it arrives: announcing costs nothing, so that it may not
/// cost the receiver anything either.
const FIRST_PAYLOAD_BYTES: usize = 1 << 20;
const PREFIX_BYTES: usize = 8;
const IS_SHARED: u32 = 1 << 31;
const RANGE_BYTES: usize = 8;
const READ_CHUNK_BYTES: usize = 64 << 10;
/// What a decoder keeps of the memory that a long header needed.
const KEPT_BYTES: usize = 1 << 20;

/// Bytes that are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {announced} bytes announced, the limit is {limit}")]
    /// It says that it is longer than any frame may be.
    TooLarge {
        /// What it says, in bytes.
        announced: usize,
        /// What it may be.
        limit: usize,
    },
    #[error("frame of {frame} bytes cannot hold a header of {header} bytes")]
    /// Its two lengths contradict each other.
    HeaderOverrun {
        /// All of it, in bytes.
        frame: usize,
        /// Its header.
        header: usize,
    },
    #[error("a payload is said to lie in shared memory, at {0:?}, where there is none")]
    /// It names memory that this end has not mapped.
    NoSuchSlot(SlotRange),
}

/// A received frame: the header still in protobuf form, in the memory that the socket was read into.
#[derive(Debug)]
pub struct Frame<'a> {
    /// As the sender encoded it.
    pub header: &'a [u8],
    /// What came with it.
    pub payload: Payload<'a>,
}

/// Appends the prefix and header of a frame whose payload has `payload_bytes` bytes.
pub fn encode_head<M: Message>(header: &M, payload_bytes: usize, out: &mut impl BufMut) {
    encode_prefix(header, payload_bytes, 0, out);
}

/// Appends a frame whose payload lies in shared memory.
pub(super) fn encode_shared<M: Message>(header: &M, range: SlotRange, out: &mut impl BufMut) {
    encode_prefix(header, RANGE_BYTES, IS_SHARED, out);
    out.put_u32_le(range.slot);
    out.put_u32_le(range.len_bytes);
}

fn encode_prefix<M: Message>(header: &M, payload_bytes: usize, flag: u32, out: &mut impl BufMut) {
    let header_bytes = header.encoded_len();
    let rest = 4 + header_bytes + payload_bytes;
    out.put_u32_le(u32_prefix(rest));
    out.put_u32_le(u32_prefix(header_bytes) | flag);
    header.encode_raw(out);
}

/// A whole frame as one buffer, for connections that are not driven by the reactor.
pub fn encode_whole<M: Message>(header: &M, payload: &PayloadParts) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + header.encoded_len() + payload.len_bytes());
    encode_head(header, payload.len_bytes(), &mut out);
    for part in payload.parts() {
        out.extend_from_slice(part.as_slice());
    }
    out
}

/// A frame that is longer than the prefix can say is refused by its receiver as too large; the sender may hold locks here.
#[inline]
fn u32_prefix(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(!IS_SHARED)
}

/// A payload larger than what is buffered: read straight into its own memory.
struct PartialPayload {
    buffer: AlignedBuffer,
    filled: usize,
    len: usize,
}

impl PartialPayload {
    fn new(begun: &[u8], len: usize) -> Self {
        let mut buffer = AlignedBuffer::new(len.min(FIRST_PAYLOAD_BYTES.max(begun.len())));
        buffer.as_mut_slice()[..begun.len()].copy_from_slice(begun);
        Self {
            buffer,
            filled: begun.len(),
            len,
        }
    }

    /// Where the next bytes are to be put.
    fn space(&mut self) -> &mut [u8] {
        if self.filled == self.buffer.len() && self.filled < self.len {
            let mut larger = AlignedBuffer::new(self.len.min(self.filled * 2));
            larger.as_mut_slice()[..self.filled].copy_from_slice(self.buffer.as_mut_slice());
            self.buffer = larger;
        }
        &mut self.buffer.as_mut_slice()[self.filled..]
    }
}

/// Cuts a byte stream into frames.
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    partial: Option<PartialPayload>,
    /// Header of the frame with the partial payload.
    partial_header: Vec<u8>,
    slots: Option<ReceivedSlots>,
    /// Largest frame that may come next.
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Of a connection whose other end is known.
    pub fn new() -> Self {
        Self {
            limit: MAX_FRAME_BYTES,
            ..Self::of_stranger()
        }
    }

    /// Of a connection whose first frame is to say who is there: that one is short, or refused.
    pub fn of_stranger() -> Self {
        Self {
            limit: MAX_HELLO_BYTES,
            buffer: vec![0; READ_CHUNK_BYTES],
            start: 0,
            end: 0,
            partial: None,
            partial_header: Vec::new(),
            slots: None,
        }
    }

    /// The sender's payloads may lie there from now on.
    pub(super) fn set_slots(&mut self, slots: ReceivedSlots) {
        self.slots = Some(slots);
    }

    /// Whether the sender has sent its memory.
    pub(super) fn has_slots(&self) -> bool {
        self.slots.is_some()
    }

    /// Where the next bytes from the socket are to be put.
    pub fn space(&mut self) -> &mut [u8] {
        if let Some(partial) = &mut self.partial {
            return partial.space();
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT_BYTES {
                self.buffer = vec![0; READ_CHUNK_BYTES];
            }
        } else if self.buffer.len() - self.end < READ_CHUNK_BYTES / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buffer.len() - self.end < READ_CHUNK_BYTES / 4 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Says that `count` bytes were put into [`Self::space`].
    pub fn advance(&mut self, count: usize) {
        match &mut self.partial {
            Some(partial) => partial.filled += count,
            None => self.end += count,
        }
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// When the bytes are no frame; nothing after them can be understood.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if let Some(partial) = self
            .partial
            .take_if(|partial| partial.filled == partial.len)
        {
            return Ok(Some(Frame {
                header: &self.partial_header,
                payload: Payload::Owned(Bytes::from_owner(partial.buffer)),
            }));
        }
        if self.partial.is_some() {
            return Ok(None);
        }
        let available = &self.buffer[self.start..self.end];
        let Some(prefix) = Prefix::read(available, self.limit)? else {
            return Ok(None);
        };
        let (head_end, frame_end) = (PREFIX_BYTES + prefix.header, 4 + prefix.rest);
        if available.len() >= frame_end {
            self.start += frame_end;
            self.limit = MAX_FRAME_BYTES;
            let payload = &available[head_end..frame_end];
            let payload = if prefix.is_shared {
                Payload::Owned(shared_payload(self.slots.as_ref(), payload)?)
            } else {
                Payload::Borrowed(payload)
            };
            let header = &available[PREFIX_BYTES..head_end];
            return Ok(Some(Frame { header, payload }));
        }
        if available.len() >= head_end && frame_end - head_end > READ_CHUNK_BYTES / 2 {
            let begun = &available[head_end..];
            self.partial_header.clear();
            self.partial_header
                .extend_from_slice(&available[PREFIX_BYTES..head_end]);
            self.partial = Some(PartialPayload::new(begun, frame_end - head_end));
            (self.start, self.end) = (0, 0);
        }
        Ok(None)
    }
}

fn shared_payload(slots: Option<&ReceivedSlots>, range: &[u8]) -> Result<Bytes, FrameError> {
    let range = SlotRange {
        slot: word(range, 0),
        len_bytes: word(range, 4),
    };
    slots
        .and_then(|slots| slots.payload(range))
        .ok_or(FrameError::NoSuchSlot(range))
}

/// What a frame begins with.
struct Prefix {
    /// Bytes after the first word.
    rest: usize,
    header: usize,
    is_shared: bool,
}

impl Prefix {
    fn read(bytes: &[u8], limit: usize) -> Result<Option<Self>, FrameError> {
        if bytes.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let (rest, second) = (word(bytes, 0) as usize, word(bytes, 4));
        let prefix = Self {
            rest,
            header: (second & !IS_SHARED) as usize,
            is_shared: second & IS_SHARED != 0,
        };
        if rest > limit {
            let announced = rest;
            return Err(FrameError::TooLarge { announced, limit });
        }
        let range = if prefix.is_shared { RANGE_BYTES } else { 0 };
        if prefix.header + 4 + range > rest {
            return Err(FrameError::HeaderOverrun {
                frame: rest,
                header: prefix.header,
            });
        }
        Ok(Some(prefix))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::PART_ALIGNMENT;

    fn frame_of(id: u8, payload: &[u8]) -> Vec<u8> {
        encode_whole(&vec![id; 16], &PayloadParts::from(payload.to_vec()))
    }

    fn decode_all(decoder: &mut Decoder, mut input: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while !input.is_empty() {
            let space = decoder.space();
            let count = step.min(space.len()).min(input.len());
            space[..count].copy_from_slice(&input[..count]);
            decoder.advance(count);
            input = &input[count..];
            while let Some(frame) = decoder.next_frame().expect("well-formed input") {
                let header = Vec::<u8>::decode(frame.header).expect("own header");
                frames.push((header[0], frame.payload.into_bytes().to_vec()));
            }
        }
        frames
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(
            sizes in proptest::collection::vec(0usize..100_000, 1..6),
            step in 1usize..70_000,
        ) {
            let mut stream = Vec::new();
            for (id, size) in (0u8..).zip(&sizes) {
                stream.extend(frame_of(id, &vec![id; *size]));
            }
            let frames = decode_all(&mut Decoder::new(), &stream, step.max(stream.len() / 2000));
            let expected: Vec<_> = (0u8..).zip(&sizes).map(|(id, size)| (id, vec![id; *size])).collect();
            prop_assert_eq!(frames, expected);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::new();
            let space = decoder.space();
            space[..bytes.len()].copy_from_slice(&bytes);
            decoder.advance(bytes.len());
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn payload_is_aligned_for_numpy_and_arrow() {
        for size in [10, 1000, 300_000] {
            let stream = frame_of(1, &vec![7; size]);
            let mut decoder = Decoder::new();
            let mut input = &stream[..];
            let payload = loop {
                let space = decoder.space();
                let count = space.len().min(input.len());
                space[..count].copy_from_slice(&input[..count]);
                decoder.advance(count);
                input = &input[count..];
                if let Some(frame) = decoder.next_frame().expect("well-formed") {
                    break frame.payload.into_bytes();
                }
            };
            assert_eq!(payload.as_ptr() as usize % PART_ALIGNMENT, 0);
        }
    }

    #[test]
    fn oversized_announcement_is_an_error() {
        let mut decoder = Decoder::new();
        decoder.space()[..8].copy_from_slice(&[0xff; 8]);
        decoder.advance(8);
        let refused = decoder.next_frame();
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn memory_for_a_payload_grows_with_what_has_arrived() {
        let mut stream = frame_of(1, &vec![7; 5 << 20]);
        let tail = stream.split_off(stream.len() - (1 << 20));
        let announced = u32::try_from(MAX_FRAME_BYTES).expect("fits");
        let mut decoder = Decoder::new();
        let head = [announced.to_le_bytes(), 2_u32.to_le_bytes()].concat();
        decoder.space()[..10].copy_from_slice(&[&head[..], &[0; 2]].concat());
        decoder.advance(10);
        assert!(decoder.next_frame().expect("well-formed").is_none());
        assert!(decoder.space().len() <= FIRST_PAYLOAD_BYTES);
        // And a whole one arrives as it was sent.
        let mut decoder = Decoder::new();
        let mut frames = decode_all(&mut decoder, &stream, usize::MAX);
        assert!(frames.is_empty());
        frames = decode_all(&mut decoder, &tail, usize::MAX);
        assert_eq!(frames, [(1, vec![7; 5 << 20])]);
    }

    #[test]
    fn memory_of_a_long_header_is_given_back() {
        let mut decoder = Decoder::new();
        let stream = encode_whole(&vec![7u8; 5 << 20], &PayloadParts::default());
        let mut input = &stream[..];
        while decoder.next_frame().expect("well-formed").is_none() {
            let space = decoder.space();
            let count = space.len().min(input.len());
            space[..count].copy_from_slice(&input[..count]);
            decoder.advance(count);
            input = &input[count..];
        }
        assert!(input.is_empty());
        assert!(decoder.space().len() <= KEPT_BYTES);
    }

    #[test]
    fn first_frame_of_a_stranger_is_short() {
        let long = frame_of(1, &vec![7; MAX_HELLO_BYTES]);
        let mut stranger = Decoder::of_stranger();
        let head = &long[..1000];
        stranger.space()[..1000].copy_from_slice(head);
        stranger.advance(1000);
        assert!(matches!(
            stranger.next_frame(),
            Err(FrameError::TooLarge {
                limit: MAX_HELLO_BYTES,
                ..
            })
        ));
        let mut greeted = Decoder::of_stranger();
        let stream = [frame_of(1, b"hello"), long].concat();
        assert_eq!(decode_all(&mut greeted, &stream, usize::MAX).len(), 2);
    }

    #[test]
    fn frame_longer_than_its_prefix_can_say_is_refused_and_not_misread() {
        let prefix = u32_prefix(5 << 30) as usize;
        assert!(prefix > MAX_FRAME_BYTES);
        assert_eq!(u32_prefix(5 << 30) & IS_SHARED, 0);
    }
}
