//! What raylets tell about actors: started, constructed, died.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, NodeId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{
    Address, Failure, ReportActorStartedRequest, ReportWorkerDeathRequest, publication::Kind,
};

use super::actor_life::{Loss, died};
use super::actor_table::Phase;
use super::departed::Departure;
use super::{GcsCore, GcsError, Turn, read_id};

/// What came of asking a raylet to start an actor.
#[derive(Debug, Clone, PartialEq)]
pub enum StartOutcome {
    /// A worker has got the creating task.
    Started {
        /// The worker.
        address: Address,
        /// Its process id.
        pid: u32,
    },
    /// There is not enough free there any more.
    NoRoom,
    /// The raylet could not do it.
    Failed(Failure),
    /// The raylet did not answer.
    Unreachable(String),
}
impl GcsCore {
    /// A raylet has answered a [`StartActor`](super::Effect::StartActor).
    pub fn start_answered(
        &mut self,
        actor: ActorId,
        asked: u64,
        node: NodeId,
        outcome: StartOutcome,
        turn: &mut Turn,
    ) {
        let is_current = self.actors.get(actor).is_some_and(
            |record| matches!(record.phase, Phase::Starting { attempt, .. } if attempt == asked),
        );
        if !is_current {
            // Asked again, this node names the process that the actor is, maybe this one.
            let is_asked_again = self.actors.get(actor).is_some_and(|record| {
                matches!(record.phase, Phase::Starting { node: there, worker: None, .. } if there == node)
            });
            if let StartOutcome::Started { address, .. } = outcome
                && !is_asked_again
            {
                self.kill_if_stale(actor, &address, turn);
            }
            return;
        }
        match outcome {
            StartOutcome::Started { address, pid } => {
                let worker = address.worker().ok();
                if let Some(record) = self.actors.get_mut(actor) {
                    record.phase = Phase::Starting {
                        node,
                        worker,
                        attempt: asked,
                    };
                    record.pid = pid;
                }
                self.keep_actor(actor, turn);
                // The news of its death may have overtaken this answer.
                let end =
                    worker.and_then(|worker| Some((worker, self.departed.get(worker)?.clone())));
                if let Some((worker, end)) = end {
                    let process = format!("its process {}", end.cause);
                    let loss = Loss {
                        is_ending: end.is_ending,
                        ..Loss::from(if end.is_intended {
                            &end.cause
                        } else {
                            &process
                        })
                    };
                    self.actor_worker_died(actor, worker, loss, end.is_intended, turn);
                }
            }
            StartOutcome::NoRoom => self.place_again(actor, node, turn),
            StartOutcome::Unreachable(cause) => {
                tracing::info!(%actor, %node, cause, "raylet did not start the actor");
                self.place_again(actor, node, turn);
            }
            // Trying again helps only against what the system did.
            StartOutcome::Failed(failure) if failure.error_code().is_system_failure() => {
                self.nodes.unbook(node, actor, &ResourceRequest::default());
                self.incarnation_lost(actor, &failure.message, turn);
            }
            StartOutcome::Failed(failure) => self.bury(actor, failure, turn),
        }
    }

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
        let phase = self
            .actors
            .get(actor)
            .map_or(Phase::Dead, |record| record.phase);
        let is_expected = match phase {
            Phase::Starting { node, worker, .. } => {
                node == reporter && worker.is_none_or(|worker| worker == process)
            }
            _ => false,
        };
        if !is_expected {
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
            let running = record.options.running_resources.clone();
            let running = running.unwrap_or_else(|| record.placing_resources());
            let kept = ResourceRequest::try_from(&running).unwrap_or_default();
            self.nodes.unbook(reporter, actor, &kept);
        }
        self.is_placing_due = true;
        self.actor_changed(actor, turn);
        Ok(())
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

    fn actor_worker_died(
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
