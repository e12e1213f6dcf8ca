//! News of the zygote and of the processes it forks.

use std::time::Instant;

use aktis_common::ids::WorkerId;

use super::effect::Effect;
use super::event::ZygoteEvent;
use super::worker_pool::WorkerState;
use super::{Effects, RayletCore};

/// Zygotes that may fail to start, one after the other, before claims fail with them.
const FAILURES_UNTIL_CLAIMS_FAIL: u32 = 2;

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
                    self.fail_start(worker, &format!("fork failed: {error}"), now, effects);
                }
            }
            ZygoteEvent::Exited { pid, cause } => self.on_exited(pid, &cause, now, effects),
            ZygoteEvent::Lost {
                cause,
                is_start_failure,
            } => {
                self.on_zygote_lost(&cause, is_start_failure, now, effects);
            }
        }
    }

    fn on_exited(&mut self, pid: u32, cause: &str, now: Instant, effects: &mut Effects) {
        if let Some(report) = self.obituaries.with_cause(pid, cause) {
            return self.announce_death(report, effects);
        }
        let Some(worker) = self.pool.by_pid(pid) else {
            return;
        };
        let (id, connection) = (worker.id, worker.connection);
        match connection {
            // Something the worker started holds its connection open.
            Some(connection) => {
                self.pool.note_kill(id, cause);
                effects.push(Effect::Kill { pid });
                effects.push(Effect::Close { connection });
            }
            None => self.fail_start(id, &format!("it {cause}"), now, effects),
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
