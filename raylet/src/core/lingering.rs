//! Workers that run nothing any more and stay for what they own.
//!
//! ```text
//!  Busy, Idle, Retiring ── Lingering ──► Lingering ── nobody needs anything, job over ──► (process ends)
//! ```
//! A worker that has had its last call, or whose actor has ended, may own objects that other processes hold references to.
//! It says so and serves them on. Its actor is over for everybody, and what it held is free at once; but for GPUs whose
//! memory it may still use: those are free when its process has ended.

use std::time::Instant;

use aktis_common::ids::{ActorId, WorkerId};
use aktis_proto::v1::{Address, Exit, Lingering, ReportWorkerDeathRequest, WorkerDied, node_frame};

use super::effect::{Effect, GcsReport};
use super::keys::ConnectionId;
use super::{Effects, RayletCore, notify};

impl RayletCore {
    pub(super) fn on_lingering(
        &mut self,
        connection: ConnectionId,
        lingering: &Lingering,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(process) = self.processes.get(connection) else {
            return;
        };
        let (worker, is_leaving) = (process.worker, process.is_leaving);
        let is_final = self.pool.get(worker).is_some_and(|worker| worker.is_final);
        let Some(cause) = self.pool.linger(worker, lingering.holds_devices) else {
            return;
        };
        for lease in self
            .leases
            .leases_where(|grant| grant.worker == Some(worker))
        {
            let grant = self.leases.get(lease);
            let has_gpus = grant.is_some_and(|grant| !grant.allocation.gpu_ids().is_empty());
            if !(has_gpus && lingering.holds_devices) {
                self.leases.end(lease);
            }
        }
        self.report.want();
        if let Some(actor) = self.actors.of_worker(worker) {
            self.actors.remove(actor, worker);
            self.report_end_of_actor(actor, worker, cause, is_leaving || is_final, effects);
            for (call, request) in self.actors.take_held_starts() {
                self.on_start_actor(call, request, now, effects);
            }
        }
    }

    fn report_end_of_actor(
        &mut self,
        actor: ActorId,
        worker: WorkerId,
        cause: String,
        is_intended: bool,
        effects: &mut Effects,
    ) {
        let died = WorkerDied {
            worker: Some(Address::of(self.settings.node_id, worker)),
            cause,
            ..WorkerDied::default()
        };
        let report = ReportWorkerDeathRequest {
            death: Some(died),
            actor_id: actor.to_wire(),
            is_intended,
            is_lingering: true,
            ..ReportWorkerDeathRequest::default()
        };
        effects.push(Effect::Report(GcsReport::WorkerDeath(report)));
    }

    /// Asks a worker to end that nobody needs any more, whatever it owns.
    pub(super) fn dismiss(
        &mut self,
        worker: WorkerId,
        reason: &str,
        now: Instant,
        effects: &mut Effects,
    ) {
        let connection = self.pool.get(worker).and_then(|worker| worker.connection);
        self.pool.retire_for_good(worker, now);
        match connection {
            Some(connection) => {
                let exit = Exit {
                    reason: reason.to_owned(),
                    is_final: true,
                };
                notify(connection, node_frame::Kind::Exit(exit), effects);
            }
            None => self.kill(worker, reason, effects),
        }
    }
}
