//! How a store is set up.

use std::path::PathBuf;
use std::time::Duration;

use aktis_common::checks::Rhythm;

/// Ray's bounds, which people know: 30 % of memory, at least 75 MB, at most 200 GB.
const CAPACITY_SHARE_PERCENT: u64 = 30;
const MIN_CAPACITY_BYTES: u64 = 75_000_000;
const MAX_CAPACITY_BYTES: u64 = 200_000_000_000;

/// Where the arena's memory comes from; see [`crate::arena`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArenaBackend {
    /// A memory file: Linux only.
    Memfd,
    /// A named segment.
    Named,
    /// Memory of this process only.
    ProcessLocal,
}

impl Default for ArenaBackend {
    fn default() -> Self {
        if cfg!(target_os = "linux") {
            ArenaBackend::Memfd
        } else {
            ArenaBackend::Named
        }
    }
}

/// The settings of one store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreConfig {
    /// Size of the arena. It costs memory only as far as it is used.
    pub capacity_bytes: u64,
    /// Where its memory comes from.
    pub backend: ArenaBackend,
    /// A folder that only this store uses; it is made if need be. `None` turns spilling off.
    pub spill_dir: Option<PathBuf>,
    /// The most that may lie in spill files; `None` is no limit but the disk.
    pub spill_limit_bytes: Option<u64>,
    /// Spilling takes at least this much at a time (at most an eighth of the capacity).
    pub min_spill_batch_bytes: u64,
    /// Small objects are fused into files of at most this size.
    pub max_spill_file_bytes: u64,
    /// Spilling stops when less than this share of the disk would be left, or less than `min_free_disk_bytes`, whichever
    /// is smaller: a twentieth of a large disk is more than anything else on it will ever ask for.
    pub min_free_disk_fraction: f64,
    /// The most that is kept free, however large the disk is.
    pub min_free_disk_bytes: u64,
    /// Threads that read and write spill files.
    pub io_threads: usize,
    /// For how long a request waits for clients to let go of objects, when nothing can be
    /// evicted or spilled any more, before it fails.
    pub full_grace: Duration,
    /// After how long unused memory is given back to the system. `Duration::MAX` never does, which
    /// is needed where the arena is registered with a device: the device would go on using the
    /// pages that were given back.
    pub idle_discard_after: Duration,
    /// The most memory that is made ready ahead of its use (at most an eighth of the capacity).
    pub max_prefault_bytes: u64,
    /// How often the store checks its own state.
    pub checks: Rhythm,
}

impl StoreConfig {
    /// The defaults for a store of this size, without spilling.
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            backend: ArenaBackend::default(),
            spill_dir: None,
            spill_limit_bytes: None,
            min_spill_batch_bytes: 100_000_000,
            max_spill_file_bytes: 64_000_000,
            min_free_disk_fraction: 0.05,
            min_free_disk_bytes: 4 << 30,
            io_threads: 2,
            full_grace: Duration::from_secs(5),
            idle_discard_after: Duration::from_secs(30),
            max_prefault_bytes: 512 << 20,
            checks: Rhythm::default(),
        }
    }
}

/// The capacity of a store for which none is given: 30 % of this machine's memory, or of its
/// control group's if that has less; at least 75 MB, at most 200 GB.
pub fn default_capacity_bytes() -> u64 {
    capacity_for(memory_bytes())
}

fn capacity_for(memory_bytes: u64) -> u64 {
    (memory_bytes / 100 * CAPACITY_SHARE_PERCENT).clamp(MIN_CAPACITY_BYTES, MAX_CAPACITY_BYTES)
}

/// Memory that this process may use: the machine's, or a smaller limit of a control group.
fn memory_bytes() -> u64 {
    cgroup::limit_bytes().map_or(physical_bytes(), |limit| limit.min(physical_bytes()))
}

#[allow(unsafe_code, reason = "asks the system for two numbers")]
fn physical_bytes() -> u64 {
    // SAFETY: no memory is passed.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).unwrap_or(0) * crate::arena::page_bytes()
}

mod cgroup {
    //! Memory limits of the control groups that this process is in.

    use std::path::{Path, PathBuf};

    /// The smallest limit of this process's groups and their parents.
    pub(super) fn limit_bytes() -> Option<u64> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        limit_under(Path::new("/sys/fs/cgroup"), &groups)
    }

    /// `groups` has lines `id:controllers:path`; version 2 has one line, without controllers.
    pub(super) fn limit_under(root: &Path, groups: &str) -> Option<u64> {
        let folders = groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let controllers = fields.nth(1)?;
            let path = fields.next()?.trim_start_matches('/');
            match controllers {
                "" => Some((root.to_owned(), root.join(path), "memory.max")),
                c if c.split(',').any(|name| name == "memory") => {
                    let root = root.join("memory");
                    Some((root.clone(), root.join(path), "memory.limit_in_bytes"))
                }
                _ => None,
            }
        });
        folders
            .flat_map(|(root, folder, file)| limits_up_to(&root, &folder, file))
            .min()
    }

    fn limits_up_to(root: &Path, folder: &Path, file: &str) -> Vec<u64> {
        let folders = folder
            .ancestors()
            .take_while(|ancestor| ancestor.starts_with(root));
        folders
            .filter_map(|ancestor| read_limit(ancestor.join(file)))
            .collect()
    }

    /// A missing file and the word `max` are no limit.
    fn read_limit(path: PathBuf) -> Option<u64> {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_a_share_of_memory_within_bounds() {
        assert_eq!(capacity_for(0), 75_000_000);
        assert_eq!(capacity_for(10_000_000_000), 3_000_000_000);
        assert_eq!(capacity_for(u64::MAX), 200_000_000_000);
        assert!((75_000_000..=200_000_000_000).contains(&default_capacity_bytes()));
    }

    #[test]
    fn the_tightest_control_group_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("pod/box");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(root.path().join("pod/memory.max"), "500\n").unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(cgroup::limit_under(root.path(), "0::/pod/box\n"), Some(500));
        assert_eq!(cgroup::limit_under(root.path(), "0::/\n"), None);
    }

    #[test]
    fn limits_of_version_1_groups_count() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("memory/job");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("memory.limit_in_bytes"), "700\n").unwrap();
        let groups = "5:cpu,cpuacct:/job\n4:memory:/job\n";
        assert_eq!(cgroup::limit_under(root.path(), groups), Some(700));
    }
}
