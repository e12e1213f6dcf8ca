//! The worker processes of this node: how many, in which state, and when to fork or retire one.
//!
//! Owns: the state of every worker process. Does not own: who may have one (the lease table decides), processes and
//! sockets themselves.
//!
//! Invariants
//! - `POOL-1 (idle-is-connected)`: a worker on the idle stack is in state `Idle` and has a connection.
//! - `POOL-2 (one-job)`: the job of a worker never changes once set.
//! - `POOL-3 (gpus-for-life)`: the GPUs of a worker, and its share of them, never change after it has served.
//! - `POOL-4 (modules-only-grow)`: modules that were shared once are shared by all workers started later.
//! - `POOL-5 (vacated-first)`, [`devices`]
//! - `POOL-6 (one-under-each-name)`: each worker is found by its id, its token and, once that is known, its process; those that
//!   are starting are counted.

mod check;
mod devices;
mod ending;
mod seating;
mod starting;
mod worker;

use std::time::{Duration, Instant};

use aktis_common::ids::WorkerId;
use rustc_hash::FxHashMap;

pub use self::devices::{Devices, DevicesInUse};
pub use self::seating::{Guest, Offer, Seat, Wish};
pub use self::worker::{Duty, Worker, WorkerState};
use crate::core::event::Exit;
use crate::core::keys::{ConnectionId, LeaseId, StartupToken};

/// How many workers to keep, and how long.
#[derive(Debug, Clone)]
pub struct PoolLimits {
    /// Idle workers kept ready once leases are being asked for.
    pub warm_max: usize,
    /// Time within which a worker must say hello and take lanes.
    pub start_timeout: Duration,
    /// Idle time after which a worker beyond `warm_max` is retired, also one that has served.
    pub idle_timeout: Duration,
    /// Time between the request to end and the kill.
    pub exit_grace: Duration,
    /// Pause of prestarting after a worker could not start.
    pub failure_pause: Duration,
    /// Workers being started at the same time.
    pub max_starting: usize,
}

/// A worker to ask of the zygote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StartingWorker {
    /// The number it must name in its hello.
    token: StartupToken,
    worker: WorkerId,
}

/// What happens to workers.
#[derive(Debug)]
pub enum PoolEvent {
    /// A worker could not be started.
    StartFailed {
        /// The worker.
        worker: WorkerId,
        /// Why.
        cause: String,
    },
    /// None can be started.
    NoneCanStart {
        /// Why.
        cause: String,
    },
    /// One that has served has lost its connection, and will end.
    CutOff(Box<Worker>),
    /// The connection and the process of a worker have ended: what it held is free (`NODE-2`).
    Ended {
        /// The worker.
        worker: WorkerId,
        /// How.
        exit: Exit,
    },
    /// A worker runs nothing any more, and stays for what it owns.
    Lingers {
        /// The worker.
        worker: WorkerId,
        /// It may still use memory of its GPUs.
        holds_devices: bool,
        /// Why it runs nothing any more.
        cause: String,
        /// It said so itself before.
        is_intended: bool,
    },
}

/// What the passing of time asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct PoolChores {
    /// Workers that were not ready in time.
    overdue: Vec<WorkerId>,
    /// Idle workers to ask to end.
    surplus: Vec<WorkerId>,
    /// Workers that were asked to end and did not.
    stubborn: Vec<WorkerId>,
}

/// All worker processes of the node.
#[derive(Debug)]
pub struct WorkerPool {
    limits: PoolLimits,
    id_prefix: [u8; 8],
    next_token: u64,
    workers: FxHashMap<WorkerId, Worker>,
    by_token: FxHashMap<StartupToken, WorkerId>,
    by_pid: FxHashMap<u32, WorkerId>,
    /// The most recently used at the end: its caches are warm.
    idle: Vec<WorkerId>,
    starting: usize,
    warm_target: usize,
    paused_until: Option<Instant>,
    /// Python modules that new workers share; only ever longer, so that a worker's are the first so many of these.
    shared_modules: Vec<String>,
    /// Zygotes that could not be started, one after the other.
    zygote_failures: u32,
    /// Workers that were killed as they started, one after the other.
    kills_at_start: u32,
}

