//! What a process holds of the machine's memory.

use std::fs;
use std::time::Duration;

use aktis_common::ids::WorkerId;

/// What was measured of a worker that has a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) worker: WorkerId,
    pub(crate) pid: u32,
    /// Before.
    pub(crate) anonymous_bytes: u64,
    /// `None`: the process is gone.
    pub(crate) own_bytes: Option<u64>,
    pub(crate) took: Duration,
}

/// What a process holds for itself alone; `None` where nobody can tell. The kernel walks over all of its pages.
pub(crate) fn own_bytes(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    own_of(&rollup.ok()?)
}

/// Anonymous pages of its own, in memory and swapped out, or somewhat less. Its share of a page that it has in common with others is half at
/// most, so that twice the shares without the pages is no more than its own; and its own pages that were written are no more than those
/// of them that are in no shared memory.
fn own_of(rollup: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let by_shares = (2 * kib("Pss_Anon:")?).saturating_sub(kib("Anonymous:")?);
    let written = kib("Private_Dirty:")?.saturating_sub(kib("Pss_Shmem:")?);
    let own = by_shares.max(written);
    Some((own + kib("SwapPss:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use aktis_common::machine::anonymous_bytes;

    use super::*;

    #[test]
    fn memory_in_common_with_others_is_shared_out() {
        let rollup = |pss_anon: u32, pss_shmem: u32| {
            format!(
                "00-ff ---p 0 0 0 [rollup]\nRss: 900 kB\nPss: 500 kB\nPss_Anon:   {pss_anon} kB\n\
                 Pss_Shmem: {pss_shmem} kB\nPrivate_Dirty: 200 kB\nAnonymous: 400 kB\nSwapPss: 4 kB\n"
            )
        };
        // 200 kB of its own, and 200 kB that it has in common with one other, or with three.
        assert_eq!(own_of(&rollup(300, 0)), Some(204 << 10));
        assert_eq!(own_of(&rollup(250, 0)), Some(204 << 10));
        // What it alone has written of shared memory is not its own.
        assert_eq!(own_of(&rollup(225, 150)), Some(54 << 10));
        assert_eq!(own_of("Rss: 1 kB\n"), None, "an old kernel");
    }

    #[test]
    fn memory_of_this_process_is_counted() {
        let me = std::process::id();
        let both = || {
            (
                anonymous_bytes(me).expect("there"),
                own_bytes(me).expect("there"),
            )
        };
        let before = both();
        let held = vec![1_u8; 64 << 20];
        let after = both();
        // Other tests run beside this one.
        assert!(after.0 > before.0 + (32 << 20), "{before:?}, {after:?}");
        assert!(after.1 > before.1 + (32 << 20), "{before:?}, {after:?}");
        assert_eq!(
            (anonymous_bytes(u32::MAX), own_bytes(u32::MAX)),
            (None, None)
        );
        drop(held);
    }
}
