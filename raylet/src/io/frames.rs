//! What the frames of the node socket say. How they travel is `aktis-lane`'s.

use aktis_lane::{Decoder, FrameError, encode_head};
use aktis_proto::v1::{NodeFrame, node_frame};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes that are not a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFrame {
    /// Its lengths are impossible.
    #[error("read a frame: {0}")]
    Lengths(FrameError),
    /// The header is not a `NodeFrame`.
    #[error("read a frame: its header is no node frame")]
    Header(#[source] prost::DecodeError),
}

/// A frame as it came in. `kind` is unset for kinds that a newer peer knows.
#[derive(Debug)]
pub(crate) struct ProcessFrame {
    pub(crate) request_id: u64,
    pub(crate) kind: Option<node_frame::Kind>,
    pub(crate) payload: Bytes,
}

/// The next frame of a process, if it is complete.
pub(crate) fn next_frame(decoder: &mut Decoder) -> Result<Option<ProcessFrame>, BadFrame> {
    let Some(frame) = decoder.next_frame().map_err(BadFrame::Lengths)? else {
        return Ok(None);
    };
    let header = NodeFrame::decode(frame.header).map_err(BadFrame::Header)?;
    Ok(Some(ProcessFrame {
        request_id: header.request_id,
        kind: header.kind,
        payload: frame.payload.into_bytes(),
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
    encode_head(&frame, payload.len(), output);
    output.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use aktis_proto::v1::Done;

    use super::*;

    fn read(decoder: &mut Decoder, bytes: &[u8]) {
        decoder.space()[..bytes.len()].copy_from_slice(bytes);
        decoder.advance(bytes.len());
    }

    #[test]
    fn frame_is_read_as_it_was_written() {
        let mut wire = BytesMut::new();
        put_frame(&mut wire, 7, node_frame::Kind::Done(Done {}), b"payload");
        let mut decoder = Decoder::new();
        let (first, rest) = wire.split_at(9);
        read(&mut decoder, first);
        assert!(next_frame(&mut decoder).unwrap().is_none());
        read(&mut decoder, rest);
        let frame = next_frame(&mut decoder).unwrap().unwrap();
        assert_eq!((frame.request_id, &frame.payload[..]), (7, &b"payload"[..]));
        assert!(matches!(frame.kind, Some(node_frame::Kind::Done(_))));
        assert!(next_frame(&mut decoder).unwrap().is_none());
    }

    #[test]
    fn contradicting_lengths_are_an_error() {
        for words in [[3u32, 0], [8, 5], [u32::MAX, 4]] {
            let mut decoder = Decoder::new();
            read(&mut decoder, &words.map(u32::to_le_bytes).concat());
            let refused = next_frame(&mut decoder);
            assert!(matches!(refused, Err(BadFrame::Lengths(_))), "{words:?}");
        }
    }

    #[test]
    fn a_header_that_is_no_message_is_an_error() {
        let mut decoder = Decoder::new();
        read(
            &mut decoder,
            &[8, 0, 0, 0, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        );
        assert!(matches!(next_frame(&mut decoder), Err(BadFrame::Header(_))));
    }
}
