//! What this machine is and has, as far as this process may use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::config::environment;
use sha2::{Digest, Sha256};

/// Identifies machine, boot and user: processes with the same one can reach each other's unix sockets and memory.
pub fn machine_id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    let digest = Sha256::digest(format!("{}|{}|{uid}", boot.trim(), host_name()));
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Name of the host, for people.
pub fn host_name() -> String {
    hostname::get().map_or_else(
        |_| "localhost".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What a process holds that is in no file, and in no memory that others may have mapped; what it has in common with the process that it
/// was forked from is among it. The kernel counts as it goes. `None`: it is gone.
pub fn anonymous_bytes(pid: u32) -> Option<u64> {
    anonymous_of(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)
}

/// What is resident without what is in files or may be mapped by others: the second number without the third.
fn anonymous_of(statm: &str) -> Option<u64> {
    let mut pages = statm.split_whitespace().skip(1);
    let resident: u64 = pages.next()?.parse().ok()?;
    let shared: u64 = pages.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// Whether a process has ended, and its parent has not yet asked how. `false` where the system does not tell.
pub fn is_unreaped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| state_of(&stat) == Some('Z'))
}

/// The letter behind the name, which is in parentheses and may have some itself.
fn state_of(stat: &str) -> Option<char> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.trim_start().chars().next()
}

/// The user's folder for what outlives a process and is no document; `None` for a user without a home.
pub fn state_dir() -> Option<PathBuf> {
    state_dir_of(environment("XDG_STATE_HOME"), environment("HOME"))
}

/// As the XDG base directory specification says: a relative path counts as none.
fn state_dir_of(state_home: Option<String>, home: Option<String>) -> Option<PathBuf> {
    let absolute = |path: Option<String>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(state_home).or_else(|| Some(absolute(home)?.join(".local").join("state")))
}

/// CPUs that this process may use: affinity mask and cgroup quota are respected. At least 1.
///
/// Asked of the system once: it reads three files for it, and forks of a zygote that has asked need not ask again.
pub fn cpu_count() -> u32 {
    static COUNT: OnceLock<u32> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cpus).unwrap_or(u32::MAX)
    })
}

/// Bytes of main memory that this process may use: the least of the machine's and the cgroup limits above it.
pub fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(Path::new("/sys/fs/cgroup"), &group)
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    machine.into_iter().chain(limits).min().unwrap_or(4 << 30)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Files that may hold a limit for the groups that `/proc/self/cgroup` names, from the process's group up to the root.
/// Inside a container the named group may not exist, while the root is the container's own group.
fn limit_files(root: &Path, groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for ancestor in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(base.join(ancestor).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_files_and_of_others_is_not_counted() {
        let page = rustix::param::page_size() as u64;
        assert_eq!(anonymous_of("900 100 30 1 0 60 0\n"), Some(70 * page));
        assert_eq!(anonymous_of(""), None);
    }

    #[test]
    fn state_of_a_process_stands_behind_its_name() {
        assert_eq!(state_of("7 (a) b) Z 1 7 7\n"), Some('Z'));
        assert_eq!(state_of("7 (a)"), None);
        assert!(!is_unreaped(std::process::id()), "it runs");
    }

    #[test]
    fn state_lies_where_the_environment_says() {
        let dir = |state: Option<&str>, home: Option<&str>| {
            state_dir_of(state.map(str::to_owned), home.map(str::to_owned))
        };
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(dir(Some("/s"), Some("/h")), path("/s"));
        assert_eq!(dir(None, Some("/h")), path("/h/.local/state"));
        assert_eq!(dir(Some("relative"), Some("/h")), path("/h/.local/state"));
        assert_eq!(dir(None, None), None);
    }

    #[test]
    fn this_machine_has_cpus_memory_and_a_stable_name() {
        assert!(cpu_count() >= 1 && memory_bytes() > 1 << 20);
        assert_eq!(machine_id(), machine_id());
        assert_eq!(machine_id().len(), 32);
    }

    #[test]
    fn memory_total_is_read_in_bytes() {
        assert_eq!(
            memory_total("MemTotal:       16 kB\nMemFree: 1 kB\n"),
            Some(16 << 10)
        );
        assert_eq!(memory_total("garbage"), None);
    }

    #[test]
    fn limits_of_all_parent_groups_count() {
        let root = Path::new("/c");
        assert_eq!(
            limit_files(root, "0::/a/b\n"),
            ["/c/a/b/memory.max", "/c/a/memory.max", "/c/memory.max"].map(PathBuf::from)
        );
        assert_eq!(
            limit_files(root, "5:cpu:/x\n4:memory:/y\n"),
            [
                "/c/memory/y/memory.limit_in_bytes",
                "/c/memory/memory.limit_in_bytes"
            ]
            .map(PathBuf::from)
        );
    }
}
