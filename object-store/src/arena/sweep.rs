//! Names of shared segments, and removing those whose owner is dead.
//!
//! A named segment outlives a process that is killed. Its name therefore says who made it:
//! `/aktis-<pid>-<start time>-<pid namespace>-<number>`. Process ids are used again, but not with
//! the same start time. Only Linux lists its segments; elsewhere nothing is swept.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

const SEGMENT_FOLDER: &str = "/dev/shm";
const PREFIX: &str = "aktis-";

/// A name for a new segment of this process.
pub(super) fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or(0);
    let namespace = pid_namespace().unwrap_or(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("/{PREFIX}{pid}-{start}-{namespace}-{number}")
}

/// Removes the segments of processes that are dead; returns how many. Segments of other users,
/// and of processes that cannot be seen from here, are left alone.
pub fn sweep_stale() -> usize {
    let Ok(entries) = std::fs::read_dir(SEGMENT_FOLDER) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_stale))
        .filter(|entry| std::fs::remove_file(entry.path()).is_ok())
        .count()
}

fn is_stale(file_name: &str) -> bool {
    let Some((pid, start, namespace)) = parse(file_name) else {
        return false;
    };
    pid_namespace() == Some(namespace) && start_time(pid) != Some(start)
}

fn parse(file_name: &str) -> Option<(u32, u64, u64)> {
    let mut fields = file_name.strip_prefix(PREFIX)?.split('-');
    let pid = fields.next()?.parse().ok()?;
    let start = fields.next()?.parse().ok()?;
    let namespace = fields.next()?.parse().ok()?;
    let _number: u32 = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some((pid, start, namespace))
}

/// When a process started, in ticks since boot. `None` if there is no such process, or if it is
/// dead and only waits to be reaped.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses, and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22 counted from 1; `state` was field 3.
    fields.nth(18)?.parse().ok()
}

fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(
        std::fs::metadata(Path::new("/proc/self/ns/pid"))
            .ok()?
            .ino(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_process() {
        let name = fresh_name();
        let (pid, start, _) = parse(&name[1..]).unwrap();
        assert_eq!((pid, Some(start)), (std::process::id(), start_time(pid)));
        assert!(!is_stale(&name[1..]));
    }

    #[test]
    fn a_reused_process_id_does_not_keep_a_segment() {
        let pid = std::process::id();
        let namespace = pid_namespace().unwrap();
        let start = start_time(pid).unwrap();
        assert!(is_stale(&format!(
            "aktis-{pid}-{}-{namespace}-0",
            start + 1
        )));
    }

    #[test]
    fn foreign_names_are_left_alone() {
        for name in [
            "aktis-",
            "aktis-1-2-3",
            "other-1-2-3-4",
            "aktis-1-2-3-4-5",
            "aktis-x-2-3-4",
        ] {
            assert!(!is_stale(name), "{name}");
        }
    }
}