impl WorkerPool {
    /// An empty pool. Ids of its workers begin with `id_prefix`.
    pub fn new(limits: PoolLimits, id_prefix: [u8; 8]) -> Self {
        Self {
            warm_target: limits.warm_max.min(1),
            limits,
            id_prefix,
            next_token: 1,
            workers: FxHashMap::default(),
            by_token: FxHashMap::default(),
            by_pid: FxHashMap::default(),
            idle: Vec::new(),
            starting: 0,
            paused_until: None,
            shared_modules: Vec::new(),
            zygote_failures: 0,
            kills_at_start: 0,
        }
    }

    /// The worker with this id.
    pub fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    /// The worker with this process id.
    pub fn by_pid(&self, pid: u32) -> Option<&Worker> {
        self.workers.get(self.by_pid.get(&pid)?)
    }

    /// The worker that was started under this number.
    fn by_token(&self, token: StartupToken) -> Option<&Worker> {
        self.workers.get(self.by_token.get(&token)?)
    }

    /// The lease under which a worker is busy.
    pub fn lease_of(&self, worker: WorkerId) -> Option<LeaseId> {
        self.get(worker)?.duty().map(Duty::lease)
    }

    /// All workers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Workers that are being started.
    #[cfg(test)]
    fn starting_count(&self) -> usize {
        self.starting
    }

    /// Leases are being asked for: from now on as many idle workers as CPUs are kept.
    pub fn note_demand(&mut self) {
        self.warm_target = self.limits.warm_max;
    }

    /// Workers started from now on share these Python modules, and those named before (`POOL-4`).
    pub fn share_modules(&mut self, modules: &[String]) {
        for module in modules {
            if !self.shared_modules.contains(module) {
                self.shared_modules.push(module.clone());
            }
        }
    }

    /// Enters a worker that the zygote is asked for.
    fn begin_start(&mut self, now: Instant) -> StartingWorker {
        let token = StartupToken(self.next_token);
        self.next_token += 1;
        let mut id_bytes = [0; WorkerId::LEN];
        id_bytes[..8].copy_from_slice(&self.id_prefix);
        id_bytes[8..].copy_from_slice(&token.0.to_le_bytes());
        let id = WorkerId::new(id_bytes);
        self.workers.insert(
            id,
            Worker {
                id,
                token,
                pid: None,
                connection: None,
                job: None,
                devices: Devices::default(),
                memory_limit: None,
                holds_devices: false,
                has_served: false,
                is_lending: false,
                is_dismissed: false,
                state: WorkerState::Starting { since: now },
                label: String::new(),
                kill_cause: None,
                is_overgrown: false,
                shared_modules: self.shared_modules.len(),
                is_cut_off: false,
                exit: None,
                is_leaving: false,
                is_final: false,
            },
        );
        self.by_token.insert(token, id);
        self.starting += 1;
        StartingWorker { token, worker: id }
    }

    /// The zygote names the process of a start. False if the pool has given that start up: the process is to be killed.
    fn forked(&mut self, token: StartupToken, pid: u32) -> bool {
        let Some(id) = self.by_token.get(&token) else {
            return false;
        };
        let worker = self
            .workers
            .get_mut(id)
            .expect("by_token only names workers of the table");
        worker.pid = Some(pid);
        self.by_pid.insert(pid, *id);
        true
    }

