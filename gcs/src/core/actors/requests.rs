//! What processes ask about actors: make, find, kill.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId};
use aktis_proto::v1::{
    ActorUpdate, CreateActorRequest, Failure, GetActorRequest, KillActorRequest,
};

use crate::core::actors::life::died;
use crate::core::actors::placing::placement_of;
use crate::core::actors::table::{ActorRecord, Phase};
use crate::core::{GcsCore, GcsError, Turn, read_id};

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
        let maker = spec.owner.as_ref().and_then(|owner| owner.worker().ok());
        if let Some(maker) = maker.filter(|_| !options.is_detached)
            && self.departed.get(maker).is_some()
        {
            return Err(GcsError::MakerGone { maker });
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
            change: 0,
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
        if request.no_restart && request.is_graceful {
            self.retire_worker_of(record, cause, turn);
            self.bury_ended(actor, Failure::of(ErrorCode::ActorDied, died(cause)), turn);
        } else if request.no_restart {
            self.bury(actor, Failure::of(ErrorCode::ActorDied, died(cause)), turn);
        } else {
            self.kill_worker_of(record, cause, turn);
        }
        Ok(())
    }
}
