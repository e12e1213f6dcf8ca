//! What raylets tell about actors: started, constructed, died.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, NodeId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{
    Failure, ReportActorStartedRequest, ReportWorkerDeathRequest, publication::Kind,
};

use crate::core::actors::life::{Loss, died};
use crate::core::actors::table::Phase;
use crate::core::departed::Departure;
use crate::core::{GcsCore, GcsError, Turn, read_id};

impl GcsCore {
    /// A constructor has ended.
    ///
    /// # Errors
    /// When the report makes no sense.
    pub fn actor_started(
        &mut self,
        report: ReportActorStartedRequest,
        turn: &mut Turn,
    ) -> Result<(), GcsError> {
        let actor = read_id("actor_id", ActorId::from_bytes(&report.actor_id))?;
        let address = report
            .address
            .ok_or(GcsError::Missing { field: "address" })?;
        let reporter = read_id("address.node_id", address.node())?;
        let process = read_id("address.worker_id", address.worker())?;
        let is_expected = self.actors.get(actor).is_some_and(|record| {
            let is_asked = matches!(record.phase, Phase::Starting { node, worker, .. }
                if node == reporter && worker.is_none_or(|worker| worker == process));
            // News of an earlier life may come late.
            is_asked && record.restarts == report.restarts
        });
        if !is_expected && !self.adopt(actor, reporter, report.restarts, turn) {
            self.kill_if_stale(actor, &address, turn);
            return Ok(());
        }
        if let Some(failure) = report.failure {
            self.bury(actor, failure, turn);
            return Ok(());
        }
        if let Some(record) = self.actors.get_mut(actor) {
            record.phase = Phase::Alive {
                node: reporter,
                worker: process,
            };
            record.pid = if report.pid == 0 {
                record.pid
            } else {
                report.pid
            };
            record.failure = None;
            record.restarts = record.restarts.max(report.restarts);
            let running = record.options.running_resources.clone();
            let running = running.unwrap_or_else(|| record.placing_resources());
            let kept = ResourceRequest::try_from(&running).unwrap_or_default();
            self.nodes.unbook(reporter, actor, &kept);
        }
        self.is_placing_due = true;
        self.is_answered(actor);
        self.actor_changed(actor, turn);
        self.die_if_departed(actor, process, turn);
        Ok(())
    }

    /// Whether a process that this head did not ask for is the actor all the same: the last head asked for it while it could not
    /// keep that (`GCS-3`), or gave up an answer. What waited for a place has one then.
    fn adopt(&mut self, actor: ActorId, reporter: NodeId, restarts: u32, turn: &mut Turn) -> bool {
        let Some(record) = self.actors.get(actor).filter(|record| !record.is_dead()) else {
            return false;
        };
        let is_newer = restarts > record.restarts;
        let is_unplaced = restarts == record.restarts && record.phase == Phase::Queued;
        if !(is_newer || is_unplaced) {
            return false;
        }
        // It may be about to register, and is to find its actor then: the last head took it in, and could not keep that.
        self.nodes.expect(reporter, turn.now);
        if self.nodes.living(reporter).is_none() {
            return false;
        }
        let Some(record) = self.actors.get(actor) else {
            return false;
        };
        // One that was begun since is one too many (`ACT-3`); where none is known yet, its answer will be met with this.
        self.kill_worker_of(record, "a process of a later restart is the actor", turn);
        if let Some(node) = record.phase.node() {
            self.nodes.unbook(node, actor, &ResourceRequest::default());
        }
        self.waiting.remove(&actor);
        self.reasons.remove(&actor);
        true
    }

    /// A worker or driver process is lost: its connection has ended, and the process as well or soon.
    ///
    /// # Errors
    /// When the report makes no sense.
    pub fn worker_died(
        &mut self,
        report: ReportWorkerDeathRequest,
        turn: &mut Turn,
    ) -> Result<(), GcsError> {
        let death = report.death.ok_or(GcsError::Missing { field: "death" })?;
        let address = death.worker.as_ref().ok_or(GcsError::Missing {
            field: "death.worker",
        })?;
        let worker = read_id("death.worker.worker_id", address.worker())?;
        let cause = death.cause.clone();
        if report.is_lingering {
            // Its process is still an owner, and its death no news yet.
            let actor = read_id("actor_id", ActorId::from_bytes(&report.actor_id))?;
            self.actor_worker_died(actor, worker, (&cause).into(), report.is_intended, turn);
            return Ok(());
        }
        let (last_words, is_out_of_memory) = (death.last_words.clone(), death.is_out_of_memory);
        let end = Departure {
            cause: cause.clone(),
            is_intended: report.is_intended,
            is_ending: report.is_ending,
        };
        let before = self.departed.note(worker, end);
        if !before.is_some_and(|before| before.is_ending) {
            turn.publish(Kind::WorkerDied(death));
        }
        let job = match report.job_id.is_empty() {
            true => self.jobs.of_driver(worker),
            false => Some(read_id("job_id", JobId::from_bytes(&report.job_id))?),
        };
        if let Some(job) = job {
            self.end_job(job, &format!("its driver {cause}"), turn);
        }
        for actor in self.actors.made_by(|_, maker| maker == worker) {
            let cause = format!("the process that made it {cause}");
            self.end_with_maker(actor, &cause, turn);
        }
        let actor = match report.actor_id.is_empty() {
            true => self.actors.of_worker(worker),
            false => Some(read_id("actor_id", ActorId::from_bytes(&report.actor_id))?),
        };
        if let Some(actor) = actor {
            let process = format!("its process {cause}");
            let loss = Loss {
                cause: if report.is_intended { &cause } else { &process },
                last_words: &last_words,
                is_out_of_memory,
                is_ending: report.is_ending,
            };
            self.actor_worker_died(actor, worker, loss, report.is_intended, turn);
        }
        Ok(())
    }

    pub(in crate::core) fn actor_worker_died(
        &mut self,
        actor: ActorId,
        worker: WorkerId,
        loss: Loss<'_>,
        is_intended: bool,
        turn: &mut Turn,
    ) {
        let Some(record) = self.actors.get(actor) else {
            return;
        };
        // ACT-3: the death of an earlier incarnation says nothing about this one.
        let is_this_one = match record.phase {
            Phase::Alive {
                worker: current, ..
            }
            | Phase::Ending {
                worker: current, ..
            } => current == worker,
            Phase::Starting {
                worker: current, ..
            // Unknown yet which process it is: `start_answered` looks whether that one has ended.
            } => current == Some(worker),
            Phase::Queued | Phase::Dead => false,
        };
        if !is_this_one {
            return;
        }
        if is_intended {
            self.bury(
                actor,
                Failure::of(ErrorCode::ActorDied, died(loss.cause)),
                turn,
            );
        } else {
            self.incarnation_lost(actor, loss, turn);
        }
    }
}
