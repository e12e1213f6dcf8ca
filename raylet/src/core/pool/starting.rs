//! Workers are asked of the zygote, and come up or do not.

use std::time::{Duration, Instant};

use aktis_common::ids::WorkerId;

use super::{PoolEvent, StartingWorker, Worker, WorkerPool, WorkerState};
use crate::core::effect::{Effect, NodeStoreEffect};
use crate::core::event::{Exit, ZygoteEvent};
use crate::core::keys::ConnectionId;
use crate::core::out::Out;

/// Zygotes that may fail to start, one after the other, before claims fail with them.
const FAILURES_UNTIL_CLAIMS_FAIL: u32 = 2;
/// Workers that may be killed while they start, one after the other, before a claim fails with one: whoever kills workers, or takes
/// their memory, hits those that start, too.
const KILLS_UNTIL_A_CLAIM_FAILS: u32 = 8;
/// A worker that is forked connects within this time, if it can.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

impl WorkerPool {
    /// Forks workers for so many claims without one, and to keep the pool warm.
    pub fn fork_what_is_short(&mut self, without_worker: usize, out: &mut Out) {
        for _ in 0..self.shortage(without_worker, out.now()) {
            let StartingWorker { token, worker } = self.begin_start(out.now());
            out.push(Effect::Fork {
                token,
                worker,
                shared_modules: self.shared_modules.clone(),
            });
        }
    }

    /// How many workers to ask of the zygote when `awaiting` requests hold resources but no worker.
    pub(super) fn shortage(&self, awaiting: usize, now: Instant) -> usize {
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        let warm = if is_paused {
            0
        } else {
            self.warm_target.saturating_sub(self.warm_count())
        };
        let wanted = (awaiting + warm).saturating_sub(self.starting);
        wanted.min(self.limits.max_starting.saturating_sub(self.starting))
    }

    fn warm_count(&self) -> usize {
        self.idle
            .iter()
            .filter(|id| self.workers[*id].devices.ids().is_empty())
            .count()
    }

    /// News of the zygote and of the processes it forks.
    pub fn on_zygote(&mut self, news: ZygoteEvent, out: &mut Out) {
        match news {
            ZygoteEvent::Ready => self.zygote_failures = 0,
            ZygoteEvent::Forked { token, pid } => {
                if !self.forked(token, pid) {
                    out.push(Effect::Kill { pid });
                }
            }
            ZygoteEvent::ForkFailed { token, error } => {
                if let Some(worker) = self.by_token(token).map(|worker| worker.id) {
                    self.fail_start(worker, &error, out);
                }
            }
            ZygoteEvent::Exited { pid, exit } => self.process_ended(pid, exit, out),
            ZygoteEvent::Lost {
                cause,
                is_start_failure,
            } => self.on_zygote_lost(&cause, is_start_failure, out),
        }
    }

    /// Workers that were being forked are asked of the next zygote; forked ones die with theirs.
    fn on_zygote_lost(&mut self, cause: &str, is_start_failure: bool, out: &mut Out) {
        let starting: Vec<(WorkerId, Option<u32>)> = self
            .iter()
            .filter(|worker| matches!(worker.state, WorkerState::Starting { .. }))
            .map(|worker| (worker.id, worker.pid))
            .collect();
        for (worker, pid) in starting {
            self.remove(worker);
            if let Some(pid) = pid {
                out.push(Effect::Kill { pid });
            }
            out.push(Effect::EndLog {
                worker,
                epitaph: None,
            });
        }
        // The others die with the zygote, and nobody says so.
        for worker in self.iter() {
            if let (Some(pid), None) = (worker.pid, &worker.exit) {
                out.push(Effect::AwaitEnd { pid });
            }
        }
        if !is_start_failure {
            return;
        }
        self.zygote_failures += 1;
        self.note_start_failure(out.now());
        if self.zygote_failures >= FAILURES_UNTIL_CLAIMS_FAIL {
            let cause = format!("the zygote, which forks the workers, could not start: {cause}");
            out.tell(PoolEvent::NoneCanStart { cause });
        }
    }

    /// No connection can be taken: workers that wait for theirs will not come. Whoever waits for them is told what is
    /// missing, instead of waiting for the limit of a start.
    pub fn on_out_of_descriptors(&mut self, cause: &str, out: &mut Out) {
        let now = out.now();
        let waiting: Vec<WorkerId> = self
            .iter()
            .filter(|worker| worker.connection.is_none() && worker.pid.is_some())
            .filter(|worker| match worker.state {
                WorkerState::Starting { since } => now >= since + CONNECT_PATIENCE,
                _ => false,
            })
            .map(|worker| worker.id)
            .collect();
        for worker in waiting {
            let cause = format!("the raylet cannot take its connection: {cause}");
            self.fail_start(worker, &cause, out);
        }
    }

    /// A process that said hello could not be given what it needs. A worker that waited for it will not come.
    pub fn not_welcomed(&mut self, connection: ConnectionId, cause: &str, out: &mut Out) {
        let waits = |worker: &&Worker| {
            worker.connection == Some(connection)
                && matches!(worker.state, WorkerState::Starting { .. })
        };
        let waiting = self.iter().find(waits).map(|worker| worker.id);
        if let Some(worker) = waiting {
            out.push(Effect::Store(NodeStoreEffect::ClientGone { connection }));
            self.fail_start(worker, cause, out);
        }
        out.push(Effect::Close { connection });
    }

    /// A worker has ended before it took lanes. Another one takes the place of one that was killed, if this is not the way of all.
    pub(super) fn ended_at_start(&mut self, worker: WorkerId, exit: &Exit, out: &mut Out) {
        if exit.is_killed && self.kills_at_start < KILLS_UNTIL_A_CLAIM_FAILS {
            self.kills_at_start += 1;
            self.remove(worker);
            out.push(Effect::EndLog {
                worker,
                epitaph: None,
            });
            return;
        }
        self.fail_start(worker, &format!("it {}", exit.cause), out);
    }

    /// A worker could not be started.
    pub(super) fn fail_start(&mut self, worker: WorkerId, cause: &str, out: &mut Out) {
        let Some(failed) = self.remove(worker) else {
            return;
        };
        if let Some(pid) = failed.pid {
            out.push(Effect::Kill { pid });
        }
        self.note_start_failure(out.now());
        let cause = format!("a worker process could not start: {cause}");
        out.tell(PoolEvent::StartFailed { worker, cause });
    }
}
