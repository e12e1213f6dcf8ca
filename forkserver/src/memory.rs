//! Whether the kernel killed a process because memory ran out.
//!
//! The kernel does not say so to the parent, but counts: per cgroup, of either version, and for the machine. A process
//! that SIGKILL ended while the count grew is taken for its victim. The count of the machine is looked at only where no
//! cgroup has one, for it counts what happens in other containers, too.

use std::path::{Path, PathBuf};

use aktis_common::machine::memory_bytes;
use aktis_common::resources::format_bytes;

/// The count, as of the last look.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    source: Option<PathBuf>,
    seen: u64,
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
        Self { source, seen }
    }

    /// The figures, if a kill since the last look explains a process that held `peak_bytes` at most. One kill explains one
    /// process.
    pub(super) fn explain(&mut self, peak_bytes: u64) -> Option<String> {
        let now = self.source.as_deref().and_then(count)?;
        if now <= self.seen {
            return None;
        }
        self.seen += 1;
        Some(format!(
            "it held {} at its peak, and the processes of this node may have {} together",
            format_bytes(peak_bytes),
            format_bytes(memory_bytes())
        ))
    }
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

    #[test]
    fn a_kill_that_the_group_has_counted_explains_one_death() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("a").join("b");
        std::fs::create_dir_all(&group).unwrap();
        let events = group.join("memory.events");
        let say = |count: u32| {
            std::fs::write(&events, format!("low 0\nmax 3\noom 9\noom_kill {count}\n")).unwrap();
        };
        say(2);
        let mut watch = MemoryWatch::of(sources(folder.path(), "0::/a/b\n"));
        assert_eq!(watch.explain(1 << 30), None, "nothing was killed since");
        say(3);
        let figures = watch.explain(3 << 30).unwrap();
        assert!(
            figures.contains("3 GiB") || figures.contains("3.0 GiB"),
            "{figures}"
        );
        assert_eq!(watch.explain(1 << 30), None);
    }

    #[test]
    fn groups_of_version_1_count_in_another_file() {
        let root = Path::new("/c");
        let found = sources(root, "4:cpu:/x\n3:memory:/pod/1\n");
        assert_eq!(found[0], root.join("memory/pod/1/memory.oom_control"));
        assert_eq!(found[1], root.join("memory/memory.oom_control"));
    }
}
