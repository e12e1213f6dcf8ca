//! Whether the kernel killed a process because memory ran out.
//!
//! The kernel does not say so to the parent, but counts: per cgroup, of either version, and for the machine. The count is looked
//! at all the time, so it is known about when it grew. A process that SIGKILL ended then is taken for the victim if the kernel
//! could have chosen it, which takes the largest: a kill of something else in the group, or one of long ago, explains nothing.
//! The count of the machine is looked at only where no cgroup has one, for it counts what happens in other containers, too.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aktis_common::machine::memory_bytes;
use aktis_common::resources::format_bytes;

/// How long a process that the kernel kills may take to be gone: large ones take a while.
const DYING: Duration = Duration::from_secs(10);

/// How often it is looked at, at least.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The count, as of the last look, and what it tells.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    source: Option<PathBuf>,
    seen: u64,
    looked_at: Option<Instant>,
    /// When kills were noticed that have not explained a death.
    kills: VecDeque<Instant>,
}

impl Default for MemoryWatch {
    fn default() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let vmstat = PathBuf::from("/proc/vmstat");
        let mut sources = sources(Path::new("/sys/fs/cgroup"), &groups);
        sources.push(vmstat);
        Self::of(sources)
    }
}

impl MemoryWatch {
    fn of(sources: Vec<PathBuf>) -> Self {
        let source = sources.into_iter().find(|source| count(source).is_some());
        let seen = source.as_deref().and_then(count).unwrap_or(0);
        Self {
            source,
            seen,
            looked_at: None,
            kills: VecDeque::new(),
        }
    }

    /// [`Self::look`], if the last one is a while ago.
    pub(super) fn look_again(&mut self, now: Instant) {
        if self.looked_at.is_none_or(|at| at + LOOK_PAUSE <= now) {
            self.look(now);
        }
    }

    /// Looks whether the kernel has killed something.
    fn look(&mut self, now: Instant) {
        self.looked_at = Some(now);
        let count = self.source.as_deref().and_then(count).unwrap_or(self.seen);
        for _ in self.seen..count {
            self.kills.push_back(now);
        }
        self.seen = count;
        while self.kills.front().is_some_and(|at| *at + DYING < now) {
            self.kills.pop_front();
        }
    }

    /// The figures, if a kill explains the end of a process that held `peak_bytes` at most, beside others the largest of which
    /// holds `rival_bytes`. One kill explains one process.
    pub(super) fn explain(
        &mut self,
        peak_bytes: u64,
        rival_bytes: impl FnOnce() -> u64,
        now: Instant,
    ) -> Option<String> {
        self.look(now);
        // A rival may have grown since.
        if self.kills.is_empty() || peak_bytes < rival_bytes() / 2 {
            return None;
        }
        self.kills.pop_front();
        Some(format!(
            "it held {} at its peak, and the processes of this node may have {} together",
            format_bytes(peak_bytes),
            format_bytes(memory_bytes())
        ))
    }
}

/// Memory that a process holds now.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Where kills are counted for the cgroup of this process: version 2, then version 1, each also where a container sees
/// its own group as the root.
fn sources(root: &Path, groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.oom_control")
            }
            _ => continue,
        };
        found.push(folder.join(path).join(file));
        found.push(folder.join(file));
    }
    found
}

/// The number behind `oom_kill` in a file of such lines.
fn count(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, number) = lines.find(|(name, _)| *name == "oom_kill")?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group whose count the test says.
    struct Group {
        folder: tempfile::TempDir,
        watch: MemoryWatch,
        now: Instant,
    }

    impl Group {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
            say(folder.path(), 2);
            let watch = MemoryWatch::of(sources(folder.path(), "0::/a/b\n"));
            let now = Instant::now();
            Self { folder, watch, now }
        }

        fn counts(&self, count: u32) {
            say(self.folder.path(), count);
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.watch.look(self.now);
        }

        fn explains(&mut self, peak_bytes: u64, rival_bytes: u64) -> Option<String> {
            self.watch.explain(peak_bytes, || rival_bytes, self.now)
        }
    }

    fn say(root: &Path, count: u32) {
        let text = format!("low 0\nmax 3\noom 9\noom_kill {count}\n");
        std::fs::write(root.join("a/b/memory.events"), text).unwrap();
    }

    #[test]
    fn a_kill_that_the_group_has_counted_explains_one_death() {
        let mut group = Group::new();
        assert_eq!(group.explains(1 << 30, 0), None, "nothing was killed since");
        group.counts(3);
        let figures = group.explains(3 << 30, 1 << 30).unwrap();
        assert!(
            figures.contains("3 GiB") || figures.contains("3.0 GiB"),
            "{figures}"
        );
        assert_eq!(group.explains(1 << 30, 0), None);
    }

    #[test]
    fn kill_of_long_ago_does_not_explain_a_death() {
        let mut group = Group::new();
        group.counts(3);
        group.pass(Duration::from_secs(1));
        group.pass(DYING);
        assert!(
            group.explains(1 << 30, 0).is_some(),
            "a large one dies slowly"
        );
        group.counts(4);
        group.pass(Duration::from_secs(1));
        group.pass(DYING + Duration::from_secs(1));
        assert_eq!(group.explains(1 << 30, 0), None);
    }

    #[test]
    fn process_that_the_kernel_would_not_have_chosen_is_not_its_victim() {
        let mut group = Group::new();
        group.counts(3);
        assert_eq!(group.explains(10 << 20, 1 << 30), None);
        assert!(group.explains(2 << 30, 1 << 30).is_some());
    }

    #[test]
    fn memory_of_a_process_is_known() {
        assert!(resident_bytes(std::process::id()) > 1 << 20);
    }

    #[test]
    fn groups_of_version_1_count_in_another_file() {
        let root = Path::new("/c");
        let found = sources(root, "4:cpu:/x\n3:memory:/pod/1\n");
        assert_eq!(found[0], root.join("memory/pod/1/memory.oom_control"));
        assert_eq!(found[1], root.join("memory/memory.oom_control"));
    }
}
