//! All connections of a process, polled by whoever has the turn.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::{fork, machine};
use rustc_hash::FxHashMap;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, read, write};
use rustix::net::{SocketFlags, accept_with};

use super::alarm::Alarm;
use super::connection::{Connection, ConnectionId, Handler};
use super::frame::Decoder;
use super::listeners::{self, PausedListeners};
use super::spin::{SPIN, SpinGauge};
use super::turn::{Kick, Turn, Waiter};
use super::unflushed::{FLUSH_AFTER, Unflushed};
use super::wait::{Interrupted, Limits, Poller, WaitEnd};
use super::watched::WatchedFd;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use aktis_common::marks::{Point, mark};

const KICK: u64 = 0;

/// Takes the connections that come in through a listener.
pub trait Acceptor: Send + Sync {
    /// Whether there is room for one. Otherwise it stays in the listener's queue for a while.
    fn has_room(&self, now: Instant) -> bool;
    /// Here it is.
    fn accept(&self, socket: OwnedFd);
}

/// Work of the owner of the reactor that happens at times rather than at frames.
pub trait Ticker: Send + Sync {
    /// Does what is due and says when to call again.
    fn tick(&self, now: Instant) -> Option<Duration>;
}

enum Source {
    Connection(Arc<Connection>),
    Listener {
        socket: OwnedFd,
        acceptor: Arc<dyn Acceptor>,
    },
    Watched(Arc<WatchedFd>),
}

/// See the [crate].
pub struct Reactor {
    /// For forked children, which inherit both; dropped before them.
    _registered: [fork::Registration; 2],
    epoll: OwnedFd,
    kick_fd: Arc<OwnedFd>,
    kick: Kick,
    turn: Turn,
    /// Touched only by the thread that leads, so never contended.
    spin: Mutex<SpinGauge>,
    sources: Mutex<FxHashMap<u64, Source>>,
    unflushed: Mutex<Unflushed<Arc<Connection>>>,
    paused: Mutex<PausedListeners>,
    next_id: AtomicU64,
    is_stopped: AtomicBool,
}

