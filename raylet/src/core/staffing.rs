//! Workers come and go.

use std::time::Instant;

use aktis_common::ids::WorkerId;
use aktis_proto::v1::{Exit, node_frame};

use super::claims::Purpose;
use super::effect::Effect;
use super::keys::ReplyTo;
use super::pool::WorkerState;
use super::{Effects, RayletCore, notify};

impl RayletCore {
    /// Forks workers for claims without one, and to keep the pool warm.
    pub(super) fn fork_what_is_short(
        &mut self,
        without_worker: usize,
        now: Instant,
        effects: &mut Effects,
    ) {
        for _ in 0..self.pool.shortage(without_worker, now) {
            let starting = self.pool.begin_start(now);
            effects.push(Effect::Fork {
                token: starting.token,
                worker: starting.worker,
                shared_modules: self.pool.shared_modules().to_vec(),
            });
        }
    }

    /// Workers that are late, too many, or do not end when asked.
    pub(super) fn do_pool_chores(&mut self, now: Instant, effects: &mut Effects) {
        self.pool.end_pause(now);
        let chores = self.pool.chores(now);
        for worker in chores.overdue {
            let limit = self.settings.pool.start_timeout.as_secs_f64();
            self.fail_start(
                worker,
                &format!("it did not report within {limit} s"),
                now,
                effects,
            );
        }
        for worker in chores.surplus {
            self.retire(worker, "idle for too long", now, effects);
        }
        for worker in chores.stubborn {
            self.kill(worker, "did not end when asked", effects);
            // Tried again after the same time, should the system be slow to end it.
            self.pool.retire(worker, now);
        }
    }

    /// A worker could not be started: the claim that has waited longest for one fails with it.
    pub(super) fn fail_start(
        &mut self,
        worker: WorkerId,
        cause: &str,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(failed) = self.pool.remove(worker) else {
            return;
        };
        if let Some(pid) = failed.pid {
            effects.push(Effect::Kill { pid });
        }
        self.pool.note_start_failure(now);
        let cause = format!("a worker process could not start: {cause}");
        self.fail_first_claim(Some(worker), &cause, effects);
        effects.push(Effect::EndLog {
            worker,
            epitaph: None,
        });
    }

    /// The claim that has waited longest for a worker fails. False if there is none.
    pub(super) fn fail_first_claim(
        &mut self,
        worker: Option<WorkerId>,
        cause: &str,
        effects: &mut Effects,
    ) -> bool {
        let Some(placed) = self.leases.drop_placed(0) else {
            return false;
        };
        if let ReplyTo::Call(call) = placed.reply_to {
            self.actors.leave(call);
        }
        let cause = cause.to_owned();
        effects.push(Effect::FailWithLog {
            reply_to: placed.reply_to,
            is_actor_start: matches!(placed.claim.purpose, Purpose::Actor { .. }),
            worker,
            cause,
        });
        true
    }

    /// Asks a worker to end; it is killed when it does not.
    pub(super) fn retire(
        &mut self,
        worker: WorkerId,
        reason: &str,
        now: Instant,
        effects: &mut Effects,
    ) {
        let retiring = self.pool.get(worker);
        if retiring.is_some_and(|worker| worker.state == WorkerState::Lingering) {
            // It ends when it can.
            return;
        }
        let connection = retiring.and_then(|worker| worker.connection);
        self.pool.retire(worker, now);
        match connection {
            Some(connection) => {
                let exit = Exit {
                    reason: reason.to_owned(),
                    is_final: false,
                };
                notify(connection, node_frame::Kind::Exit(exit), effects);
            }
            None => self.kill(worker, reason, effects),
        }
    }

    /// Kills a worker. Its resources are free when its process has ended, so that GPU memory really is.
    pub(super) fn kill(&mut self, worker: WorkerId, cause: &str, effects: &mut Effects) {
        self.pool.note_kill(worker, cause);
        let Some(doomed) = self.pool.get(worker) else {
            return;
        };
        match doomed.pid {
            Some(pid) => effects.push(Effect::Kill { pid }),
            // Not forked yet: the zygote's reply finds it gone and kills it.
            None if matches!(doomed.state, WorkerState::Starting { .. }) => {
                self.pool.remove(worker);
            }
            None => {}
        }
    }
}
