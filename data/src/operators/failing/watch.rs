//! Ends the process when a call takes too long: nothing else ends a function of Python that does not want to.
//!
//! One thread per worker, which sleeps until the earliest moment at which a call could be late. A call that begins wakes it only if
//! it would sleep longer than that, so calls that are quick cost two locks each.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use parking_lot::{Condvar, Mutex};

use super::{BegunCall, FailingInput};
use crate::operators::turns;
use crate::wire::failing::NotedCall;

/// How often a call that waits for its turn is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Looks at calls of a worker.
#[derive(Default)]
pub(crate) struct Watch {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    watched: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    /// The call that is under way.
    call: Option<Late>,
    /// Until when the thread sleeps; `None`: until it is woken.
    sleeps_until: Option<Instant>,
    has_thread: bool,
    is_over: bool,
}

/// A call, and from when on it is late.
struct Late {
    at: Instant,
    /// For how long calls had waited for their turns when it began: later waits are none of its time.
    waited_before: Duration,
    call: BegunCall,
    input: Arc<FailingInput>,
}

/// A call that is watched, until this is dropped.
pub(crate) struct Watched {
    state: Arc<State>,
}

impl Watch {
    /// A call of `input` begins.
    pub(super) fn begin(
        input: &Arc<FailingInput>,
        timeout: Duration,
        call: BegunCall,
    ) -> Result<Watched, TaskFailure> {
        let state = &input.watch.state;
        let at = Instant::now() + timeout;
        let mut now = state.watched.lock();
        if !now.has_thread {
            let state = Arc::clone(state);
            let thread = thread::Builder::new().name("aktis-watch".to_owned());
            thread.spawn(move || state.run()).map_err(|error| {
                TaskFailure::new(ErrorCode::Internal, format!("start a watch: {error}"))
            })?;
            now.has_thread = true;
        }
        let input = Arc::clone(input);
        now.call = Some(Late {
            at,
            waited_before: turns::waited().total,
            call,
            input,
        });
        if now.sleeps_until.is_none_or(|until| until > at) {
            state.changed.notify_one();
        }
        Ok(Watched {
            state: Arc::clone(state),
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.state.watched.lock().call = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.watched.lock().is_over = true;
        self.state.changed.notify_one();
    }
}

impl State {
    fn run(&self) {
        let mut now = self.watched.lock();
        while !now.is_over {
            let at = now.call.as_ref().map(Late::at_now);
            now.sleeps_until = at;
            match at {
                None => self.changed.wait(&mut now),
                Some(at) if at <= Instant::now() => {
                    let late = now.call.take().expect("seen just above");
                    drop(now);
                    return end_process(&late);
                }
                Some(at) => {
                    self.changed.wait_until(&mut now, at);
                }
            }
        }
    }
}

impl Late {
    /// From when on it is late, as far as is known now.
    fn at_now(&self) -> Instant {
        let waited = turns::waited();
        let at = self.at + waited.total.saturating_sub(self.waited_before);
        if waited.is_waiting {
            // It becomes later as long as somebody waits.
            at.max(Instant::now() + LOOK)
        } else {
            at
        }
    }
}

/// Notes what the process died of, and ends it, noted or not.
fn end_process(late: &Late) {
    let Late { call, input, .. } = late;
    let note = NotedCall {
        is_late: true,
        ..call.noted(&input.worker)
    };
    if let Err(failure) = input.notes.note_beside(&input.spec.note_key, &note) {
        tracing::warn!(%failure, "a call takes too long, and nobody can be told of which rows");
    }
    let own = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
        tracing::error!(%error, "a call takes too long, and the process cannot be ended");
    }
}