impl Reactor {
    /// A reactor without connections.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn new() -> Result<Arc<Self>, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let cpus = machine::cpu_count();
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &kick, EventData::new_u64(KICK), EventFlags::IN)?;
        let kick_fd = Arc::new(kick);
        let kicked = Arc::clone(&kick_fd);
        let kick = Kick::new(move || {
            // The counter can only be full if kicks wait already.
            let _ = write(&kicked, &1u64.to_ne_bytes());
        });
        Ok(Arc::new(Self {
            _registered: [fork::register(&epoll), fork::register(&kick_fd)],
            epoll,
            kick_fd,
            kick,
            turn: Turn::new(Alarm::new()?),
            spin: Mutex::new(SpinGauge::new(cpus)),
            sources: Mutex::default(),
            unflushed: Mutex::default(),
            paused: Mutex::default(),
            next_id: AtomicU64::new(KICK + 1),
            is_stopped: AtomicBool::new(false),
        }))
    }

    /// Adds a connected, non-blocking socket. `decoder` may hold bytes that came already.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    pub fn add_connection(
        self: &Arc<Self>,
        socket: OwnedFd,
        decoder: Decoder,
        handler: Arc<dyn Handler>,
    ) -> Result<Arc<Connection>, Errno> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let connection =
            Connection::new(ConnectionId(id), socket, decoder, handler, Arc::clone(self));
        self.sources
            .lock()
            .insert(id, Source::Connection(Arc::clone(&connection)));
        epoll::add(
            &self.epoll,
            connection.fd(),
            EventData::new_u64(id),
            EventFlags::IN,
        )?;
        Ok(connection)
    }

    /// Adds a listening, non-blocking socket.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    pub fn add_listener(&self, socket: OwnedFd, acceptor: Arc<dyn Acceptor>) -> Result<(), Errno> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        epoll::add(&self.epoll, &socket, EventData::new_u64(id), EventFlags::IN)?;
        self.sources
            .lock()
            .insert(id, Source::Listener { socket, acceptor });
        Ok(())
    }

    /// Adds a descriptor whose readiness ends waits, see [`Self::wait_beside`].
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    pub fn watch(&self, fd: OwnedFd) -> Result<Arc<WatchedFd>, Errno> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let watched = Arc::new(WatchedFd::new(id, fd));
        let source = Source::Watched(Arc::clone(&watched));
        self.sources.lock().insert(id, source);
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::add(&self.epoll, watched.fd(), EventData::new_u64(id), flags)?;
        Ok(watched)
    }

    /// [`Self::wait`] that the descriptor ends, too.
    pub fn wait_beside(&self, watched: &WatchedFd, waiter: &Arc<Waiter>, limit: Option<Duration>) {
        if watched.begin_wait(waiter) {
            let flags = EventFlags::IN | EventFlags::ONESHOT;
            let data = EventData::new_u64(watched.id);
            // Fails only if the reactor has stopped, when nothing is waited for.
            let _ = epoll::modify(&self.epoll, watched.fd(), data, flags);
        }
        self.wait(waiter, None, limit);
        watched.end_wait();
    }

    pub(super) fn set_write_interest(&self, connection: &Connection, wants_write: bool) {
        let flags = if wants_write {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        // Fails only if the connection was removed meanwhile.
        let _ = epoll::modify(
            &self.epoll,
            connection.fd(),
            EventData::new_u64(connection.id.0),
            flags,
        );
    }

    pub(super) fn add_unflushed(&self, connection: Arc<Connection>) {
        let is_first = self.unflushed.lock().add(connection);
        if is_first {
            self.call_lane(FLUSH_AFTER);
        }
    }

    /// Makes the lane thread look around after a while: unflushed bytes, a new timer.
    pub fn call_lane(&self, delay: Duration) {
        if !self.turn.call_lane(delay) {
            self.kick.kick();
        }
    }

    /// Writes all bytes that were sent with [`Urgency::Soon`](crate::Urgency::Soon).
    pub fn flush(&self) {
        let waiting = self.unflushed.lock().take();
        waiting.iter().for_each(Connection::flush_listed);
    }

    #[cfg(test)]
    pub(super) fn unflushed_connections(&self) -> usize {
        self.unflushed.lock().len()
    }

    /// [`Self::flush`] for the lane thread, which leaves time for more to come. Says when to come again.
    fn flush_overdue(&self) -> Option<Duration> {
        let overdue = self.unflushed.lock().take_overdue();
        match overdue {
            Ok(connections) => {
                connections.iter().for_each(Connection::flush_listed);
                None
            }
            Err(left) => Some(left),
        }
    }

    /// Writes everything that was sent, and waits until the kernel has taken it. False: a peer did not read for so long.
    pub fn drain(&self, limit: Duration) -> bool {
        const SLICE: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + limit;
        self.flush();
        while self.has_unwritten() {
            // Nobody counts this down: the thread polls, and so writes whenever a socket takes more.
            let end = self.wait(&Waiter::new(1), Some(deadline), Some(SLICE));
            if end == WaitEnd::DeadlinePassed {
                return false;
            }
        }
        true
    }

    fn has_unwritten(&self) -> bool {
        let sources = self.sources.lock();
        sources.values().any(
            |source| matches!(source, Source::Connection(connection) if connection.has_unwritten()),
        )
    }

    /// Waits until `waiter` is done. Polls itself when it can. `slice` bounds the time until
    /// [`WaitEnd::Interrupted`]; `None` waits on.
    pub fn wait(
        &self,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        slice: Option<Duration>,
    ) -> WaitEnd {
        self.flush();
        if waiter.is_done() {
            return WaitEnd::Done;
        }
        let slice_end = slice.map(|slice| Instant::now() + slice);
        let limits = Limits {
            deadline,
            slice_end,
        };
        self.turn.wait(self, waiter, limits)
    }

    fn serve(&self, id: u64, flags: EventFlags) {
        let (connection, acceptor) = match self.sources.lock().get(&id) {
            Some(Source::Connection(connection)) => (Some(Arc::clone(connection)), None),
            Some(Source::Listener { acceptor, .. }) => (None, Some(Arc::clone(acceptor))),
            Some(Source::Watched(watched)) => return watched.report(),
            None => return,
        };
        if let Some(acceptor) = acceptor {
            self.accept(id, &*acceptor);
        }
        let Some(connection) = connection else { return };
        if flags.contains(EventFlags::OUT) {
            connection.flush();
        }
        let has_input = flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR);
        if has_input && !connection.read_ready() {
            self.remove(&connection);
        }
    }

    /// A connection waits in a listener's queue. If this side cannot take it, it is tried again later.
    fn accept(&self, id: u64, acceptor: &dyn Acceptor) {
        if !acceptor.has_room(Instant::now()) {
            return self.pause_listener(id, "too many have not said who they are");
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = match self.sources.lock().get(&id) {
            Some(Source::Listener { socket, .. }) => accept_with(socket, flags),
            _ => return,
        };
        match accepted {
            Ok(socket) => acceptor.accept(socket),
            Err(error) if listeners::is_shortage(error) => {
                self.pause_listener(id, &error.to_string());
            }
            // The connection is gone.
            Err(_) => {}
        }
    }

    fn pause_listener(&self, id: u64, cause: &str) {
        if let Some(Source::Listener { socket, .. }) = self.sources.lock().get(&id) {
            self.listen_to(id, socket, EventFlags::empty());
        }
        if self.paused.lock().add(id, Instant::now()) {
            tracing::warn!(
                cause,
                "lanes of other processes have to wait until they can be accepted"
            );
        }
        self.call_lane(listeners::PAUSE);
    }

    /// Says when to come again.
    fn resume_listeners(&self, now: Instant) -> Option<Duration> {
        let due = match self.paused.lock().take_due(now) {
            Ok(due) => due,
            Err(left) => return Some(left),
        };
        for id in due {
            if let Some(Source::Listener { socket, .. }) = self.sources.lock().get(&id) {
                self.listen_to(id, socket, EventFlags::IN);
            }
        }
        None
    }

    fn listen_to(&self, id: u64, socket: &OwnedFd, flags: EventFlags) {
        // Fails only if the reactor has stopped.
        let _ = epoll::modify(&self.epoll, socket, EventData::new_u64(id), flags);
    }

    fn remove(&self, connection: &Arc<Connection>) {
        let _ = epoll::delete(&self.epoll, connection.fd());
        self.sources.lock().remove(&connection.id.0);
        connection.report_closed();
    }

    /// Body of the lane thread: polls when no other thread does, flushes, ticks. Ends after [`Self::stop`].
    pub fn run_lane_thread(&self, ticker: &dyn Ticker) {
        let is_over = || self.is_stopped.load(Ordering::Acquire);
        let errands = || {
            let now = Instant::now();
            let next_flush = self.flush_overdue();
            let next_accept = self.resume_listeners(now);
            let next_tick = ticker.tick(now);
            let next = next_flush.into_iter().chain(next_accept);
            next.chain(next_tick).min()
        };
        while !is_over() {
            self.turn.lane_round(self, &errands, &is_over);
        }
    }

    /// Ends the lane thread and closes all connections without reporting them.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.call_lane(Duration::ZERO);
        self.kick.kick();
        let sources = std::mem::take(&mut *self.sources.lock());
        for source in sources.into_values() {
            if let Source::Connection(connection) = source {
                let _ = epoll::delete(&self.epoll, connection.fd());
                connection.close();
            }
        }
        drop(self.unflushed.lock().take());
    }
}

