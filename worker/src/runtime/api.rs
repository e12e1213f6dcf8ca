//! What callers use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ObjectId, TaskId};
use aktis_proto::v1 as wire;
use prost::Message;
use wire::node_frame::Kind;

use super::objects::{Place, ReadError};
use super::{ProcessRole, Runtime};
use crate::core::objects::ObjectState;
use crate::core::tasks::{Target, TaskRecord, layout_of};
use crate::core::{ResultValue, StreamNext, Watcher};
use crate::error::TaskFailure;
use crate::lane::reactor::WaitEnd;
use crate::lane::turn::Waiter;
use crate::options::{Function, Strategy, TaskOptions};
use crate::reference::ObjectRef;
use crate::stream::ObjectStream;
use crate::value::Value;

/// Asked now and then while a thread waits; `true` ends the wait.
pub type Interrupt<'a> = &'a dyn Fn() -> bool;

/// A worker that waits longer than this gives its CPU back.
const BLOCKED_AFTER: Duration = Duration::from_micros(500);
const SIGNAL_SLICE: Duration = Duration::from_millis(100);

/// Why `get` gave no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// An object failed; or the task that was to make it.
    #[error("{0}")]
    Failed(TaskFailure),
    /// The deadline passed; this many objects were not ready.
    #[error("{missing} of {wanted} objects were not ready in time")]
    TimedOut {
        /// Objects that were not ready.
        missing: usize,
        /// Objects asked for.
        wanted: usize,
    },
    /// The interrupt said so.
    #[error("interrupted")]
    Interrupted,
}

impl GetError {
    /// As a failure with a code.
    pub fn into_failure(self) -> TaskFailure {
        match self {
            Self::Failed(failure) => failure,
            Self::TimedOut { .. } => TaskFailure::new(ErrorCode::Timeout, self.to_string()),
            Self::Interrupted => TaskFailure::new(ErrorCode::Cancelled, "interrupted by a signal"),
        }
    }
}

/// Positions of ready and of other objects, each in the order asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitResult {
    /// Ready ones, at most as many as asked for.
    pub ready: Vec<usize>,
    /// All others.
    pub pending: Vec<usize>,
}

impl Runtime {
    /// Stores a value and returns the reference that owns it.
    pub fn put(&self, value: Value) -> Result<ObjectRef, TaskFailure> {
        self.check_open()?;
        let id = ObjectId::for_put();
        let me = self.0.me;
        if value.data_bytes() as u64 <= self.0.hello.max_inline_bytes {
            let mut core = self.0.core.lock();
            core.objects
                .insert_owned(id, ObjectState::Inline(value))
                .handles = 1;
            drop(core);
            return Ok(ObjectRef::from_counted(id, me, self));
        }
        self.with_core(|core, _| core.objects.insert_owned(id, ObjectState::Pending).handles = 1);
        let reference = ObjectRef::from_counted(id, me, self);
        let size_bytes = self.write_stored(id, me, &value)?;
        let stored = ResultValue::Stored {
            node: me.node,
            size_bytes,
            contained: value.contained,
        };
        self.with_core(|core, effects| core.resolve_object(id, stored, effects));
        Ok(reference)
    }

