//! Bytes of one connection that wait to be written. Small frames are joined, large parts are written in place.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use prost::Message;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::frame::{encode_head, encode_shared};
use super::slots::SlotRange;
use crate::payload::{PayloadPart, PayloadParts};

const MAX_SLICES: usize = 64;
/// What an outbox that is empty keeps for the next frames, of bytes and of segments.
const KEPT_BYTES: usize = 1 << 20;
const KEPT_SEGMENTS: usize = 1 << 10;

/// Outgoing bytes in order.
#[derive(Default)]
pub(crate) struct Outbox {
    closed: VecDeque<Bytes>,
    open: Vec<u8>,
    /// Bytes of the front segment that are written already.
    front_written: usize,
    waiting_bytes: usize,
    /// Goes with the next bytes that are written.
    descriptor: Option<OwnedFd>,
}

/// What a flush achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    Everything,
    /// The socket is full: go on when it is writable.
    Blocked,
}

impl Outbox {
    /// Appends a frame, behind those that wait (`LANE-3`).
    pub(crate) fn push<M: Message>(&mut self, header: &M, payload: &PayloadParts) {
        let before = self.open.len();
        encode_head(header, payload.len_bytes(), &mut self.open);
        self.waiting_bytes += self.open.len() - before + payload.len_bytes();
        for part in payload.parts() {
            match part {
                PayloadPart::Copied(slice) => self.open.extend_from_slice(slice),
                PayloadPart::Shared(bytes) => {
                    self.close_open();
                    self.closed.push_back(bytes.clone());
                }
            }
        }
    }

    /// Appends a frame whose payload lies in shared memory.
    pub(super) fn push_shared<M: Message>(&mut self, header: &M, range: SlotRange) {
        let before = self.open.len();
        encode_shared(header, range, &mut self.open);
        self.waiting_bytes += self.open.len() - before;
    }

    /// The peer gets this descriptor, if that is possible, no later than the frames that are pushed from now on.
    pub(super) fn attach(&mut self, descriptor: OwnedFd) {
        self.descriptor = Some(descriptor);
    }

    /// Bytes that are not written yet.
    #[inline]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    fn close_open(&mut self) {
        if !self.open.is_empty() {
            self.closed
                .push_back(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<Flushed, Errno> {
        while self.waiting_bytes > 0 {
            let written = match self.write_once(socket) {
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Flushed::Blocked),
                // Too many descriptors may be under way. The bytes can go without.
                Err(_) if self.descriptor.take().is_some() => continue,
                Err(error) => return Err(error),
            };
            self.consume(written);
            self.descriptor = None;
        }
        Ok(Flushed::Everything)
    }

    fn write_once(&self, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let mut skip = self.front_written;
        let segments = self
            .closed
            .iter()
            .map(Bytes::as_ref)
            .chain(std::iter::once(&self.open[..]));
        for segment in segments.take(MAX_SLICES) {
            slices[count] = IoSlice::new(&segment[skip..]);
            skip = 0;
            count += 1;
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let descriptor = self
            .descriptor
            .as_ref()
            .map(|descriptor| [descriptor.as_fd()]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::default();
        if let Some(descriptor) = &descriptor {
            control = SendAncillaryBuffer::new(&mut space);
            let is_stored = control.push(SendAncillaryMessage::ScmRights(descriptor));
            debug_assert!(is_stored, "the space is for exactly this message");
        }
        sendmsg(socket, &slices[..count], &mut control, flags)
    }

    fn consume(&mut self, mut written: usize) {
        self.waiting_bytes -= written;
        while let Some(front) = self.closed.front() {
            let left = front.len() - self.front_written;
            if written < left {
                self.front_written += written;
                return;
            }
            written -= left;
            self.front_written = 0;
            self.closed.pop_front();
        }
        self.front_written += written;
        if self.front_written == self.open.len() {
            self.open.clear();
            self.front_written = 0;
            self.shrink();
        }
    }

    /// Gives back what a backlog needed.
    fn shrink(&mut self) {
        if self.open.capacity() > KEPT_BYTES {
            self.open = Vec::new();
        }
        if self.closed.capacity() > KEPT_SEGMENTS {
            self.closed = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;
    use crate::frame::encode_whole;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn everything_pushed_arrives_in_order(sizes in proptest::collection::vec(0usize..200_000, 1..12)) {
            let (writer, mut reader) = UnixStream::pair().expect("socket pair");
            writer.set_nonblocking(true).expect("non-blocking");
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (id, size) in (0u8..).zip(&sizes) {
                let header = vec![id; 16];
                let payload = PayloadParts::from(vec![id; *size]);
                expected.extend(encode_whole(&header, &payload));
                outbox.push(&header, &payload);
            }
            let wanted = expected.len();
            let drain = std::thread::spawn(move || {
                let mut received = vec![0; wanted];
                reader.read_exact(&mut received).expect("all bytes arrive");
                received
            });
            while outbox.flush(writer.as_fd()).expect("peer is there") == Flushed::Blocked {
                std::thread::yield_now();
            }
            prop_assert_eq!(outbox.waiting_bytes(), 0);
            prop_assert_eq!(drain.join().expect("reader"), expected, "LANE-3");
        }
    }

    #[test]
    fn memory_of_a_backlog_is_given_back_when_it_is_written() {
        let (writer, mut reader) = UnixStream::pair().expect("socket pair");
        writer.set_nonblocking(true).expect("non-blocking");
        let (mut outbox, frame) = (Outbox::default(), 0u32);
        let short = PayloadParts::from(vec![1; 1000]);
        let long = PayloadParts::from(vec![1; 20_000]);
        for _ in 0..=KEPT_SEGMENTS {
            outbox.push(&frame, &long);
        }
        for _ in 0..=KEPT_BYTES / 1000 {
            outbox.push(&frame, &short);
        }
        assert!(outbox.open.capacity() > KEPT_BYTES);
        let mut left = outbox.waiting_bytes();
        let drain = std::thread::spawn(move || {
            let mut read = vec![0; 1 << 20];
            while left > 0 {
                left -= reader.read(&mut read).expect("all bytes arrive");
            }
        });
        while outbox.flush(writer.as_fd()).expect("peer is there") == Flushed::Blocked {
            std::thread::yield_now();
        }
        drain.join().expect("reader");
        assert!(outbox.open.capacity() <= KEPT_BYTES);
        assert!(outbox.closed.capacity() <= KEPT_SEGMENTS);
    }
}
