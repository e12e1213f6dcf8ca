//! What a process holds of the machine's memory.

use std::fs;

/// Bytes that a process holds for itself alone; `None` where nobody can tell. Exact only if it is more than `above`.
///
/// Its anonymous pages are cheap to count, but those that it has in common with the process that it was forked from are among them.
/// Only where they are too many the kernel is asked to walk over all of them, which shares them out.
pub(crate) fn held_bytes(pid: u32, above: u64) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let most = anonymous_bytes(&statm)?;
    if most <= above {
        return Some(most);
    }
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    own_bytes(&rollup.ok()?)
}

/// What is resident and in no file, and in no memory that others may have mapped: the second number without the third.
fn anonymous_bytes(statm: &str) -> Option<u64> {
    let mut pages = statm.split_whitespace().skip(1);
    let resident: u64 = pages.next()?.parse().ok()?;
    let shared: u64 = pages.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// Anonymous pages of its own, in memory and swapped out, or somewhat less. Its share of a page that it has in common with others is half at
/// most, so that twice the shares without the pages is no more than its own; and its own pages that were written are no more than those
/// of them that are in no shared memory.
fn own_bytes(rollup: &str) -> Option<u64> {
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
    use super::*;

    #[test]
    fn memory_in_files_and_of_others_is_not_counted() {
        let page = rustix::param::page_size() as u64;
        assert_eq!(anonymous_bytes("900 100 30 1 0 60 0\n"), Some(70 * page));
        assert_eq!(anonymous_bytes(""), None);
        let rollup = |pss_anon: u32, pss_shmem: u32| {
            format!(
                "00-ff ---p 0 0 0 [rollup]\nRss: 900 kB\nPss: 500 kB\nPss_Anon:   {pss_anon} kB\n\
                 Pss_Shmem: {pss_shmem} kB\nPrivate_Dirty: 200 kB\nAnonymous: 400 kB\nSwapPss: 4 kB\n"
            )
        };
        // 200 kB of its own, and 200 kB that it has in common with one other, or with three.
        assert_eq!(own_bytes(&rollup(300, 0)), Some(204 << 10));
        assert_eq!(own_bytes(&rollup(250, 0)), Some(204 << 10));
        // What it alone has written of shared memory is not its own.
        assert_eq!(own_bytes(&rollup(225, 150)), Some(54 << 10));
        assert_eq!(own_bytes("Rss: 1 kB\n"), None, "an old kernel");
    }

    #[test]
    fn memory_of_this_process_is_counted() {
        let before = held_bytes(std::process::id(), 0).expect("there is a /proc");
        let held = vec![1_u8; 64 << 20];
        let after = held_bytes(std::process::id(), 0).expect("there is a /proc");
        // Other tests run beside this one.
        assert!(after > before + (32 << 20), "{before}, {after}");
        assert_eq!(held_bytes(u32::MAX, 0), None);
        drop(held);
    }
}
