//! What is told of a death, and when.

use aktis_common::ids::{ActorId, WorkerId};
use aktis_proto::v1::{Address, ReportWorkerDeathRequest, WorkerDied};

use super::{DeathEvent, Obituaries, Obituary};
use crate::core::effect::{Effect, GcsReport};
use crate::core::event::Exit;
use crate::core::out::Out;
use crate::core::pool::Worker;

impl Obituaries {
    /// The connection of a worker has ended, and so will its process. With it goes the actor that it hosts.
    pub fn expect(&mut self, worker: &Worker, actor: Option<ActorId>, out: &Out) {
        let known = if worker.is_leaving {
            "it ended itself (exit_actor())"
        } else {
            "its connection to the raylet ended"
        };
        let cause = worker.kill_cause.clone();
        let report = ReportWorkerDeathRequest {
            death: Some(WorkerDied {
                worker: Some(Address::of(self.here, worker.id)),
                cause: cause.unwrap_or_else(|| known.to_owned()),
                is_out_of_memory: worker.is_overgrown,
                ..WorkerDied::default()
            }),
            actor_id: actor.map(ActorId::to_wire).unwrap_or_default(),
            is_intended: worker.is_leaving || worker.is_final,
            is_ending: true,
            ..ReportWorkerDeathRequest::default()
        };
        self.waiting.push(Obituary {
            worker: worker.id,
            pid: worker.pid,
            report,
            is_cause_known: worker.kill_cause.is_some() || worker.is_leaving,
            until: out.now() + self.patience,
            is_looked_at: false,
        });
    }

    /// The process of a worker has ended.
    pub fn process_ended(&mut self, worker: WorkerId, exit: &Exit, out: &mut Out) {
        if let Some(report) = self.note_end(worker, exit) {
            out.push(Effect::Report(GcsReport::WorkerDeath(report)));
        }
    }

    /// The last output of a dead worker has been sent to its driver: now its death may be told.
    pub fn log_ended(&mut self, worker: WorkerId, last_words: String, out: &mut Out) {
        if let Some(report) = self.with_last_words(worker, last_words) {
            out.tell(DeathEvent::Told(report));
        }
    }

    /// Deaths that have waited long enough are told with what is known.
    pub fn tell_overdue(&mut self, out: &mut Out) {
        for (worker, pid) in self.take_to_look_at(out.now()) {
            out.push(Effect::LookAtDead { worker, pid });
        }
        for report in self.overdue(out.now()) {
            out.tell(DeathEvent::Told(report));
        }
    }

    /// Whether the process of a dead worker has ended, and only nobody has said how.
    pub fn looked_at(&mut self, worker: WorkerId, has_ended: bool, out: &mut Out) {
        self.note_look(worker, has_ended, out.now());
        self.tell_overdue(out);
    }

    /// An actor is over, and its process stays for what it owns (`LEND-1`): the gcs hears of it.
    pub fn tell_end_of_actor(
        &self,
        actor: ActorId,
        worker: WorkerId,
        cause: String,
        is_intended: bool,
        out: &mut Out,
    ) {
        let died = WorkerDied {
            worker: Some(Address::of(self.here, worker)),
            cause,
            ..WorkerDied::default()
        };
        out.push(Effect::Report(GcsReport::WorkerDeath(
            ReportWorkerDeathRequest {
                death: Some(died),
                actor_id: actor.to_wire(),
                is_intended,
                is_lingering: true,
                ..ReportWorkerDeathRequest::default()
            },
        )));
    }
}
