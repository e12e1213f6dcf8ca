//! Processes end.

use std::time::Instant;

use aktis_common::ids::{ActorId, JobId, WorkerId};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{Address, FinishJobRequest, ReportWorkerDeathRequest, WorkerDied};

use super::deaths::Obituary;
use super::effect::{Effect, Epitaph, GcsReport, StoreEffect};
use super::event::Exit;
use super::keys::{ConnectionId, ReplyTo};
use super::pool::{Worker, WorkerState};
use super::processes::{Process, Role};
use super::{Effects, RayletCore, notify};

impl RayletCore {
    /// A connection has ended. What the process asked for goes at once; what it may still be using goes with the process.
    pub(super) fn on_disconnected(
        &mut self,
        connection: ConnectionId,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.forget_waiting_gets(connection, effects);
        self.board.forget(connection);
        let Some(process) = self.processes.remove(connection) else {
            return effects.push(Effect::Store(StoreEffect::ClientGone { connection }));
        };
        self.forget_owner(process.worker, "its owner died", effects);
        for reply_to in self
            .leases
            .claims_where(|waiter, _| is_of(waiter, connection))
        {
            self.withdraw_claim(reply_to, effects);
        }
        match process.role {
            Role::Worker => self.on_worker_cut_off(&process, now, effects),
            Role::Driver => self.on_driver_gone(&process, effects),
        }
    }

    fn on_worker_cut_off(&mut self, process: &Process, now: Instant, effects: &mut Effects) {
        let state = self.pool.get(process.worker).map(|worker| worker.state);
        if let Some(WorkerState::Starting { .. }) = state {
            let connection = process.connection;
            effects.push(Effect::Store(StoreEffect::ClientGone { connection }));
            let cause = "it ended right after its hello";
            return self.fail_start(process.worker, cause, now, effects);
        }
        self.pool.cut_off(process.worker, process.is_leaving, now);
        let Some(worker) = self.pool.get(process.worker).cloned() else {
            return;
        };
        // Whatever it started goes too.
        effects.push(Effect::Kill { pid: process.pid });
        // Of others nobody has ever heard.
        if worker.has_served {
            self.obituaries.push(Obituary {
                worker: worker.id,
                report: self.report_of(&worker),
                is_cause_known: worker.kill_cause.is_some() || worker.is_leaving,
                until: now + self.settings.cause_patience,
            });
        }
        if let Some(exit) = worker.exit {
            self.on_worker_ended(worker.id, &exit, now, effects);
        }
    }

    /// The connection and the process of a worker have ended: what it held is free (`NODE-2`), and its actor may begin anew
    /// (`HOST-1`).
    pub(super) fn on_worker_ended(
        &mut self,
        worker: WorkerId,
        exit: &Exit,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(worker) = self.pool.remove(worker) else {
            return;
        };
        if let Some(connection) = worker.connection {
            effects.push(Effect::Store(StoreEffect::ClientGone { connection }));
        }
        for lease in self
            .leases
            .leases_where(|grant| grant.worker == Some(worker.id))
        {
            self.leases.end(lease);
        }
        self.report.want();
        if let Some(report) = self.obituaries.note_end(worker.id, exit) {
            effects.push(Effect::Report(GcsReport::WorkerDeath(report)));
        }
        if let Some(actor) = self.actors.of_worker(worker.id) {
            self.actors.remove(actor, worker.id);
        }
        for (call, request) in self.actors.take_held_starts() {
            self.on_start_actor(call, request, now, effects);
        }
        let pid = worker.pid.unwrap_or(0);
        let label = worker.source();
        effects.push(Effect::EndLog {
            worker: worker.id,
            epitaph: worker.job.map(|job| Epitaph { job, pid, label }),
        });
    }

    /// The last output of a dead worker has been sent to its driver: now its death may be told.
    pub(super) fn on_log_ended(
        &mut self,
        worker: WorkerId,
        last_words: String,
        effects: &mut Effects,
    ) {
        if let Some(report) = self.obituaries.with_last_words(worker, last_words) {
            self.announce_death(report, effects);
        }
    }

    /// The process behind a connection has ended, or cannot be watched.
    pub(super) fn on_client_ended(&mut self, connection: ConnectionId, effects: &mut Effects) {
        // What it said last may still be in its connection, whose end follows.
        if !self.processes.note_ended(connection) && self.unended.remove(&connection) {
            effects.push(Effect::Store(StoreEffect::ClientGone { connection }));
        }
    }

    /// The news of a worker's death.
    fn report_of(&self, worker: &Worker) -> ReportWorkerDeathRequest {
        // A retiring worker has no duty any more, but still hosts its actor.
        let actor = self.actors.of_worker(worker.id);
        let actor_id = actor.map(ActorId::to_wire).unwrap_or_default();
        let cause = worker.kill_cause.clone();
        let known = if worker.is_leaving {
            "it ended itself (exit_actor())"
        } else {
            "its connection to the raylet ended"
        };
        ReportWorkerDeathRequest {
            death: Some(WorkerDied {
                worker: Some(Address::of(self.settings.node_id, worker.id)),
                cause: cause.unwrap_or_else(|| known.to_owned()),
                ..WorkerDied::default()
            }),
            actor_id,
            is_intended: worker.is_leaving || worker.is_final,
            is_ending: true,
            ..ReportWorkerDeathRequest::default()
        }
    }

    fn on_driver_gone(&mut self, process: &Process, effects: &mut Effects) {
        let connection = process.connection;
        // One that takes its leave does not touch the store any more.
        if process.is_leaving || process.has_ended {
            effects.push(Effect::Store(StoreEffect::ClientGone { connection }));
        } else {
            self.unended.insert(connection);
        }
        let job_id = process.job.map(JobId::to_wire).unwrap_or_default();
        if process.is_leaving {
            let finish = FinishJobRequest {
                job_id: job_id.clone(),
                cause: "finished".to_owned(),
            };
            effects.push(Effect::Report(GcsReport::FinishJob(finish)));
        }
        let cause = if process.is_leaving {
            "finished"
        } else {
            "ended without saying goodbye"
        };
        let died = WorkerDied {
            worker: Some(Address::of(self.settings.node_id, process.worker)),
            cause: cause.to_owned(),
            ..WorkerDied::default()
        };
        let report = ReportWorkerDeathRequest {
            death: Some(died),
            is_intended: process.is_leaving,
            job_id,
            ..ReportWorkerDeathRequest::default()
        };
        self.announce_death(report, effects);
    }

    /// Tells the processes of this node and the gcs of a death.
    pub(super) fn announce_death(
        &mut self,
        report: ReportWorkerDeathRequest,
        effects: &mut Effects,
    ) {
        if let Some(died) = &report.death {
            for process in self.processes.iter() {
                notify(process.connection, Kind::WorkerDied(died.clone()), effects);
            }
        }
        effects.push(Effect::Report(GcsReport::WorkerDeath(report)));
    }
}

fn is_of(waiter: ReplyTo, connection: ConnectionId) -> bool {
    waiter.connection() == Some(connection)
}
