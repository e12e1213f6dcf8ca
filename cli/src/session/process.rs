//! Recognises a process again.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

/// A process, told from a later one that gets the same number by when it started (`SES-2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to its start; 0 where the system does not tell.
    pub started: u64,
}

impl ProcessMark {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            started: started(pid).unwrap_or(0),
        }
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        let Some(pid) = self.pid() else { return false };
        let exists = !matches!(test_kill_process(pid), Err(Errno::SRCH));
        // A zombie has ended.
        exists
            && started(self.pid).is_none_or(|started| started == self.started)
            && !is_zombie(self.pid)
    }

    /// Sends a signal, if it still runs.
    pub fn signal(self, signal: Signal) -> bool {
        self.is_alive()
            && self
                .pid()
                .is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    fn pid(self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
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

fn is_zombie(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_another_with_its_number_is_not() {
        let own = ProcessMark::own();
        assert!(own.is_alive());
        let other = ProcessMark {
            started: own.started + 1,
            ..own
        };
        assert!(!other.is_alive(), "SES-2");
        assert!(!other.signal(Signal::TERM));
    }

    #[test]
    fn ended_process_is_not_alive_even_as_a_zombie() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mark = ProcessMark {
            pid: child.id(),
            started: started(child.id()).unwrap_or(0),
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while mark.is_alive() {
            assert!(std::time::Instant::now() < deadline, "it should end");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!mark.is_alive());
    }
}
