//! The children of a process, and their ends.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The children of this process; none where the kernel does not list them.
pub fn children() -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids = |listed: String| -> Vec<u32> {
        let words = listed.split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    lists.flat_map(pids).collect()
}

/// Kills a process and everything in its group. What is gone already is no error.
pub fn kill_group(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let _ = kill_process_group(pid, Signal::KILL);
    // Between its fork and its own setpgid a process is in no group of its own.
    let _ = kill_process(pid, Signal::KILL);
}