    /// The values of `references`, in order. Waits until all are there, `deadline` passes, or one has failed.
    pub fn get(
        &self,
        references: &[ObjectRef],
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, TaskFailure> {
        self.get_interruptibly(references, deadline, &|| false)
            .map_err(GetError::into_failure)
    }

    /// [`Self::get`] that asks `interrupt` at least every 100 ms, and at once after a signal.
    pub fn get_interruptibly(
        &self,
        references: &[ObjectRef],
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Vec<Value>, GetError> {
        self.check_open().map_err(GetError::Failed)?;
        self.wait_until_ready(references, deadline, interrupt)?;
        references
            .iter()
            .map(|reference| self.read(reference, deadline, interrupt))
            .collect()
    }

    fn wait_until_ready(
        &self,
        references: &[ObjectRef],
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<(), GetError> {
        let mut missing: Vec<ObjectId> = {
            let core = self.0.core.lock();
            let is_missing = |reference: &&ObjectRef| !core.objects.is_ready(reference.id());
            references
                .iter()
                .filter(is_missing)
                .map(ObjectRef::id)
                .collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        missing.dedup();
        let waiter = Waiter::new(missing.len());
        self.watch_all(&missing, &waiter);
        let waited = self.wait_for(&waiter, deadline, interrupt);
        if waited.is_err() {
            self.unwatch_all(&missing, &waiter);
        }
        waited.map_err(|error| match error {
            GetError::TimedOut { .. } => {
                let core = self.0.core.lock();
                let missing = missing
                    .iter()
                    .filter(|id| !core.objects.is_ready(**id))
                    .count();
                GetError::TimedOut {
                    missing,
                    wanted: references.len(),
                }
            }
            other => other,
        })
    }

    fn watch_all(&self, ids: &[ObjectId], waiter: &Arc<Waiter>) {
        self.with_core(|core, effects| {
            for id in ids {
                core.watch(*id, Watcher::Thread(Arc::clone(waiter)), effects);
            }
        });
    }

    fn unwatch_all(&self, ids: &[ObjectId], waiter: &Arc<Waiter>) {
        self.with_core(|core, _| {
            for id in ids {
                if let Some(entry) = core.objects.get_mut(*id) {
                    entry.watchers.retain(|watcher| {
                        !matches!(watcher, Watcher::Thread(waiting) if Arc::ptr_eq(waiting, waiter))
                    });
                }
            }
        });
    }

    /// Waits; a worker that waits for long lends its CPU to others meanwhile.
    pub(super) fn wait_for(
        &self,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<(), GetError> {
        let mut is_blocked = false;
        let mut slice = match self.0.role {
            ProcessRole::Worker { .. } => BLOCKED_AFTER,
            ProcessRole::Driver => SIGNAL_SLICE,
        };
        let end = loop {
            match self.reactor().wait(waiter, deadline, Some(slice)) {
                WaitEnd::Done => break Ok(()),
                WaitEnd::DeadlinePassed => {
                    break Err(GetError::TimedOut {
                        missing: 1,
                        wanted: 1,
                    });
                }
                WaitEnd::Interrupted if interrupt() => break Err(GetError::Interrupted),
                WaitEnd::Interrupted if !is_blocked && slice == BLOCKED_AFTER => {
                    is_blocked = true;
                    slice = SIGNAL_SLICE;
                    self.enter_blocked();
                }
                WaitEnd::Interrupted => {}
            }
        };
        if is_blocked {
            self.leave_blocked();
        }
        end
    }

    /// The value of a ready object. One whose copies turn out to be lost is waited for again.
    fn read(
        &self,
        reference: &ObjectRef,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Value, GetError> {
        let (object, owner) = (reference.id(), reference.owner());
        loop {
            let place = match self
                .0
                .core
                .lock()
                .objects
                .get(object)
                .map(|entry| &entry.state)
            {
                Some(ObjectState::Inline(value)) => return Ok(value.clone()),
                Some(ObjectState::Failed(failure)) => {
                    return Err(GetError::Failed(TaskFailure::clone(failure)));
                }
                Some(ObjectState::Stored(stored)) => Some(Place {
                    object,
                    owner,
                    nodes: stored.nodes.clone(),
                    size_bytes: stored.size_bytes,
                }),
                Some(ObjectState::Pending | ObjectState::Lost) => None,
                None => return Err(GetError::Failed(unknown(object))),
            };
            let Some(place) = place else {
                self.wait_until_ready(std::slice::from_ref(reference), deadline, interrupt)?;
                continue;
            };
            match self.read_from_store(&place, deadline, interrupt) {
                Ok(bytes) => return self.value_of(&bytes).map_err(GetError::Failed),
                Err(Ok(ReadError::Failed(failure))) => return Err(GetError::Failed(failure)),
                Err(Ok(ReadError::Lost(nodes))) => self.report_lost(object, owner, &nodes),
                Err(Err(error)) => return Err(error),
            }
        }
    }

    /// Waits until `count` of the references are ready, or `deadline` passes.
    pub fn wait(
        &self,
        references: &[ObjectRef],
        count: usize,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<WaitResult, GetError> {
        self.check_open().map_err(GetError::Failed)?;
        let missing: Vec<ObjectId> = {
            let core = self.0.core.lock();
            references
                .iter()
                .map(ObjectRef::id)
                .filter(|id| !core.objects.is_ready(*id))
                .collect()
        };
        let ready = references.len() - missing.len();
        if ready < count {
            let waiter = Waiter::new(count - ready);
            self.watch_all(&missing, &waiter);
            let waited = self.wait_for(&waiter, deadline, interrupt);
            self.unwatch_all(&missing, &waiter);
            if !matches!(waited, Ok(()) | Err(GetError::TimedOut { .. })) {
                waited?;
            }
        }
        let core = self.0.core.lock();
        let mut result = WaitResult {
            ready: Vec::with_capacity(count),
            pending: Vec::new(),
        };
        for (position, reference) in references.iter().enumerate() {
            let takes = result.ready.len() < count && core.objects.is_ready(reference.id());
            if takes {
                result.ready.push(position)
            } else {
                result.pending.push(position)
            }
        }
        Ok(result)
    }

    /// Whether the object is ready, or has failed.
    pub fn is_ready(&self, reference: &ObjectRef) -> bool {
        self.0.core.lock().objects.is_ready(reference.id())
    }

    pub(crate) fn failed_object(&self, failure: &TaskFailure) -> Result<ObjectRef, TaskFailure> {
        self.check_open()?;
        let id = ObjectId::for_put();
        let state = ObjectState::Failed(Arc::new(failure.clone()));
        self.with_core(|core, _| core.objects.insert_owned(id, state).handles = 1);
        Ok(ObjectRef::from_counted(id, self.0.me, self))
    }

    /// Calls back once, from a runtime thread, when the object is ready or has failed. Must be quick and not block.
    pub fn on_ready(&self, reference: &ObjectRef, callback: Box<dyn FnOnce() + Send>) {
        self.with_core(|core, effects| {
            core.watch(reference.id(), Watcher::Callback(callback), effects)
        });
    }

    /// Runs a function somewhere in the cluster. Returns one reference per result.
    pub fn submit(
        &self,
        function: &Function,
        input: Value,
        dependencies: Vec<ObjectRef>,
        options: &TaskOptions,
    ) -> Result<Vec<ObjectRef>, TaskFailure> {
        let (task, count) = self.submit_task(function, input, dependencies, options)?;
        let me = self.0.me;
        Ok((0..count)
            .map(|index| ObjectRef::from_counted(ObjectId::of_return(task, index), me, self))
            .collect())
    }

    /// Runs a generator somewhere in the cluster. Its items come one by one.
    pub fn submit_streaming(
        &self,
        function: &Function,
        input: Value,
        dependencies: Vec<ObjectRef>,
        options: &TaskOptions,
    ) -> Result<ObjectStream, TaskFailure> {
        let options = TaskOptions {
            is_streaming: true,
            num_returns: 0,
            ..options.clone()
        };
        let (task, _) = self.submit_task(function, input, dependencies, &options)?;
        Ok(ObjectStream::new(task, self))
    }

    fn submit_task(
        &self,
        function: &Function,
        input: Value,
        dependencies: Vec<ObjectRef>,
        options: &TaskOptions,
    ) -> Result<(TaskId, u32), TaskFailure> {
        self.check_open()?;
        let task = TaskId::next();
        let spec = wire::TaskSpec {
            task_id: task.to_wire(),
            job_id: self.job().to_wire(),
            function: Some(function.to_wire()),
            args: Some(layout_of(&input)),
            dependencies: dependencies.iter().map(ObjectRef::to_wire).collect(),
            num_returns: options.num_returns,
            retries_left: options.max_retries,
            retry_exceptions: options.retry_exceptions,
            retry_exception_types: options.retry_exception_types.clone(),
            owner: Some(self.0.me.to_wire()),
            is_streaming: options.is_streaming,
            max_calls: options.max_calls,
            ..Default::default()
        };
        let request = resource_request(
            &options.resources,
            options.gpu_memory_bytes,
            &options.strategy,
        );
        let job = self.job();
        let edges = dependencies
            .iter()
            .map(|reference| (reference.id(), reference.owner()))
            .collect();
        self.with_core(|core, effects| {
            let class = core.leases.class_of(&request, job);
            for index in 0..options.num_returns {
                let id = ObjectId::of_return(task, index);
                core.objects.insert_owned(id, ObjectState::Pending).handles = 1;
            }
            if options.is_streaming {
                core.open_stream(task);
            }
            core.submit(
                TaskRecord::new(spec, input, edges, Target::Class(class)),
                effects,
            );
        });
        Ok((task, options.num_returns))
    }

    pub(crate) fn stream_next(
        &self,
        task: TaskId,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Option<ObjectRef>, GetError> {
        loop {
            match self.with_core(|core, _| core.stream_next(task)) {
                StreamNext::Item(object) => {
                    return Ok(Some(ObjectRef::from_counted(object, self.0.me, self)));
                }
                StreamNext::End => return Ok(None),
                StreamNext::Failed(failure) => return Err(GetError::Failed(failure)),
                StreamNext::Pending => {}
            }
            let waiter = Waiter::new(1);
            let watcher = Watcher::Thread(Arc::clone(&waiter));
            self.with_core(|core, effects| core.watch_stream(task, watcher, effects));
            self.wait_for(&waiter, deadline, interrupt)?;
        }
    }

    pub(crate) fn close_stream(&self, task: TaskId) {
        if !self.is_closed() {
            self.with_core(|core, effects| core.drop_stream(task, effects));
        }
    }

    /// The nodes of the cluster, with totals and what is free.
    pub fn nodes(&self) -> Result<Vec<wire::NodeInfo>, TaskFailure> {
        self.check_open()?;
        let query = Kind::ClusterQuery(wire::ClusterQuery {});
        let (reply, _) = self.0.node.request(
            self.reactor(),
            query,
            Some(Instant::now() + CONTROL_TIMEOUT),
        )?;
        match reply {
            Kind::ClusterReply(reply) => Ok(reply.nodes),
            _ => Err(TaskFailure::new(
                ErrorCode::Internal,
                "the raylet answered a query with another frame",
            )),
        }
    }

    /// Calls a method of the gcs through the raylet.
    pub fn call_gcs<Request: Message, Reply: Message + Default>(
        &self,
        method: &str,
        request: &Request,
    ) -> Result<Reply, TaskFailure> {
        self.check_open()?;
        let call = wire::GcsCall {
            method: method.to_owned(),
            body: request.encode_to_vec().into(),
        };
        let deadline = Some(Instant::now() + CONTROL_TIMEOUT);
        match self
            .0
            .node
            .request(self.reactor(), Kind::GcsCall(call), deadline)?
            .0
        {
            Kind::GcsReply(reply) => Reply::decode(reply.body).map_err(|error| {
                TaskFailure::new(
                    ErrorCode::Internal,
                    format!("cannot read the gcs's answer to {method}: {error}"),
                )
            }),
            _ => Err(TaskFailure::new(
                ErrorCode::Internal,
                "the raylet answered a gcs call with another frame",
            )),
        }
    }

    /// Exports a definition under the hash of its bytes. Returns the key.
    pub fn kv_put(
        &self,
        key: impl Into<bytes::Bytes>,
        value: impl Into<bytes::Bytes>,
    ) -> Result<(), TaskFailure> {
        let request = wire::KvPutRequest {
            key: key.into(),
            value: value.into(),
            overwrite: false,
        };
        self.call_gcs::<_, wire::KvPutReply>("KvPut", &request)
            .map(drop)
    }

    /// Reads a key of the gcs table.
    pub fn kv_get(
        &self,
        key: impl Into<bytes::Bytes>,
    ) -> Result<Option<bytes::Bytes>, TaskFailure> {
        let request = wire::KvGetRequest { key: key.into() };
        Ok(self
            .call_gcs::<_, wire::KvGetReply>("KvGet", &request)?
            .value)
    }

    pub(super) fn check_open(&self) -> Result<(), TaskFailure> {
        if self.is_closed() {
            Err(crate::node_link::raylet_gone())
        } else {
            Ok(())
        }
    }
}

/// How long a control request may take before it counts as failed.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn resource_request(
    resources: &crate::options::ResourceMap,
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

fn unknown(object: ObjectId) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::ObjectLost,
        format!(
            "object {object} is not known to this session; references do not outlive shutdown()"
        ),
    )
}
