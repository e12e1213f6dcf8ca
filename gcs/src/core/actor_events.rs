//! Events of actors.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, NodeId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{
    ActorUpdate, Address, CreateActorRequest, Failure, GetActorRequest, KillActorRequest,
    ReportActorStartedRequest, ReportWorkerDeathRequest, publication::Kind,
};
use bytes::Bytes;

use super::actor_table::{ActorRecord, Phase};
use super::placing::placement_of;
use super::{GcsCore, GcsError, Table, Turn, read_id};

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
    /// Makes an actor, or finds the one of this name.
    ///
    /// # Errors
    /// When the request makes no sense, its job is over, or the name is taken.
    pub fn create_actor(
        &mut self,
        request: CreateActorRequest,
        turn: &mut Turn,
    ) -> Result<ActorUpdate, GcsError> {
        let spec = request.spec.ok_or(GcsError::Missing { field: "spec" })?;
        let options = request.options.unwrap_or_default();
        let id = read_id("spec.actor_id", ActorId::from_bytes(&spec.actor_id))?;
        let job = read_id("spec.job_id", JobId::from_bytes(&spec.job_id))?;
        if let Some(existing) = self.actors.get(id) {
            return Ok(existing.update());
        }
        if self.jobs.is_over(job) && !options.is_detached {
            return Err(GcsError::JobOver { job });
        }
        if !options.name.is_empty()
            && let Some(existing) = self.actors.named(&options.namespace, &options.name)
        {
            if request.get_if_exists {
                return Ok(existing.update());
            }
            let (name, namespace) = (options.name, options.namespace);
            return Err(GcsError::NameTaken { name, namespace });
        }
        let record = ActorRecord {
            id,
            job,
            spec,
            options,
            args: request.args_payload,
            phase: Phase::Queued,
            restarts: 0,
            pid: 0,
            failure: None,
        };
        let placement = placement_of(&record).map_err(GcsError::Resources)?;
        let update = record.update();
        self.actors.insert(record);
        self.waiting.push(id, placement);
        self.is_placing_due = true;
        self.actor_changed(id, turn);
        Ok(update)
    }

    /// The actor of this id, or the living one of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get_actor(&self, request: &GetActorRequest) -> Result<ActorUpdate, GcsError> {
        if !request.actor_id.is_empty() {
            let actor = read_id("actor_id", ActorId::from_bytes(&request.actor_id))?;
            let found = self
                .actors
                .get(actor)
                .ok_or(GcsError::UnknownActor { actor })?;
            return Ok(found.update());
        }
        if let Some(found) = self.actors.named(&request.namespace, &request.name) {
            return Ok(found.update());
        }
        let elsewhere = self.actors.namespaces_with(&request.name);
        let hint = match elsewhere.as_slice() {
            [] => String::new(),
            some => format!("; there is one in namespace {}", some.join(", ")),
        };
        let (name, namespace) = (request.name.clone(), request.namespace.clone());
        Err(GcsError::UnknownName {
            name,
            namespace,
            hint,
        })
    }

    /// All actors.
    pub fn actors(&self) -> Vec<ActorUpdate> {
        self.actors.iter().map(ActorRecord::news).collect()
    }

    /// Ends an actor, or only its present incarnation.
    ///
    /// # Errors
    /// When there is no such actor.
    pub fn kill_actor(
        &mut self,
        request: &KillActorRequest,
        turn: &mut Turn,
    ) -> Result<(), GcsError> {
        let actor = read_id("actor_id", ActorId::from_bytes(&request.actor_id))?;
        let record = self
            .actors
            .get(actor)
            .ok_or(GcsError::UnknownActor { actor })?;
        let cause = if request.cause.is_empty() {
            "it was killed"
        } else {
            &request.cause
        };
        if request.no_restart {
            self.bury(actor, Failure::of(ErrorCode::ActorDied, died(cause)), turn);
        } else {
            self.kill_worker_of(record, cause, turn);
        }
        Ok(())
    }

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
            if let StartOutcome::Started { address, .. } = outcome {
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

    /// A worker or driver process is gone.
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
        turn.publish(Kind::WorkerDied(death));
        let job = match report.job_id.is_empty() {
            true => self.jobs.of_driver(worker),
            false => Some(read_id("job_id", JobId::from_bytes(&report.job_id))?),
        };
        if let Some(job) = job {
            self.end_job(job, &format!("its driver {cause}"), turn);
        }
        let actor = match report.actor_id.is_empty() {
            true => self.actors.of_worker(worker),
            false => Some(read_id("actor_id", ActorId::from_bytes(&report.actor_id))?),
        };
        if let Some(actor) = actor {
            self.actor_worker_died(actor, worker, &cause, report.is_intended, turn);
        }
        Ok(())
    }

    fn actor_worker_died(
        &mut self,
        actor: ActorId,
        worker: WorkerId,
        cause: &str,
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
            } => current == worker,
            Phase::Starting {
                worker: current, ..
            } => current.is_none_or(|one| one == worker),
            Phase::Queued | Phase::Dead => false,
        };
        if !is_this_one {
            return;
        }
        if is_intended {
            self.bury(actor, Failure::of(ErrorCode::ActorDied, died(cause)), turn);
        } else {
            self.incarnation_lost(actor, &format!("its process {cause}"), turn);
        }
    }

    /// The actor's process is gone: restarts it, or ends it (`ACT-4`).
    pub(super) fn incarnation_lost(&mut self, actor: ActorId, cause: &str, turn: &mut Turn) {
        self.is_placing_due = true;
        let Some(record) = self
            .actors
            .get_mut(actor)
            .filter(|record| !record.is_dead())
        else {
            return;
        };
        if !record.has_restarts_left() {
            let limit = record.options.max_restarts;
            let used_up = if limit > 0 {
                format!("; its {limit} restarts are used up")
            } else {
                String::new()
            };
            let message = format!("{}{used_up}", died(cause));
            self.bury(actor, Failure::of(ErrorCode::ActorDied, message), turn);
            return;
        }
        record.restarts += 1;
        self.queue_again(actor, turn);
        self.actor_changed(actor, turn);
    }

    fn place_again(&mut self, actor: ActorId, node: NodeId, turn: &mut Turn) {
        self.nodes.unbook(node, actor, &ResourceRequest::default());
        self.nodes.set_full(node);
        self.queue_again(actor, turn);
        self.keep_actor(actor, turn);
    }

    fn queue_again(&mut self, actor: ActorId, turn: &mut Turn) {
        let Some(record) = self.actors.get_mut(actor) else {
            return;
        };
        record.phase = Phase::Queued;
        match placement_of(record) {
            Ok(placement) => self.waiting.push(actor, placement),
            Err(error) => {
                self.bury(
                    actor,
                    Failure::of(ErrorCode::InvalidArgument, error.to_string()),
                    turn,
                );
            }
        }
        self.is_placing_due = true;
    }

    /// The end of an actor (`ACT-1`). Its worker, if it has one, is killed.
    pub(super) fn bury(&mut self, actor: ActorId, failure: Failure, turn: &mut Turn) {
        self.waiting.remove(&actor);
        self.reasons.remove(&actor);
        self.is_placing_due = true;
        let Some(record) = self.actors.get(actor).filter(|record| !record.is_dead()) else {
            return;
        };
        self.kill_worker_of(record, &failure.message, turn);
        if let Some(node) = record.phase.node() {
            self.nodes.unbook(node, actor, &ResourceRequest::default());
        }
        if let Some(record) = self.actors.get_mut(actor) {
            record.phase = Phase::Dead;
            record.failure = Some(failure);
            record.args = Bytes::new();
            record.options.handle_state = Bytes::new();
        }
        self.actor_changed(actor, turn);
        for forgotten in self.actors.bury(actor) {
            turn.forget(Table::Actors, forgotten.to_wire());
        }
    }

    /// `ACT-3`: kills a worker that is not the actor, although it says so.
    fn kill_if_stale(&self, actor: ActorId, address: &Address, turn: &mut Turn) {
        let (Ok(node), Ok(worker)) = (address.node(), address.worker()) else {
            return;
        };
        let current = self
            .actors
            .get(actor)
            .and_then(|record| record.phase.worker());
        if current != Some(worker) {
            let cause = "another process is this actor now, or the actor is dead";
            self.kill_worker(node, worker, actor.to_wire(), cause, turn);
        }
    }

    pub(super) fn keep_actor(&self, actor: ActorId, turn: &mut Turn) {
        if let Some(record) = self.actors.get(actor) {
            turn.keep(Table::Actors, actor.to_wire(), &record.to_stored());
        }
    }

    pub(super) fn actor_changed(&self, actor: ActorId, turn: &mut Turn) {
        self.keep_actor(actor, turn);
        if let Some(record) = self.actors.get(actor) {
            turn.publish(Kind::Actor(record.news()));
        }
    }
}

fn died(cause: &str) -> String {
    format!("the actor died: {cause}")
}
