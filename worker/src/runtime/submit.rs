//! Submitting tasks and calls.

use std::sync::Arc;

use aktis_common::ids::{JobId, ObjectId, TaskId};
use aktis_proto::v1 as wire;

use super::{ObjectStream, RemoteFunction, RemoteMethod, Runtime};
use crate::core::leases::ClassId;
use crate::core::objects::ObjectState;
use crate::core::tasks::{CallTemplate, Target, TaskRecord};
use crate::error::TaskFailure;
use crate::options::{ResourceMap, Strategy};
use crate::reference::ObjectRef;
use crate::value::Value;

/// Arguments below this never go to the object store: their place there would take as much.
const STORED_FROM_BYTES: usize = 4 << 10;

impl Runtime {
    /// Whether arguments of this length are to be put into the object store and passed by reference: because they are long, or
    /// because so much waits in this process that a callee which is too slow would make its memory grow without end.
    pub fn is_to_be_stored(&self, args_bytes: usize) -> bool {
        if args_bytes as u64 > self.0.hello.max_inline_bytes {
            return true;
        }
        args_bytes >= STORED_FROM_BYTES && {
            let queued_bytes = self.0.core.look(|core| core.tasks.queued_bytes());
            queued_bytes + args_bytes as u64 > self.0.queued_limit_bytes
        }
    }

    /// Runs a function somewhere in the cluster. Returns one reference per result.
    pub fn submit(
        &self,
        function: &RemoteFunction,
        input: Value,
        dependencies: Vec<ObjectRef>,
    ) -> Result<Vec<ObjectRef>, TaskFailure> {
        self.start_task(&function.template(self), input, dependencies)
            .map(|(_, results)| results)
    }

    /// Runs a generator somewhere in the cluster. Its items come one by one.
    pub fn submit_streaming(
        &self,
        function: &RemoteFunction,
        input: Value,
        dependencies: Vec<ObjectRef>,
    ) -> Result<ObjectStream, TaskFailure> {
        self.start_task(&function.template(self), input, dependencies)
            .map(|(task, _)| ObjectStream::new(task, self))
    }

    /// Calls a method. Returns one reference per result.
    pub fn call(
        &self,
        method: &RemoteMethod,
        input: Value,
        dependencies: Vec<ObjectRef>,
    ) -> Result<Vec<ObjectRef>, TaskFailure> {
        self.start_task(&method.template(self), input, dependencies)
            .map(|(_, results)| results)
    }

    /// Calls a generator method. Its items come one by one.
    pub fn call_streaming(
        &self,
        method: &RemoteMethod,
        input: Value,
        dependencies: Vec<ObjectRef>,
    ) -> Result<ObjectStream, TaskFailure> {
        self.start_task(&method.template(self), input, dependencies)
            .map(|(task, _)| ObjectStream::new(task, self))
    }

    fn start_task(
        &self,
        template: &Arc<CallTemplate>,
        input: Value,
        dependencies: Vec<ObjectRef>,
    ) -> Result<(TaskId, Vec<ObjectRef>), TaskFailure> {
        self.check_open()?;
        let task = TaskId::next();
        let shared = &template.shared;
        let edges = dependencies
            .iter()
            .map(|reference| (reference.id(), reference.owner()))
            .collect();
        let mut record =
            TaskRecord::new(task, Arc::clone(template), input, edges).child_of(self.current_task());
        self.with_core(|core, effects| {
            if let Target::Actor(actor) = template.target {
                record.set_sequence(core.actors.admit(actor)?);
            }
            for index in 0..shared.num_returns {
                let id = ObjectId::of_return(task, index);
                core.objects.hold(id, ObjectState::Pending);
            }
            if shared.is_streaming {
                core.streams.open(task);
            }
            match template.target {
                Target::Class(_) => core.submit(record, effects),
                Target::Actor(actor) => core.submit_call(actor, record, effects),
            }
            Ok(())
        })?;
        let results = (0..shared.num_returns)
            .map(|index| ObjectRef::from_counted(ObjectId::of_return(task, index), self.0.me, self))
            .collect();
        Ok((task, results))
    }

    /// The scheduling class of tasks that ask for this.
    pub(crate) fn class_of(&self, request: &wire::ResourceRequest, job: JobId) -> ClassId {
        self.0.core.note(|core| core.leases.class_of(request, job))
    }
}

pub(crate) fn resource_request(
    resources: &ResourceMap,
    gpu_memory_bytes: u64,
    strategy: &Strategy,
) -> wire::ResourceRequest {
    use wire::scheduling_strategy::Kind as StrategyKind;
    let kind = match strategy {
        Strategy::Default => StrategyKind::Default(wire::DefaultStrategy {}),
        Strategy::Spread => StrategyKind::Spread(wire::SpreadStrategy {}),
        Strategy::Node { node_id, is_soft } => {
            StrategyKind::NodeAffinity(wire::NodeAffinityStrategy {
                node_id: node_id.to_wire(),
                soft: *is_soft,
            })
        }
    };
    wire::ResourceRequest {
        resources: Some(wire::ResourceSet {
            quantities: resources
                .iter()
                .map(|(name, quantity)| (name.clone(), *quantity))
                .collect(),
        }),
        strategy: Some(wire::SchedulingStrategy { kind: Some(kind) }),
        gpu_memory_bytes,
    }
}
