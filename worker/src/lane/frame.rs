//! Frames: a protobuf header and a payload that never enters the protobuf.
//!
//! ```text
//! | u32 LE: bytes after this word | u32 LE: header bytes | header | payload ... |
//! ```
//! A received payload that is long lies in memory of its own, aligned for numpy and Arrow, so that values read from it stay
//! valid as long as somebody holds them. A short one is handed out where it was read, and what is kept of it is copied.

use bytes::Bytes;
use prost::Message;

use crate::buffer::AlignedBuffer;
use crate::value::{Payload, PayloadParts};

/// Largest frame a peer may announce, in bytes: larger values go through the object store.
pub(crate) const MAX_FRAME_BYTES: usize = 1 << 30;
const PREFIX_BYTES: usize = 8;
const READ_CHUNK_BYTES: usize = 64 << 10;

/// Bytes that are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {0} bytes announced, the limit is {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    #[error("frame of {frame} bytes cannot hold a header of {header} bytes")]
    HeaderOverrun { frame: usize, header: usize },
}

/// A received frame: the header still in protobuf form, in the memory that the socket was read into.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) payload: Payload<'a>,
}

/// Appends the prefix and header of a frame whose payload has `payload_bytes` bytes.
pub(crate) fn encode_head<M: Message>(header: &M, payload_bytes: usize, out: &mut Vec<u8>) {
    let header_bytes = header.encoded_len();
    let rest = 4 + header_bytes + payload_bytes;
    out.extend_from_slice(&u32_prefix(rest));
    out.extend_from_slice(&u32_prefix(header_bytes));
    header.encode_raw(out);
}

/// A whole frame as one buffer, for connections that are not driven by the reactor.
pub(crate) fn encode_whole<M: Message>(header: &M, payload: &PayloadParts) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + header.encoded_len() + payload.len_bytes());
    encode_head(header, payload.len_bytes(), &mut out);
    for part in payload.parts() {
        out.extend_from_slice(part.as_slice());
    }
    out
}

fn u32_prefix(value: usize) -> [u8; 4] {
    u32::try_from(value)
        .expect("frames are limited to MAX_FRAME_BYTES")
        .to_le_bytes()
}

/// A payload larger than what is buffered: read straight into its own memory.
struct PartialPayload {
    buffer: AlignedBuffer,
    filled: usize,
}

/// Cuts a byte stream into frames.
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    partial: Option<PartialPayload>,
    /// Header of the frame with the partial payload.
    partial_header: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; READ_CHUNK_BYTES],
            start: 0,
            end: 0,
            partial: None,
            partial_header: Vec::new(),
        }
    }

    /// Where the next bytes from the socket are to be put.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if let Some(partial) = &mut self.partial {
            return &mut partial.buffer.as_mut_slice()[partial.filled..];
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
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
    pub(crate) fn advance(&mut self, count: usize) {
        match &mut self.partial {
            Some(partial) => partial.filled += count,
            None => self.end += count,
        }
    }

    /// The next whole frame, if there is one.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if let Some(partial) = self
            .partial
            .take_if(|partial| partial.filled == partial.buffer.len())
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
        let Some((rest, header_len)) = read_prefix(available)? else {
            return Ok(None);
        };
        let (head_end, frame_end) = (PREFIX_BYTES + header_len, 4 + rest);
        if available.len() >= frame_end {
            self.start += frame_end;
            return Ok(Some(Frame {
                header: &available[PREFIX_BYTES..head_end],
                payload: Payload::Borrowed(&available[head_end..frame_end]),
            }));
        }
        if available.len() >= head_end && frame_end - head_end > READ_CHUNK_BYTES / 2 {
            let mut buffer = AlignedBuffer::new(frame_end - head_end);
            let begun = &available[head_end..];
            buffer.as_mut_slice()[..begun.len()].copy_from_slice(begun);
            self.partial_header.clear();
            self.partial_header
                .extend_from_slice(&available[PREFIX_BYTES..head_end]);
            self.partial = Some(PartialPayload {
                buffer,
                filled: begun.len(),
            });
            (self.start, self.end) = (0, 0);
        }
        Ok(None)
    }
}

/// Bytes after the first word, and header bytes.
fn read_prefix(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let word = |at: usize| {
        u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]) as usize
    };
    let (rest, header) = (word(0), word(4));
    if rest > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(rest));
    }
    if header + 4 > rest {
        return Err(FrameError::HeaderOverrun {
            frame: rest,
            header,
        });
    }
    Ok(Some((rest, header)))
}

#[cfg(test)]
mod tests {
    use aktis_proto::v1 as wire;
    use proptest::prelude::*;

    use super::*;
    use crate::value::PART_ALIGNMENT;

    fn frame_of(id: u8, payload: &[u8]) -> Vec<u8> {
        let header = wire::CancelTask {
            task_id: vec![id; 16].into(),
            force: true,
            recursive: true,
        };
        let mut parts = PayloadParts::default();
        crate::value::Value::inband(crate::value::Format::Bytes, payload.to_vec())
            .append_to(&mut parts);
        encode_whole(&header, &parts)
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
                let header = wire::CancelTask::decode(frame.header).expect("own header");
                frames.push((header.task_id[0], frame.payload.into_bytes().to_vec()));
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
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLarge(_))));
    }
}
