//! Processes end.

use std::time::Instant;

use aktis_common::ids::{ActorId, JobId};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{Address, FinishJobRequest, ReportWorkerDeathRequest, WorkerDied};

use super::effect::{Effect, GcsReport, StoreEffect};
use super::keys::{ConnectionId, ReplyTo};
use super::obituaries::Obituary;
use super::process_table::{Process, Role};
use super::worker_pool::{Worker, WorkerState};
use super::{Effects, RayletCore, notify};

impl RayletCore {
    /// A connection has ended, and with it the process.
    pub(super) fn on_disconnected(
        &mut self,
        connection: ConnectionId,
        now: Instant,
        effects: &mut Effects,
    ) {
        effects.push(Effect::Store(StoreEffect::ClientGone { connection }));
        self.forget_waiting_gets(connection, effects);
        self.board.forget(connection);
        let Some(process) = self.processes.remove(connection) else {
            return;
        };
        self.forget_owner(process.worker, "its owner died", effects);
        for reply_to in self
            .leases
            .claims_where(|waiter, _| is_of(waiter, connection))
        {
            self.withdraw_claim(reply_to, effects);
        }
        match process.role {
            Role::Worker => self.on_worker_gone(&process, now, effects),
            Role::Driver => self.on_driver_gone(&process, effects),
        }
    }

    fn on_worker_gone(&mut self, process: &Process, now: Instant, effects: &mut Effects) {
        let state = self.pool.get(process.worker).map(|worker| worker.state);
        if let Some(WorkerState::Starting { .. }) = state {
            let cause = "it ended right after its hello";
            return self.fail_start(process.worker, cause, now, effects);
        }
        let Some(worker) = self.pool.remove(process.worker) else {
            return;
        };
        // Whatever it started in its process group goes too.
        effects.push(Effect::Kill { pid: process.pid });
        effects.push(Effect::EndLog {
            worker: worker.id,
            job: worker.job,
            pid: process.pid,
        });
        let report = self.end_duty(&worker, process.is_leaving);
        let kill_cause = worker.kill_cause;
        for (call, request) in self.actors.take_held_starts() {
            self.on_start_actor(call, request, now, effects);
        }
        match kill_cause {
            // Nobody has ever heard of it.
            _ if !worker.has_served => {}
            Some(_) => self.announce_death(report, effects),
            None => self.obituaries.push(Obituary {
                pid: process.pid,
                report,
                until: now + self.settings.cause_patience,
            }),
        }
    }

    /// Frees what the worker held, and writes the news of its death.
    fn end_duty(&mut self, worker: &Worker, is_leaving: bool) -> ReportWorkerDeathRequest {
        // A retiring worker has no duty any more, but still hosts its actor.
        let actor = self.actors.of_worker(worker.id);
        if let Some(actor) = actor {
            self.actors.remove(actor, worker.id);
        }
        let actor_id = actor.map(ActorId::to_wire).unwrap_or_default();
        for lease in self
            .leases
            .leases_where(|grant| grant.worker == Some(worker.id))
        {
            self.leases.end(lease);
        }
        self.report.want();
        let cause = worker.kill_cause.clone();
        let cause = cause.unwrap_or_else(|| "its connection to the raylet ended".to_owned());
        ReportWorkerDeathRequest {
            death: Some(WorkerDied {
                worker: Some(Address::of(self.settings.node_id, worker.id)),
                cause,
            }),
            actor_id,
            is_intended: is_leaving,
            job_id: bytes::Bytes::new(),
        }
    }

    fn on_driver_gone(&mut self, process: &Process, effects: &mut Effects) {
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
        };
        let report = ReportWorkerDeathRequest {
            death: Some(died),
            actor_id: bytes::Bytes::new(),
            is_intended: process.is_leaving,
            job_id,
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
