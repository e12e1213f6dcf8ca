//! What a raylet asks of the system about processes, and what answers in its place in a test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Command, Stdio};

use aktis_common::config::secret_variables;
use aktis_common::ids::NodeId;
use aktis_common::offspring;
use rustix::process::{Pid as ProcessId, PidfdFlags, pidfd_open};
use tokio::net::unix::pipe;

use crate::io::held;
use crate::io::orphans::{self, NODE_VARIABLE};

/// How a zygote is started.
#[derive(Debug, Clone)]
pub struct ZygoteCommand {
    /// The node that it is of.
    pub node: NodeId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment variables in addition to this process's.
    pub env: BTreeMap<String, String>,
    /// Folders that it removes when its socket closes, in this order.
    pub cleanup_dirs: Vec<PathBuf>,
    /// Where its own output goes.
    pub log_path: PathBuf,
}

/// A zygote that was started.
pub struct StartedZygote {
    /// Its process id, also its process group.
    pub pid: u32,
    /// Requests go in, replies come out. It ends when this closes.
    pub stream: UnixStream,
    /// Its end, in words. Polled on a tokio runtime, and again after a kill.
    pub end: Pin<Box<dyn Future<Output = String> + Send>>,
}

/// Starts zygotes, and ends processes that they forked.
pub trait Processes: fmt::Debug + Send + Sync + 'static {
    /// Starts a zygote.
    ///
    /// # Errors
    /// When the program cannot be run.
    fn start_zygote(&self, command: &ZygoteCommand) -> io::Result<StartedZygote>;

    /// The end of a process that lives, or ended a moment ago. At once where it cannot be watched.
    fn ended(&self, _pid: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }

    /// Whether a process has ended, and its parent has not yet asked how. Cheap; false where nobody can tell.
    fn has_ended(&self, _pid: u32) -> bool {
        false
    }

    /// A zygote of this node has died, and its workers die with it: ends what they leave behind.
    fn end_orphans(&self, _node: NodeId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }

    /// Bytes of memory that a process holds and that are in no file, with those that it was forked with. `None` where nobody can tell, or
    /// it is gone. Cheap.
    fn anonymous_bytes(&self, _pid: u32) -> Option<u64> {
        None
    }

    /// Those that it holds for itself alone: what it shares with others, as objects of the store or what it was forked with, is not its
    /// own. Takes its time.
    fn own_bytes(&self, _pid: u32) -> Option<u64> {
        None
    }

    /// Kills a process and everything in its process group. One that is gone already is no error.
    fn kill_group(&self, pid: u32);
}

/// Processes of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemProcesses {
    takes_in_orphans: bool,
}

impl SystemProcesses {
    /// Those of a daemon, which has no children but zygotes and what comes to it as an orphan.
    pub fn of_daemon() -> Self {
        orphans::take_in();
        Self {
            takes_in_orphans: true,
        }
    }
}

impl Processes for SystemProcesses {
    fn start_zygote(&self, command: &ZygoteCommand) -> io::Result<StartedZygote> {
        let (program, arguments) = command.command.split_first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the zygote command is empty")
        })?;
        let (ours, theirs) = UnixStream::pair()?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&command.log_path)?;
        let mut zygote = Command::new(program);
        for secret in secret_variables() {
            zygote.env_remove(secret);
        }
        let cleanup = command.cleanup_dirs.iter();
        let mut child = zygote
            .args(arguments)
            .args(cleanup.flat_map(|folder| [OsStr::new("--cleanup-dir"), folder.as_os_str()]))
            .envs(&command.env)
            .env(NODE_VARIABLE, command.node.to_string())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(log.try_clone()?)
            .stderr(log)
            // Not in the terminal's group: Ctrl-C is for the driver.
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        let end = async move {
            // A thread of its own sees the end at once.
            match tokio::task::spawn_blocking(move || child.wait()).await {
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => format!("cannot be waited for: {error}"),
                Err(error) => format!("cannot be waited for: {error}"),
            }
        };
        Ok(StartedZygote {
            pid,
            stream: ours,
            end: Box::pin(end),
        })
    }

    fn ended(&self, pid: u32) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let pid = i32::try_from(pid).ok().and_then(ProcessId::from_raw);
        // Opened now: later the number may be another process's.
        let watch = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Box::pin(async move {
            // Nothing is read: all that is asked is when it becomes readable, which is the same for every descriptor.
            if let Some(Ok(watch)) = watch.map(pipe::Receiver::from_owned_fd_unchecked) {
                let _ = watch.readable().await;
            }
        })
    }

    fn has_ended(&self, pid: u32) -> bool {
        aktis_common::machine::is_unreaped(pid)
    }

    fn end_orphans(&self, node: NodeId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.takes_in_orphans {
            Box::pin(orphans::end_all(node))
        } else {
            Box::pin(std::future::ready(()))
        }
    }

    fn anonymous_bytes(&self, pid: u32) -> Option<u64> {
        aktis_common::machine::anonymous_bytes(pid)
    }

    fn own_bytes(&self, pid: u32) -> Option<u64> {
        held::own_bytes(pid)
    }

    fn kill_group(&self, pid: u32) {
        offspring::kill_group(pid);
    }
}
