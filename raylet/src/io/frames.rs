//! The framing of the node socket: `u32 LE n (bytes after this word) | u32 LE h | h bytes NodeFrame | n-4-h bytes payload`.

use aktis_proto::v1::{NodeFrame, node_frame};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// The most that one frame may hold: a peer that names more is broken.
const MAX_FRAME_BYTES: usize = 1 << 30;
const PREFIX_BYTES: usize = 8;
/// A frame gets this much memory when it is announced, and more as it arrives: announcing costs nothing, so that it may not
/// cost the raylet anything either.
const FIRST_RESERVE_BYTES: usize = 1 << 20;

/// Bytes that are not a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFrame {
    /// The two length words contradict each other, or exceed the limit.
    #[error(
        "read a frame: {total_bytes} bytes in all, {header_bytes} of them header, is not possible"
    )]
    Lengths {
        /// First word.
        total_bytes: usize,
        /// Second word.
        header_bytes: usize,
    },
    /// The header is not a `NodeFrame`.
    #[error("read a frame: its header is no node frame")]
    Header(#[source] prost::DecodeError),
}

/// A frame as it came in. `kind` is unset for kinds that a newer peer knows.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) request_id: u64,
    pub(crate) kind: Option<node_frame::Kind>,
    pub(crate) payload: Bytes,
}

/// Takes one frame off the front of `input`, if it is complete.
pub(crate) fn take_frame(input: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
    if input.len() < PREFIX_BYTES {
        return Ok(None);
    }
    let total_bytes = (&input[..4]).get_u32_le() as usize;
    let header_bytes = (&input[4..8]).get_u32_le() as usize;
    if total_bytes < 4 || header_bytes > total_bytes - 4 || total_bytes > MAX_FRAME_BYTES {
        return Err(BadFrame::Lengths {
            total_bytes,
            header_bytes,
        });
    }
    if input.len() < 4 + total_bytes {
        let missing = 4 + total_bytes - input.len();
        input.reserve(missing.min(input.len().max(FIRST_RESERVE_BYTES)));
        return Ok(None);
    }
    let mut body = input.split_to(4 + total_bytes).freeze();
    body.advance(PREFIX_BYTES);
    let header = body.split_to(header_bytes);
    let frame = NodeFrame::decode(header).map_err(BadFrame::Header)?;
    Ok(Some(Frame {
        request_id: frame.request_id,
        kind: frame.kind,
        payload: body,
    }))
}

/// Appends one frame to `output`.
pub(crate) fn put_frame(
    output: &mut BytesMut,
    request_id: u64,
    kind: node_frame::Kind,
    payload: &[u8],
) {
    let frame = NodeFrame {
        request_id,
        kind: Some(kind),
    };
    let header_bytes = frame.encoded_len();
    output.reserve(PREFIX_BYTES + header_bytes + payload.len());
    output.put_u32_le(word(4 + header_bytes + payload.len()));
    output.put_u32_le(word(header_bytes));
    frame.encode(output).expect("the buffer grows as needed");
    output.put_slice(payload);
}

fn word(length: usize) -> u32 {
    u32::try_from(length).expect("frames of the raylet stay far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use aktis_proto::v1::Done;

    use super::*;

    #[test]
    fn a_frame_cut_anywhere_is_read_once_complete() {
        let mut wire = BytesMut::new();
        put_frame(&mut wire, 7, node_frame::Kind::Done(Done {}), b"payload");
        for cut in 0..wire.len() {
            let mut input = BytesMut::from(&wire[..cut]);
            assert!(take_frame(&mut input).unwrap().is_none());
            input.extend_from_slice(&wire[cut..]);
            let frame = take_frame(&mut input).unwrap().unwrap();
            assert_eq!((frame.request_id, &frame.payload[..]), (7, &b"payload"[..]));
            assert!(matches!(frame.kind, Some(node_frame::Kind::Done(_))));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn memory_for_a_frame_grows_with_what_has_arrived() {
        let mut input = BytesMut::new();
        input.put_u32_le(MAX_FRAME_BYTES as u32);
        input.put_u32_le(4);
        assert!(take_frame(&mut input).unwrap().is_none());
        assert!(input.capacity() <= 2 * FIRST_RESERVE_BYTES);
        // And there is always room for more of it.
        while input.len() < 5 << 20 {
            input.put_bytes(0, input.capacity() - input.len());
            assert!(take_frame(&mut input).unwrap().is_none());
            assert!(input.capacity() > input.len());
            assert!(input.capacity() <= 4 * input.len().max(FIRST_RESERVE_BYTES));
        }
    }

    #[test]
    fn contradicting_lengths_are_an_error() {
        for words in [[3u32, 0], [8, 5], [u32::MAX, 4]] {
            let mut input = BytesMut::new();
            input.put_u32_le(words[0]);
            input.put_u32_le(words[1]);
            assert!(matches!(
                take_frame(&mut input),
                Err(BadFrame::Lengths { .. })
            ));
        }
    }

    #[test]
    fn a_header_that_is_no_message_is_an_error() {
        let mut input = BytesMut::new();
        input.put_u32_le(8);
        input.put_u32_le(4);
        input.put_slice(&[0xff; 4]);
        assert!(matches!(take_frame(&mut input), Err(BadFrame::Header(_))));
    }
}
