//! Recognises a process again.

use std::os::unix::fs::MetadataExt;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process: told from a later one that gets the same number by when it started, and from one of another container or machine
/// by where its number means something (`SES-2`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to its start; 0 where the system does not tell.
    pub started: u64,
    /// The boot of the machine it runs on.
    #[serde(default)]
    pub boot_id: String,
    /// The pid namespace in which it has its number.
    #[serde(default)]
    pub pid_namespace: u64,
}

impl ProcessMark {
    /// This process.
    pub fn own() -> Self {
        Self::of(std::process::id())
    }

    fn of(pid: u32) -> Self {
        Self {
            pid,
            started: started(pid).unwrap_or(0),
            boot_id: boot_id(),
            pid_namespace: pid_namespace(),
        }
    }

    /// Whether its number means something here: same machine, same boot, same pid namespace.
    pub fn is_here(&self) -> bool {
        self.boot_id == boot_id() && self.pid_namespace == pid_namespace()
    }

    /// Whether it still runs, as far as that can be seen from here: a process elsewhere cannot.
    pub fn is_running(&self) -> bool {
        self.is_here()
            && stat_fields(self.pid).is_some_and(|fields| {
                // A zombie has ended.
                fields
                    .first()
                    .is_some_and(|state| state != "Z" && state != "X")
                    && fields.get(19).and_then(|ticks| ticks.parse().ok()) == Some(self.started)
            })
    }

    /// Sends a signal, if it still runs, here, as this user.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        // From here on the descriptor means one process, whatever becomes of the number; then one looks which.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        self.is_running()
            && user_of(self.pid) == Some(rustix::process::geteuid().as_raw())
            && pidfd_send_signal(&process, signal).is_ok()
    }
}

/// Fields of `/proc/<pid>/stat` from the third on: the second, the name, may hold anything.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn started(pid: u32) -> Option<u64> {
    stat_fields(pid)?.get(19)?.parse().ok()
}

fn user_of(pid: u32) -> Option<u32> {
    Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_runs_and_another_with_its_number_does_not() {
        let own = ProcessMark::own();
        assert!(own.is_running());
        let others = [
            ProcessMark {
                started: own.started + 1,
                ..own.clone()
            },
            ProcessMark {
                pid_namespace: own.pid_namespace + 1,
                ..own.clone()
            },
            ProcessMark {
                boot_id: "another boot".to_owned(),
                ..own
            },
        ];
        for other in others {
            assert!(!other.is_running(), "SES-2: {other:?}");
            assert!(!other.signal(Signal::TERM), "SES-2: {other:?}");
        }
    }

    #[test]
    fn ended_process_does_not_run_even_as_a_zombie() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mark = ProcessMark::of(child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while mark.is_running() {
            assert!(std::time::Instant::now() < deadline, "it should end");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!mark.is_running());
    }
}
