//! News of the zygote and of the processes it forks.

use std::time::{Duration, Instant};

use aktis_common::ids::WorkerId;

use super::effect::Effect;
use super::event::{Exit, ZygoteEvent};
use super::pool::WorkerState;
use super::{Effects, RayletCore};

/// Zygotes that may fail to start, one after the other, before claims fail with them.
const FAILURES_UNTIL_CLAIMS_FAIL: u32 = 2;
/// A worker that is forked connects within this time, if it can.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

impl RayletCore {
    pub(super) fn on_zygote(&mut self, news: ZygoteEvent, now: Instant, effects: &mut Effects) {
        match news {
            ZygoteEvent::Ready => {
                self.zygote_failures = 0;
            }
            ZygoteEvent::Forked { token, pid } => {
                if !self.pool.forked(token, pid) {
                    effects.push(Effect::Kill { pid });
                }
            }
            ZygoteEvent::ForkFailed { token, error } => {
                if let Some(worker) = self.pool.by_token(token).map(|worker| worker.id) {
                    self.fail_start(worker, &error, now, effects);
                }
            }
            ZygoteEvent::Exited { pid, exit } => self.on_exited(pid, exit, now, effects),
            ZygoteEvent::Lost {
                cause,
                is_start_failure,
            } => {
                self.on_zygote_lost(&cause, is_start_failure, now, effects);
            }
        }
    }

    /// A worker's process has ended.
    pub(super) fn on_exited(&mut self, pid: u32, exit: Exit, now: Instant, effects: &mut Effects) {
        let Some(worker) = self.pool.by_pid(pid) else {
            return;
        };
        let (id, connection, is_cut_off) = (worker.id, worker.connection, worker.is_cut_off);
        match connection {
            _ if is_cut_off => self.on_worker_ended(id, &exit, now, effects),
            // Its last frames may still be in its connection; or something it started holds that open.
            Some(connection) => {
                self.pool.note_exit(id, exit, now);
                effects.push(Effect::Kill { pid });
                effects.push(Effect::Close { connection });
            }
            None => self.fail_start(id, &format!("it {}", exit.cause), now, effects),
        }
    }

    /// No connection can be taken: workers that wait for theirs will not come. Whoever waits for them is told what is
    /// missing, instead of waiting for the limit of a start.
    pub(super) fn on_out_of_descriptors(
        &mut self,
        cause: &str,
        now: Instant,
        effects: &mut Effects,
    ) {
        let waiting: Vec<WorkerId> = self
            .pool
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
            self.fail_start(worker, &cause, now, effects);
        }
    }

    /// Workers that were being forked are asked of the next zygote; forked ones die with theirs.
    fn on_zygote_lost(
        &mut self,
        cause: &str,
        is_start_failure: bool,
        now: Instant,
        effects: &mut Effects,
    ) {
        let starting: Vec<(WorkerId, Option<u32>)> = self
            .pool
            .iter()
            .filter(|worker| matches!(worker.state, WorkerState::Starting { .. }))
            .map(|worker| (worker.id, worker.pid))
            .collect();
        for (worker, pid) in starting {
            self.pool.remove(worker);
            if let Some(pid) = pid {
                effects.push(Effect::Kill { pid });
            }
            effects.push(Effect::EndLog {
                worker,
                epitaph: None,
            });
        }
        // The others die with the zygote, and nobody says so.
        for worker in self.pool.iter() {
            if let (Some(pid), None) = (worker.pid, &worker.exit) {
                effects.push(Effect::AwaitEnd { pid });
            }
        }
        if !is_start_failure {
            return;
        }
        self.zygote_failures += 1;
        self.pool.note_start_failure(now);
        if self.zygote_failures >= FAILURES_UNTIL_CLAIMS_FAIL {
            let cause = format!("the zygote, which forks the workers, could not start: {cause}");
            while self.fail_first_claim(None, &cause, effects) {}
        }
    }
}
