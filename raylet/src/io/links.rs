//! The writing side of the processes' connections.
//!
//! Frames of one round of the loop are collected per connection and leave in one write. What the socket does not take
//! waits; a process that does not read at all is cut off.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aktis_proto::v1::node_frame::Kind;
use bytes::{Buf, BytesMut};
use rustc_hash::FxHashMap;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::descriptor::send_with_descriptor;
use super::frames::put_frame;
use crate::core::keys::ConnectionId;

/// A process that lets more than this pile up does not read its connection.
const MAX_PENDING_BYTES: usize = 256 << 20;
/// Log lines are dropped for a process that has more than this pending.
const MAX_PENDING_WITH_LOGS_BYTES: usize = 4 << 20;

#[derive(Debug)]
struct ProcessLink {
    stream: Arc<UnixStream>,
    pending: BytesMut,
    /// Somebody waits until the socket takes more.
    is_waiting: bool,
    is_dirty: bool,
    /// Lines that were dropped since the last ones that were sent.
    lost_lines: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: FxHashMap<ConnectionId, ProcessLink>,
    dirty: Vec<ConnectionId>,
}

/// What is left to do after a flush.
pub(crate) enum Leftover {
    /// The socket is full: flush again when it is writable.
    AwaitWritable(ConnectionId, Arc<UnixStream>),
}

impl Links {
    /// A process has connected.
    pub(crate) fn insert(&mut self, connection: ConnectionId, stream: Arc<UnixStream>) {
        let link = ProcessLink {
            stream,
            pending: BytesMut::new(),
            is_waiting: false,
            is_dirty: false,
            lost_lines: 0,
        };
        self.links.insert(connection, link);
    }

    /// The process at the other end, as the kernel says; none if it cannot be seen from here.
    pub(crate) fn peer_pid(&self, connection: ConnectionId) -> Option<u32> {
        let link = self.links.get(&connection)?;
        let pid = link.stream.peer_cred().ok()?.pid()?;
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// A connection has ended.
    pub(crate) fn remove(&mut self, connection: ConnectionId) {
        self.links.remove(&connection);
    }

    /// Ends a connection after what is pending; its reader sees the end.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.flush_one(connection);
        if let Some(link) = self.links.get(&connection) {
            let _ = rustix::net::shutdown(link.stream.as_fd(), rustix::net::Shutdown::Both);
        }
    }

    /// Ends all connections.
    pub(crate) fn close_all(&mut self) {
        let all: Vec<ConnectionId> = self.links.keys().copied().collect();
        all.into_iter()
            .for_each(|connection| self.close(connection));
    }

    /// Queues a frame; it leaves with the next [`Self::flush`].
    pub(crate) fn send(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        mut kind: Kind,
        payload: &[u8],
    ) {
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        if let Kind::LogLines(log) = &mut kind {
            if link.pending.len() > MAX_PENDING_WITH_LOGS_BYTES {
                link.lost_lines += log.lines.len() as u64;
                return;
            }
            log.lost_before = std::mem::take(&mut link.lost_lines);
        }
        put_frame(&mut link.pending, request_id, kind, payload);
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(connection);
        }
    }

    /// Sends a frame at once, with a descriptor as ancillary data of its first byte.
    pub(crate) fn send_descriptor(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        kind: Kind,
        descriptor: &OwnedFd,
    ) {
        self.flush_one(connection);
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        let mut frame = BytesMut::new();
        put_frame(&mut frame, request_id, kind, &[]);
        let sent = link.stream.try_io(Interest::WRITABLE, || {
            send_with_descriptor(link.stream.as_fd(), &frame, descriptor.as_fd())
        });
        match sent {
            Ok(count) => {
                frame.advance(count);
                link.pending.extend_from_slice(&frame);
                if !link.is_dirty && !link.pending.is_empty() {
                    link.is_dirty = true;
                    self.dirty.push(connection);
                }
            }
            Err(error) => {
                tracing::warn!(%connection, %error, "cannot hand the arena to a process");
                self.close(connection);
            }
        }
    }

    /// Writes what was queued.
    pub(crate) fn flush(&mut self, leftovers: &mut Vec<Leftover>) {
        while let Some(connection) = self.dirty.pop() {
            if let Some(link) = self.links.get_mut(&connection) {
                link.is_dirty = false;
            }
            self.flush_one(connection);
            let Some(link) = self.links.get_mut(&connection) else {
                continue;
            };
            if link.pending.len() > MAX_PENDING_BYTES {
                tracing::warn!(%connection, "a process does not read its connection: it is cut off");
                link.pending.clear();
                self.close(connection);
            } else if !link.pending.is_empty() && !link.is_waiting {
                link.is_waiting = true;
                leftovers.push(Leftover::AwaitWritable(
                    connection,
                    Arc::clone(&link.stream),
                ));
            }
        }
    }

    /// The socket takes more.
    pub(crate) fn on_writable(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        link.is_waiting = false;
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(connection);
        }
    }

    fn flush_one(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        while !link.pending.is_empty() {
            match link.stream.try_write(&link.pending) {
                Ok(count) => link.pending.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The reader sees the end too, and reports it.
                    link.pending.clear();
                    return;
                }
            }
        }
    }
}
