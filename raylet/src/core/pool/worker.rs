//! One worker process, from the request to fork it until it is gone.
//!
//! ```text
//!      hello, lane open        assign             release
//!  Starting ───────► Idle ───────────────► Busy ───────────► Idle
//!     │                │ retire              │ retire
//!     │ overdue        ▼                     ▼
//!     └──────────► (removed) ◄── exit ── Retiring
//! ```
//! From `Retiring` it is removed when its process has ended, which is not when its connection has: until then it may write
//! into memory of the store and hold memory of GPUs.
//! From all but `Starting` it may become `Lingering`: it stays only for what it owns, and is never given away again.

use std::time::Instant;

use aktis_common::ids::{ActorId, JobId, WorkerId};

use super::Devices;
use crate::core::event::Exit;
use crate::core::keys::{ConnectionId, LeaseId, StartupToken};

/// What a worker is kept busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// It runs the tasks of the owner that holds this lease.
    Lease(LeaseId),
    /// It hosts an actor, under the lease that carries its resources.
    Actor(ActorId, LeaseId),
}

impl Duty {
    /// The lease under which the worker's resources are held.
    pub fn lease(self) -> LeaseId {
        match self {
            Self::Lease(lease) | Self::Actor(_, lease) => lease,
        }
    }
}

/// Where a worker stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Asked of the zygote; has not said hello, or takes no lanes yet.
    Starting {
        /// When it was asked for.
        since: Instant,
    },
    /// Connected and free.
    Idle {
        /// Since when.
        since: Instant,
    },
    /// Connected and given away.
    Busy(Duty),
    /// Asked or about to end.
    Retiring {
        /// When it was asked.
        since: Instant,
    },
    /// It runs nothing any more, and ends when nobody needs what it owns.
    Lingering,
}

/// One worker process.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its id, chosen by this raylet.
    pub id: WorkerId,
    /// The number of its start.
    pub token: StartupToken,
    /// Its process id and process group, once the zygote or its hello named it.
    pub pid: Option<u32>,
    /// Its connection, once it said hello.
    pub connection: Option<ConnectionId>,
    /// The one job it serves, once it was given away.
    pub job: Option<JobId>,
    /// The GPUs its process was told of; kept for life, because CUDA contexts are.
    pub devices: Devices,
    /// What it may hold of the machine's memory, as whoever had it last wanted it.
    pub memory_limit: Option<u64>,
    /// It lingers, and could not give the memory of its GPUs back.
    pub holds_devices: bool,
    /// Whether it ever was given away.
    pub has_served: bool,
    /// Other processes hold references to what it owns.
    pub is_lending: bool,
    /// Nobody needs what it owns: it is not to linger.
    pub is_dismissed: bool,
    /// Where it stands.
    pub state: WorkerState,
    /// Name of the actor class it hosts, for people.
    pub label: String,
    /// Why it was killed, if this raylet did it.
    pub kill_cause: Option<String>,
    /// It was killed because it held more memory than it may.
    pub is_overgrown: bool,
    /// How many of the pool's shared modules were there when it was forked.
    pub shared_modules: usize,
    /// Its connection has ended; its process may not have.
    pub is_cut_off: bool,
    /// How its process has ended, as the zygote says; its connection may not have.
    pub exit: Option<Exit>,
    /// It announced its end.
    pub is_leaving: bool,
    /// The gcs ends its actor for good.
    pub is_final: bool,
}

impl Worker {
    /// Whether this worker may be given to `job` with exactly these devices.
    ///
    /// A process that served another job has that job's modules and environment. A process that ran without GPUs may have
    /// initialised its frameworks for none, and one that saw GPUs keeps memory on them, as much as it had. What others have left in
    /// its memory is not held against who has a limit.
    pub fn suits(&self, job: JobId, devices: &Devices, memory_limit: Option<u64>) -> bool {
        let job_suits = self.job.is_none_or(|bound| bound == job);
        let devices_suit = self.devices == *devices || !self.has_served;
        let limit_suits =
            memory_limit.is_none() || memory_limit == self.memory_limit || !self.has_served;
        job_suits && devices_suit && limit_suits
    }

    /// Whether it was killed, asked to end, or has ended.
    pub fn is_doomed(&self) -> bool {
        let is_retiring = matches!(self.state, WorkerState::Retiring { .. });
        self.kill_cause.is_some() || self.exit.is_some() || is_retiring
    }

    /// What its log lines are headed with.
    pub fn source(&self) -> String {
        self.label.clone()
    }

    /// What it is busy with.
    pub fn duty(&self) -> Option<Duty> {
        match self.state {
            WorkerState::Busy(duty) => Some(duty),
            _ => None,
        }
    }
}
