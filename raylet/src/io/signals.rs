//! Kills processes.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Kills a worker and everything in its process group. A process that is gone already is no error.
pub(crate) fn kill_group(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let _ = kill_process_group(pid, Signal::KILL);
    // Between its fork and its own setpgid a worker is in no group of its own.
    let _ = kill_process(pid, Signal::KILL);
}