    /// A process says that it is the worker of `token`. False if no such worker is being started.
    pub fn hello(
        &mut self,
        id: WorkerId,
        token: StartupToken,
        pid: u32,
        connection: ConnectionId,
    ) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        let is_awaited =
            matches!(worker.state, WorkerState::Starting { .. }) && worker.connection.is_none();
        if worker.token != token || !is_awaited || worker.pid.is_some_and(|known| known != pid) {
            return false;
        }
        worker.pid = Some(pid);
        worker.connection = Some(connection);
        self.by_pid.insert(pid, id);
        true
    }

    /// A worker that said hello takes lanes from now on: it is idle (`POOL-1`).
    pub fn lane_open(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let is_starting = matches!(worker.state, WorkerState::Starting { .. });
        if is_starting && worker.connection.is_some() && worker.exit.is_none() {
            worker.state = WorkerState::Idle { since: now };
            self.idle.push(id);
            self.starting -= 1;
            self.kills_at_start = 0;
        }
    }

    /// A worker is asked to end.
    fn retire(&mut self, id: WorkerId, now: Instant) {
        self.leave_idle(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            if matches!(worker.state, WorkerState::Starting { .. }) {
                self.starting -= 1;
            }
            worker.state = WorkerState::Retiring { since: now };
        }
    }

    /// The connection of a worker has ended. Its process is to end, too.
    fn cut_off(&mut self, id: WorkerId, is_leaving: bool, now: Instant) {
        self.retire(id, now);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_cut_off = true;
            worker.is_leaving = is_leaving;
        }
    }

    /// The process of a worker has ended. Its connection may still hold what it said last, but nobody is sent there any more.
    fn note_exit(&mut self, id: WorkerId, exit: Exit, now: Instant) {
        self.leave_idle(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.exit.get_or_insert(exit);
            if let WorkerState::Idle { .. } = worker.state {
                worker.state = WorkerState::Retiring { since: now };
            }
        }
    }

    /// A worker is asked to end, and not to linger.
    fn retire_for_good(&mut self, id: WorkerId, now: Instant) {
        self.retire(id, now);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_dismissed = true;
        }
    }

    /// Whether other processes hold references to what the worker owns.
    pub fn note_lending(&mut self, id: WorkerId, is_lending: bool) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_lending = is_lending;
        }
    }

    /// A worker stays only for what it owns, maybe with memory of its devices. Returns why it does not run anything any more;
    /// `None`: it is to end.
    fn linger(&mut self, id: WorkerId, holds_devices: bool) -> Option<String> {
        self.leave_idle(id);
        let worker = self.workers.get_mut(&id)?;
        if worker.is_dismissed {
            return None;
        }
        worker.state = WorkerState::Lingering;
        worker.holds_devices = holds_devices;
        let cause = worker.kill_cause.take();
        Some(cause.unwrap_or_else(|| "it ended itself".to_owned()))
    }

    /// Notes why this raylet kills a worker; the first cause stands.
    pub fn note_kill(&mut self, id: WorkerId, cause: &str) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.kill_cause.get_or_insert_with(|| cause.to_owned());
        }
    }

    /// Notes that the actor of a worker does not begin anew, however the worker ends.
    pub fn note_final(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_final = true;
        }
    }

    /// Strikes a worker out, under each of its names (`POOL-6`).
    fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        self.leave_idle(id);
        let worker = self.workers.remove(&id)?;
        self.by_token.remove(&worker.token);
        if let Some(pid) = worker.pid {
            self.by_pid.remove(&pid);
        }
        if matches!(worker.state, WorkerState::Starting { .. }) {
            self.starting -= 1;
        }
        Some(worker)
    }

    /// A worker could not start: prestarting pauses, so that a broken worker is not forked in a loop.
    fn note_start_failure(&mut self, now: Instant) {
        self.paused_until = Some(now + self.limits.failure_pause);
    }

    /// When [`Self::chores`] may next have something to say.
    pub fn next_deadline(&self) -> Option<Instant> {
        let has_surplus = self.idle.len() > self.limits.warm_max;
        self.workers
            .values()
            .filter_map(|worker| match worker.state {
                WorkerState::Starting { since } => Some(since + self.limits.start_timeout),
                WorkerState::Retiring { since } => Some(since + self.limits.exit_grace),
                WorkerState::Idle { since } if has_surplus && !worker.is_lending => {
                    Some(since + self.limits.idle_timeout)
                }
                _ => None,
            })
            .chain(self.paused_until)
            .min()
    }

    /// The end of the pause after a failed start has come.
    fn end_pause(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
    }

    fn leave_idle(&mut self, id: WorkerId) {
        if let Some(position) = self.idle.iter().position(|idle| *idle == id) {
            self.idle.remove(position);
        }
    }
}

#[cfg(test)]
mod tests;
