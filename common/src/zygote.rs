//! Messages between a raylet and the zygote that forks its workers.
//!
//! They travel as one JSON object per line over a socket pair. The zygote ends, kills its children and what they
//! started, and removes the folders it was told when the raylet's end closes, so that nothing outlives a killed raylet or driver.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Begins a line of a worker's log that names what prints the lines after it, instead of being printed itself.
pub const SOURCE_MARK: &str = "\u{1e}aktis source: ";

/// How a forked child becomes a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStart {
    /// Number under which the raylet awaits this worker's `Hello`.
    pub startup_token: u64,
    /// The worker's id, lower-case hexadecimal.
    pub worker_id: String,
    /// Unix socket of the raylet.
    pub raylet_socket: PathBuf,
    /// Environment variables to set before user code runs.
    pub env: BTreeMap<String, String>,
    /// Python modules to import before the fork, unless they are there: this worker and all later ones share them.
    #[serde(default)]
    pub shared_modules: Vec<String>,
    /// File that receives standard output; standard error goes to the same name with `.err` in place of `.out`.
    pub stdout_path: PathBuf,
}

/// Raylet to zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ZygoteRequest {
    /// Fork a worker.
    Fork(WorkerStart),
    /// Import these modules when idle, so that later forks share their pages.
    Preload {
        /// Python module names.
        modules: Vec<String>,
    },
}

/// Zygote to raylet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ZygoteReply {
    /// The zygote is up.
    Ready {
        /// Its process id.
        pid: u32,
    },
    /// A worker process exists.
    Forked {
        /// From the request.
        startup_token: u64,
        /// The worker's process id, also its process group.
        pid: u32,
    },
    /// Fork failed.
    ForkFailed {
        /// From the request.
        startup_token: u64,
        /// What the system said.
        error: String,
    },
    /// A worker process ended.
    Exited {
        /// Its process id.
        pid: u32,
        /// "exited with code 1 (pid 7)" or "was killed by signal 9 (SIGKILL) (pid 7)".
        cause: String,
        /// The kernel took it because memory ran out; `cause` has the figures.
        #[serde(default)]
        is_out_of_memory: bool,
        /// By SIGKILL: nothing that it did itself has ended it.
        #[serde(default)]
        is_killed: bool,
    },
}