impl Poller for Reactor {
    fn poll(&self, timeout: Option<Duration>) -> Result<(), Interrupted> {
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 32];
        let timeout = timeout.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let (ready, _) = epoll::wait(&self.epoll, &mut events, timeout.as_ref())
            .map_err(|_interrupted| Interrupted)?;
        if !ready.is_empty() {
            mark(Point::Readable);
        }
        for event in ready {
            let (id, flags) = (event.data.u64(), event.flags);
            if id == KICK {
                let _ = read(&self.kick_fd, &mut [0u8; 8]);
            } else {
                self.serve(id, flags);
            }
        }
        Ok(())
    }

    fn poll_briefly(&self, waiter: &Waiter) -> bool {
        let mut spin = self.spin.lock();
        if !spin.is_worth_it() {
            return false;
        }
        let end = Instant::now() + SPIN;
        while Instant::now() < end {
            // Interrupted by a signal: the caller polls next, and finds out.
            if self.poll(Some(Duration::ZERO)).is_err() || waiter.is_done() {
                break;
            }
            // Whoever else can run goes first, the awaited process above all.
            std::thread::yield_now();
        }
        spin.learn(waiter.is_done());
        waiter.is_done()
    }

    fn kick(&self) -> &Kick {
        &self.kick
    }
}
