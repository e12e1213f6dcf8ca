//! One end of a connection: writes into the pipe of its side, reads from the other one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Net, Pipe, WINDOW_BYTES};

/// See the [module](self).
pub(super) struct End {
    net: Net,
    connection: u64,
    side: usize,
    /// Wakes the reader when the first chunk arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl End {
    pub(super) fn new(net: Net, connection: u64, side: u8) -> Self {
        Self {
            net,
            connection,
            side: usize::from(side),
            arrival: None,
        }
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let due = {
            let mut state = this.net.state();
            let Some(connection) = state.connections.get(&this.connection) else {
                return Poll::Ready(Err(reset()));
            };
            if connection.is_reset {
                return Poll::Ready(Err(reset()));
            }
            let pipe = &connection.pipes[1 - this.side];
            let is_cut = pipe.from != pipe.to && state.link(pipe.from, pipe.to).is_cut;
            let pipe =
                &mut state.connections.get_mut(&this.connection).unwrap().pipes[1 - this.side];
            pipe.reader = Some(context.waker().clone());
            if is_cut {
                return Poll::Pending;
            }
            match pipe.chunks.front_mut() {
                Some((due, chunk)) if *due <= Instant::now() => {
                    let count = chunk.len().min(buffer.remaining());
                    buffer.put_slice(&chunk[..count]);
                    chunk.advance(count);
                    if chunk.is_empty() {
                        pipe.chunks.pop_front();
                    }
                    pipe.bytes -= count;
                    pipe.writer.take().into_iter().for_each(Waker::wake);
                    return Poll::Ready(Ok(()));
                }
                Some((due, _)) => *due,
                None if pipe.is_finished => return Poll::Ready(Ok(())),
                None => return Poll::Pending,
            }
        };
        let mut sleep = Box::pin(tokio::time::sleep_until(due));
        if sleep.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        this.arrival = Some(sleep);
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.state();
        let Some(connection) = state.connections.get(&self.connection) else {
            return Poll::Ready(Err(reset()));
        };
        let Pipe { from, to, .. } = connection.pipes[self.side];
        // That the other end is gone does not pass a cut link either.
        let is_cut = from != to && state.link(to, from).is_cut;
        if connection.is_reset || (connection.gone > 0 && !is_cut) {
            return Poll::Ready(Err(reset()));
        }
        let delay = state.delay(from, to);
        let pipe = &mut state.connections.get_mut(&self.connection).unwrap().pipes[self.side];
        let room = WINDOW_BYTES - pipe.bytes.min(WINDOW_BYTES);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        pipe.arrival = pipe.arrival.max(Instant::now() + delay);
        let chunk = (pipe.arrival, Bytes::copy_from_slice(&bytes[..count]));
        pipe.chunks.push_back(chunk);
        pipe.bytes += count;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.state();
        if let Some(connection) = state.connections.get_mut(&self.connection) {
            let pipe = &mut connection.pipes[self.side];
            pipe.is_finished = true;
            pipe.reader.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Ok(mut state) = self.net.state.lock() else {
            return;
        };
        let Some(connection) = state.connections.get_mut(&self.connection) else {
            return;
        };
        connection.gone += 1;
        connection.pipes[self.side].is_finished = true;
        connection.wake();
        if connection.gone == 2 {
            state.connections.remove(&self.connection);
        }
    }
}
