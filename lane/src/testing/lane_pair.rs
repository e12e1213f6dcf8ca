//! Two connections over a socket pair, each with a reactor of its own.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use prost::Message;

use crate::connection::{Connection, Handler, Urgency};
use crate::frame::{Decoder, Frame};
use crate::payload::PayloadParts;
use crate::reactor::Reactor;
use crate::sync::{AtomicUsize, Mutex, Ordering};
use crate::turn::Waiter;

/// A pair that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a pair of lanes: {0}")]
pub struct LanePairError(std::io::Error);

impl From<rustix::io::Errno> for LanePairError {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.into())
    }
}

/// The calling thread at one end, a thread that counts and answers at the other.
pub struct LanePair<M> {
    reactor: Arc<Reactor>,
    near: Arc<Connection>,
    waiting: Arc<NearHandler>,
    answer_every: Arc<AtomicUsize>,
    header: M,
    payload: PayloadParts,
    peer: Option<JoinHandle<()>>,
}

impl<M: Message + Clone + Default + 'static> LanePair<M> {
    /// A pair that exchanges frames with this header and payload in both directions.
    ///
    /// # Errors
    /// When the system gives no sockets or no thread.
    pub fn new(header: M, payload: PayloadParts) -> Result<Self, LanePairError> {
        let (near_socket, far_socket) = UnixStream::pair().map_err(LanePairError)?;
        for socket in [&near_socket, &far_socket] {
            socket.set_nonblocking(true).map_err(LanePairError)?;
        }
        let answer_every = Arc::new(AtomicUsize::new(1));
        let peer = spawn_peer(
            far_socket,
            header.clone(),
            payload.clone(),
            Arc::clone(&answer_every),
        )?;
        let reactor = Reactor::new()?;
        let waiting = Arc::new(NearHandler::default());
        let near = reactor.add_connection(
            OwnedFd::from(near_socket),
            Decoder::new(),
            Arc::clone(&waiting) as Arc<dyn Handler>,
        )?;
        Ok(Self {
            reactor,
            near,
            waiting,
            answer_every,
            header,
            payload,
            peer: Some(peer),
        })
    }

    /// Sends one frame and waits for the answer, as a synchronous call does.
    pub fn round_trip(&self) {
        self.exchange(1, Urgency::Now);
    }

    /// Sends so many frames that may be joined, and waits until the peer has handled them all.
    pub fn stream(&self, frames: usize) {
        self.exchange(frames, Urgency::Soon);
    }

    fn exchange(&self, frames: usize, urgency: Urgency) {
        self.answer_every.store(frames, Ordering::Release);
        let waiter = Waiter::new(1);
        *self.waiting.0.lock() = Some(Arc::clone(&waiter));
        for _ in 0..frames {
            self.near
                .send(&self.header, &self.payload, urgency)
                .expect("the peer reads until this end is closed");
        }
        self.reactor.wait(&waiter, None, None);
    }
}

impl<M> Drop for LanePair<M> {
    fn drop(&mut self) {
        self.near.close();
        if let Some(peer) = self.peer.take() {
            // Err: it panicked, and has said so.
            let _ = peer.join();
        }
    }
}

/// Ends the exchange when the answer is there.
#[derive(Default)]
struct NearHandler(Mutex<Option<Arc<Waiter>>>);

impl Handler for NearHandler {
    fn on_frame(&self, _: &Arc<Connection>, _: Frame) -> Result<(), String> {
        if let Some(waiter) = self.0.lock().take() {
            waiter.count_down();
        }
        Ok(())
    }

    fn on_closed(&self, _: &Arc<Connection>) {}
}

/// Decodes and counts frames, and answers when enough have come.
struct FarHandler<M> {
    header: M,
    payload: PayloadParts,
    seen: AtomicUsize,
    answer_every: Arc<AtomicUsize>,
    end: Arc<Waiter>,
}

impl<M: Message + Default> Handler for FarHandler<M> {
    fn on_frame(&self, connection: &Arc<Connection>, frame: Frame) -> Result<(), String> {
        M::decode(frame.header).map_err(|error| error.to_string())?;
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen < self.answer_every.load(Ordering::Acquire) {
            return Ok(());
        }
        self.seen.store(0, Ordering::Relaxed);
        connection
            .send(&self.header, &self.payload, Urgency::Now)
            .map_err(|error| error.to_string())
    }

    fn on_closed(&self, _: &Arc<Connection>) {
        self.end.count_down();
    }
}

fn spawn_peer<M: Message + Default + 'static>(
    socket: UnixStream,
    header: M,
    payload: PayloadParts,
    answer_every: Arc<AtomicUsize>,
) -> Result<JoinHandle<()>, LanePairError> {
    let reactor = Reactor::new()?;
    std::thread::Builder::new()
        .name("lane-pair".to_owned())
        .spawn(move || {
            let end = Waiter::new(1);
            let handler = Arc::new(FarHandler {
                header,
                payload,
                seen: AtomicUsize::new(0),
                answer_every,
                end: Arc::clone(&end),
            });
            let _connection = reactor
                .add_connection(OwnedFd::from(socket), Decoder::new(), handler)
                .expect("an open socket can be polled");
            reactor.wait(&end, None, None);
        })
        .map_err(LanePairError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_answered_one_by_one_and_by_the_stream() {
        let pair = LanePair::new(7u32, PayloadParts::from(vec![7; 10])).unwrap();
        pair.round_trip();
        pair.stream(1000);
        pair.round_trip();
    }
}
