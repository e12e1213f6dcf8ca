//! The order to become an actor.

use aktis_common::ids::{ActorId, JobId};
use aktis_lane::{Payload, Urgency};
use aktis_proto::v1 as wire;
use bytes::Bytes;

use super::Runtime;
use super::calls::{CallInputs, bad_frame};
use crate::error::TaskFailure;

/// The order to become an actor.
pub struct ActorStart {
    runtime: Runtime,
    start: wire::StartActor,
    actor: ActorId,
    payload: Bytes,
}

impl ActorStart {
    pub(super) fn new(
        runtime: Runtime,
        start: wire::StartActor,
        payload: Bytes,
    ) -> Result<Self, String> {
        let spec = start
            .spec
            .as_ref()
            .ok_or("an actor without a specification")?;
        let actor = ActorId::from_bytes(&spec.actor_id).map_err(|error| error.to_string())?;
        *runtime.0.job.lock() = JobId::from_bytes(&spec.job_id).unwrap_or(JobId::NIL);
        *runtime.0.assignment.lock() = super::Assignment::of_actor(&start);
        Ok(Self {
            runtime,
            start,
            actor,
            payload,
        })
    }

    /// The actor to become.
    pub fn actor(&self) -> ActorId {
        self.actor
    }

    /// The class of the actor.
    pub(crate) fn class_name(&self) -> &str {
        let class = self.spec().function.as_ref();
        class.map_or("", |class| class.name.as_str())
    }

    /// What the raylet said.
    pub fn start(&self) -> &wire::StartActor {
        &self.start
    }

    /// The creation task.
    pub fn spec(&self) -> &wire::TaskSpec {
        self.start.spec.as_ref().expect("checked when received")
    }

    /// Reads the constructor's arguments and fetches its dependencies.
    pub fn take_inputs(&mut self) -> Result<CallInputs, TaskFailure> {
        let payload = std::mem::take(&mut self.payload);
        let layout = self.spec().args.clone().unwrap_or_default();
        let payload = Payload::Owned(payload);
        let (args, _) = self
            .runtime
            .read_value(&layout, &payload, 0, false)
            .map_err(|error| bad_frame(&error))?;
        let references = self
            .runtime
            .import_refs(&self.spec().dependencies, false)
            .map_err(|error| bad_frame(&error))?;
        let dependencies = self.runtime.get(&references, None)?;
        Ok(CallInputs { args, dependencies })
    }

    /// Tells the raylet how the constructor ended.
    pub fn finish(self, result: Result<(), TaskFailure>) {
        self.runtime.queue().actor_started();
        let started = wire::ActorStarted {
            actor_id: self.actor.to_wire(),
            failure: result.err().map(|failure| failure.to_wire()),
        };
        self.runtime
            .0
            .node
            .tell(wire::node_frame::Kind::ActorStarted(started), Urgency::Now);
    }
}
