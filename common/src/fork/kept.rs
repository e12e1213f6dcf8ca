//! Memory that a forked child may still read.
//!
//! A child sees what its parent has mapped, also where the mapping is shared with other processes, which write into it again
//! as soon as the parent lets go. So what the parent drops while a child may see it is kept until the child has ended, or runs
//! another program. A pipe tells: the child inherits its writing end and never touches it, and the kernel closes it for the
//! child.
//!
//! ```text
//!   DroppedUnseen::new ── fork() ─────────── drop ─────────── child ends
//!     notes how many        child holds the     waits with       reading end says so:
//!     forks there were      writing end         the others       drop_unseen() drops it
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::ThreadId;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::is_abandoned;

/// Forks that were made.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Forks that are being made.
static FORKING: AtomicUsize = AtomicUsize::new(0);
static STATE: Mutex<State> = Mutex::new(State {
    forking: Vec::new(),
    children: Vec::new(),
    waiting: Vec::new(),
    alarm: None,
});

/// What [`set_alarm`] was given.
type Alarm = Arc<dyn Fn() + Send + Sync>;

struct State {
    forking: Vec<Forking>,
    children: Vec<Child>,
    waiting: Vec<Waiting>,
    alarm: Option<Alarm>,
}

/// A fork that a thread is about to make.
struct Forking {
    thread: ThreadId,
    /// None: there was no descriptor left.
    pipe: Option<(OwnedFd, OwnedFd)>,
}

/// A forked process that may be there, or have left processes of its own.
struct Child {
    /// How many forks there were with it.
    number: u64,
    /// None: its end will not be known.
    reader: Option<OwnedFd>,
}

/// Something that was dropped.
struct Waiting {
    /// How many forks there were when it was made: later children may see it.
    since: u64,
    thing: Box<dyn Send>,
}

/// Something whose drop waits until no forked child can see it. In such a child itself dropping does nothing.
#[derive(Debug)]
pub struct DroppedUnseen<T: Send + 'static> {
    thing: Option<T>,
    since: u64,
}

impl<T: Send + 'static> DroppedUnseen<T> {
    /// Children that were forked before now do not see it.
    pub fn new(thing: T) -> Self {
        Self {
            thing: Some(thing),
            since: FORKS.load(Ordering::Acquire),
        }
    }
}

impl<T: Send + 'static> std::ops::Deref for DroppedUnseen<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("taken by drop only")
    }
}

impl<T: Send + 'static> Drop for DroppedUnseen<T> {
    fn drop(&mut self) {
        let Some(thing) = self.thing.take() else {
            return;
        };
        if is_abandoned() {
            std::mem::forget(thing);
            return;
        }
        // A fork that begins after this look does not see it: nobody has it any more.
        let may_be_seen =
            FORKING.load(Ordering::Acquire) > 0 || FORKS.load(Ordering::Acquire) != self.since;
        if !may_be_seen {
            return;
        }
        let mut state = STATE.lock();
        state.waiting.push(Waiting {
            since: self.since,
            thing: Box::new(thing),
        });
        let alarm = state.alarm.clone();
        drop(state);
        if drop_unseen()
            && let Some(alarm) = alarm
        {
            alarm();
        }
    }
}

/// Sets what is called when something begins to wait for the end of a child: [`drop_unseen`] is to be called now and then.
pub fn set_alarm(alarm: impl Fn() + Send + Sync + 'static) {
    STATE.lock().alarm = Some(Arc::new(alarm));
}

/// The calling thread is about to fork.
pub fn before_fork() {
    if is_abandoned() {
        return;
    }
    let mut state = STATE.lock();
    // Not before somebody needs to know it: a process may fork often and drop nothing.
    state.children.retain(|child| !child.has_ended());
    FORKING.fetch_add(1, Ordering::AcqRel);
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok();
    state.forking.push(Forking {
        thread: std::thread::current().id(),
        pipe,
    });
}

/// The calling thread has forked, or failed to. For the parent.
pub fn after_fork_in_parent() {
    let mut state = STATE.lock();
    let own = std::thread::current().id();
    let Some(position) = state.forking.iter().position(|fork| fork.thread == own) else {
        return;
    };
    let reader = state
        .forking
        .remove(position)
        .pipe
        .map(|(reader, _)| reader);
    let number = FORKS.fetch_add(1, Ordering::AcqRel) + 1;
    state.children.push(Child { number, reader });
    FORKING.fetch_sub(1, Ordering::AcqRel);
}

/// Drops what no child can see any more. True: something is left that one may see.
pub fn drop_unseen() -> bool {
    // The child of a fork has copies, and maybe the locked lock.
    if is_abandoned() {
        return false;
    }
    let mut state = STATE.lock();
    if state.waiting.is_empty() || !state.forking.is_empty() {
        return !state.waiting.is_empty();
    }
    state.children.retain(|child| !child.has_ended());
    let newest = state.children.last().map_or(0, |child| child.number);
    let (seen, unseen): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting)
        .into_iter()
        .partition(|waiting| waiting.since < newest);
    state.waiting = seen;
    let is_left = !state.waiting.is_empty();
    drop(state);
    unseen.into_iter().for_each(|waiting| drop(waiting.thing));
    is_left
}

impl Child {
    /// Whether the writing end is closed everywhere.
    fn has_ended(&self) -> bool {
        let Some(reader) = &self.reader else {
            return false;
        };
        let mut polled = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::*;

    struct Noted(Arc<AtomicBool>);

    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn noted() -> (DroppedUnseen<Noted>, Arc<AtomicBool>) {
        let is_dropped = Arc::new(AtomicBool::new(false));
        (
            DroppedUnseen::new(Noted(Arc::clone(&is_dropped))),
            is_dropped,
        )
    }

    /// A child that sleeps until it is killed.
    #[allow(unsafe_code, reason = "there is no safe fork")]
    fn fork_sleeper() -> libc::pid_t {
        before_fork();
        // SAFETY: the child calls nothing but `pause`, which is safe after a fork of a process with threads.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            loop {
                // SAFETY: touches no memory.
                unsafe { libc::pause() };
            }
        }
        after_fork_in_parent();
        pid
    }

    #[allow(unsafe_code, reason = "the child was forked by hand")]
    fn end(pid: libc::pid_t) {
        // SAFETY: neither call touches memory but the null pointer, which is allowed.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }

    #[test]
    fn what_a_child_sees_is_dropped_when_the_child_has_ended() {
        let (before, is_before_dropped) = noted();
        let child = fork_sleeper();
        let (after, is_after_dropped) = noted();
        drop(after);
        assert!(is_after_dropped.load(Ordering::Acquire));
        drop(before);
        assert!(drop_unseen());
        assert!(!is_before_dropped.load(Ordering::Acquire));
        end(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while drop_unseen() {
            assert!(Instant::now() < deadline, "the child's end is not seen");
            std::thread::yield_now();
        }
        assert!(is_before_dropped.load(Ordering::Acquire));
    }
}
