//! A descriptor of somebody else that a waiting thread is interested in besides its work: the poll of an event loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::turn::Waiter;
use crate::sync::Mutex;

/// A descriptor in the reactor that ends a wait when it becomes readable. Reported once, then to be armed again.
pub struct WatchedFd {
    pub(super) id: u64,
    /// A duplicate: the owner may close its own whenever it wants.
    fd: OwnedFd,
    state: Mutex<State>,
}

struct State {
    is_armed: bool,
    waiter: Option<Arc<Waiter>>,
}

impl WatchedFd {
    pub(super) fn new(id: u64, fd: OwnedFd) -> Self {
        let state = State {
            is_armed: true,
            waiter: None,
        };
        Self {
            id,
            fd,
            state: Mutex::new(state),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// It is readable. Called by the thread that polls.
    pub(super) fn report(&self) {
        let mut state = self.state.lock();
        state.is_armed = false;
        if let Some(waiter) = state.waiter.take() {
            waiter.count_down();
        }
    }

    /// Sets who is told. True: the reactor has to be told to look again.
    pub(super) fn begin_wait(&self, waiter: &Arc<Waiter>) -> bool {
        let mut state = self.state.lock();
        state.waiter = Some(Arc::clone(waiter));
        !std::mem::replace(&mut state.is_armed, true)
    }

    pub(super) fn end_wait(&self) {
        self.state.lock().waiter = None;
    }
}
