//! The processes below the zygote: workers, and what they leave behind.
//!
//! Every worker takes in the orphans among its descendants, and the zygote those of dead workers. So whatever a worker has
//! started, in whichever session or process group, is a child of the zygote a moment after the worker's end, and goes.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use aktis_common::offspring::{children, kill_group};
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use super::memory::{MemoryWatch, resident_bytes};

/// How long processes get to disappear after they were killed.
const REAP_PATIENCE: Duration = Duration::from_secs(2);

/// A worker that ended.
pub(super) struct Ended {
    pub(super) pid: u32,
    pub(super) cause: String,
    pub(super) is_out_of_memory: bool,
    pub(super) is_killed: bool,
}

/// All children of this process.
#[derive(Default)]
pub(super) struct Children {
    /// Descriptors of the workers by process id, to be woken when one ends (none where the kernel has none).
    workers: HashMap<u32, Option<OwnedFd>>,
    /// Something of a dead worker may be left.
    has_orphans: bool,
    memory: MemoryWatch,
}

impl Children {
    /// A worker was forked.
    pub(super) fn insert(&mut self, pid: u32) {
        let watch =
            to_pid(pid).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        self.workers.insert(pid, watch);
    }

    /// What becomes readable when a worker ends.
    pub(super) fn watches(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.workers.values().flatten().map(AsFd::as_fd)
    }

    /// The workers that have ended since the last time. What they have left is killed.
    pub(super) fn reap(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.memory.look_again(Instant::now());
        while let Some(end) = wait_for_any() {
            if self.workers.remove(&end.pid).is_some() {
                kill_group(end.pid);
                ended.push(self.tell(&end));
            }
            // Also after the end of an orphan: its children are ours now.
            self.has_orphans = true;
        }
        self.kill_orphans();
        ended
    }

    fn tell(&mut self, end: &End) -> Ended {
        // Lines that workers print carry their process ids, lists of actors too.
        let cause = format!("{} (pid {})", describe(end.status), end.pid);
        let is_killed = end.status == Status::Killed(libc::SIGKILL);
        let workers = &self.workers;
        let rival_bytes = || {
            workers
                .keys()
                .copied()
                .map(resident_bytes)
                .max()
                .unwrap_or(0)
        };
        let figures = is_killed
            .then(|| {
                self.memory
                    .explain(end.peak_bytes, rival_bytes, Instant::now())
            })
            .flatten();
        Ended {
            pid: end.pid,
            is_killed,
            is_out_of_memory: figures.is_some(),
            cause: match figures {
                Some(figures) => format!("{cause} because memory ran out: {figures}"),
                None => cause,
            },
        }
    }

    /// Kills everything and waits, but not for ever.
    pub(super) fn kill_all(&mut self) {
        self.workers.keys().copied().for_each(kill_group);
        let give_up_at = Instant::now() + REAP_PATIENCE;
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => {
                    self.workers
                        .remove(&pid.as_raw_nonzero().get().unsigned_abs());
                }
                Ok(None) if Instant::now() >= give_up_at => return,
                Ok(None) => {
                    self.strangers().into_iter().for_each(kill_group);
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(_) => return,
            }
        }
    }

    fn kill_orphans(&mut self) {
        if self.has_orphans {
            let orphans = self.strangers();
            self.has_orphans = !orphans.is_empty();
            orphans.into_iter().for_each(kill_group);
        }
    }

    /// Children that are no workers. None where the kernel does not list them: there only process groups are ended.
    fn strangers(&self) -> Vec<u32> {
        children()
            .into_iter()
            .filter(|pid| !self.workers.contains_key(pid))
            .collect()
    }
}

/// The end of a child.
struct End {
    pid: u32,
    status: Status,
    /// The most memory that it held at a time.
    peak_bytes: u64,
}

/// A child that has ended, if there is one.
#[allow(
    unsafe_code,
    reason = "no safe call tells how much memory a child has used"
)]
fn wait_for_any() -> Option<End> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to places of the right types that live during the call.
    let pid = unsafe { libc::wait4(-1, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    // SAFETY: zeroed, which is a value of this type, and filled by the call that succeeded.
    let usage = unsafe { usage.assume_init() };
    Some(End {
        pid,
        status: Status::of(status),
        peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Exited(i32),
    Killed(i32),
}

impl Status {
    fn of(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Killed(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

fn describe(status: Status) -> String {
    match status {
        Status::Exited(code) => format!("exited with code {code}"),
        Status::Killed(signal) => describe_signal(signal),
    }
}

fn describe_signal(signal: i32) -> String {
    let name = match signal {
        libc::SIGILL => " (SIGILL)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGTERM => " (SIGTERM)",
        _ => "",
    };
    format!("was killed by signal {signal}{name}")
}
