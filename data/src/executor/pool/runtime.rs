//! Stage workers as actors of the cluster, blocks as objects of its store.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, WorkerId};
use aktis_common::scheduling::{ClusterView, NodeView};
use aktis_proto::convert::node_view;
use aktis_proto::v1::NodeInfo;
use aktis_worker::{
    ActorHandle, ActorOptions, CallOptions, Function, ObjectRef, RemoteMethod, Runtime,
    TaskFailure, Value,
};
use bytes::Bytes;
use prost::Message;

use super::kept_costs::KeptCosts;
use super::{
    Answer, AnswerSink, BlockReader, Look, PoolAnswers, PutAway, StagePool, WorkerInput,
    WorkerStart,
};
use crate::block::{self, BlockHandle};
use crate::executor::core::event::WorkerKey;
use crate::sources::SourceBlock;
use crate::stage_worker::{METHOD_PULL, METHOD_QUEUE, METHOD_READY, METHOD_START, STAGE_WORKER};
use crate::wire::spec::Report;
use crate::wire::time::ReadyReport;

/// A result that is ready is in this process or on this node; reading it takes this long at most.
const READ_PATIENCE: Duration = Duration::from_secs(120);

/// The pool over a runtime.
pub struct RuntimePool {
    runtime: Runtime,
    /// What tells it from other pools of its job.
    pool: WorkerId,
    answers: Option<AnswerSink>,
    workers: HashMap<WorkerKey, RunningWorker>,
    python_modules: Vec<String>,
    /// Workers that were ended in the middle of calls: the calls are answered when the processes are gone.
    stopped: Vec<StoppedWorker>,
    costs: KeptCosts,
}

struct StoppedWorker {
    kill: JoinHandle<()>,
    calls_under_way: Arc<AtomicUsize>,
}

struct RunningWorker {
    actor: ActorHandle,
    calls: Cell<u64>,
    calls_under_way: Arc<AtomicUsize>,
}

impl RuntimePool {
    /// A pool of this process's cluster.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            pool: WorkerId::random(),
            answers: None,
            workers: HashMap::new(),
            python_modules: Vec::new(),
            stopped: Vec::new(),
            costs: KeptCosts::default(),
        }
    }

    /// The same, where workers that call Python functions share these modules instead of importing them one by one.
    #[must_use]
    pub fn with_python_modules(mut self, modules: Vec<String>) -> Self {
        self.python_modules = modules;
        self
    }

    fn worker(&self, key: WorkerKey) -> Result<&RunningWorker, TaskFailure> {
        self.workers.get(&key).ok_or_else(|| {
            TaskFailure::new(ErrorCode::Internal, "a worker was called after its end")
        })
    }

    /// Calls a method with two results; the answer is made on the loop's behalf when the first is there.
    fn call_for_report(
        &self,
        key: WorkerKey,
        method: &str,
        input: Value,
        dependencies: Vec<ObjectRef>,
    ) -> Result<(), TaskFailure> {
        let options = CallOptions {
            num_returns: 2,
            ..CallOptions::default()
        };
        let results = self.call(key, method, input, dependencies, &options)?;
        let [report, block]: [ObjectRef; 2] = results.try_into().map_err(|_| {
            TaskFailure::new(
                ErrorCode::Internal,
                "a call with two results gave another number",
            )
        })?;
        self.when_ready(key, &report.clone(), move |runtime| {
            Answer::Pulled(read_report(runtime, &report, block))
        })
    }

    /// Calls a method with an input.
    fn give(
        &self,
        worker: WorkerKey,
        method: &str,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure> {
        let blocks: Result<Vec<ObjectRef>, TaskFailure> = blocks.iter().map(reference).collect();
        let (there, here) = match input.0.is_large {
            true => (blocks?, Vec::new()),
            false => (Vec::new(), blocks?),
        };
        let mut input = Value::native(input.0.encode_to_vec());
        input.contained = there.into_iter().collect();
        self.call_for_report(worker, method, input, here)
    }

    fn call(
        &self,
        key: WorkerKey,
        method: &str,
        input: Value,
        dependencies: Vec<ObjectRef>,
        options: &CallOptions,
    ) -> Result<Vec<ObjectRef>, TaskFailure> {
        let actor = self.worker(key)?.actor.clone();
        let method = RemoteMethod::new(actor, method, options.clone());
        self.runtime.call(&method, input, dependencies)
    }

    fn when_ready(
        &self,
        key: WorkerKey,
        reference: &ObjectRef,
        answer: impl FnOnce(&Runtime) -> Answer + Send + 'static,
    ) -> Result<(), TaskFailure> {
        let worker = self.worker(key)?;
        let number = worker.calls.replace(worker.calls.get() + 1);
        let calls = Arc::clone(&worker.calls_under_way);
        calls.fetch_add(1, Ordering::Relaxed);
        let answers = Arc::clone(self.answers.as_ref().expect("answer_to comes first"));
        let runtime = self.runtime.clone();
        let callback = move || {
            calls.fetch_sub(1, Ordering::Relaxed);
            answers(
                key,
                number,
                Answer::Later(Box::new(move || answer(&runtime))),
            );
        };
        self.runtime.on_ready(reference, Box::new(callback));
        Ok(())
    }
}

impl StoppedWorker {
    fn is_gone(&self) -> bool {
        self.kill.is_finished() && self.calls_under_way.load(Ordering::Relaxed) == 0
    }
}

fn read_ready(runtime: &Runtime, ready: &ObjectRef) -> Result<ReadyReport, TaskFailure> {
    let value = get_one(runtime, ready)?;
    ReadyReport::decode(&*value.inband).map_err(|error| {
        let text = format!("read a worker's first report: {error}");
        TaskFailure::new(ErrorCode::Internal, text)
    })
}

fn read_report(
    runtime: &Runtime,
    report: &ObjectRef,
    block: ObjectRef,
) -> Result<(Report, Option<BlockHandle>), TaskFailure> {
    let value = get_one(runtime, report)?;
    let report = Report::decode(&*value.inband).map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("read a worker's report: {error}"),
        )
    })?;
    let block = report.has_block.then(|| BlockHandle::new(block));
    Ok((report, block))
}

fn get_one(runtime: &Runtime, reference: &ObjectRef) -> Result<Value, TaskFailure> {
    let deadline = Some(Instant::now() + READ_PATIENCE);
    let mut values = runtime.get(std::slice::from_ref(reference), deadline)?;
    values
        .pop()
        .ok_or_else(|| TaskFailure::new(ErrorCode::Internal, "get() gave no value"))
}

fn reference(handle: &BlockHandle) -> Result<ObjectRef, TaskFailure> {
    handle.get::<ObjectRef>().cloned().ok_or_else(|| {
        TaskFailure::new(
            ErrorCode::Internal,
            "a block of another pool was used with a cluster",
        )
    })
}

/// The node with everything free; its user's share of the cluster is for the scheduler to find out.
fn view_of(node: &NodeInfo) -> Result<NodeView, TaskFailure> {
    let view = node_view(node).map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("read a list of nodes: {error}"),
        )
    })?;
    Ok(NodeView {
        id: view.id,
        resources: view.resources.emptied(),
    })
}

impl StagePool for RuntimePool {
    fn another(&self) -> Box<dyn StagePool> {
        let pool = Self::new(self.runtime.clone());
        Box::new(pool.with_python_modules(self.python_modules.clone()))
    }

    fn look(&self) -> Look {
        let runtime = self.runtime.clone();
        Arc::new(move || {
            let nodes = runtime.nodes()?;
            let alive = nodes.iter().filter(|node| node.is_alive);
            let alive: Result<_, TaskFailure> = alive.map(view_of).collect();
            Ok(ClusterView::new(alive?))
        })
    }

    fn lost_nodes(&self) -> Result<Vec<NodeView>, TaskFailure> {
        self.runtime.lost_nodes()?.iter().map(view_of).collect()
    }

    fn waits_when_infeasible(&self) -> bool {
        self.runtime.assignment().waits_when_infeasible
    }

    fn store_bytes(&self) -> Option<u64> {
        let nodes = self.runtime.nodes().ok()?;
        Some(
            nodes
                .iter()
                .filter(|node| node.is_alive)
                .map(|node| node.store_capacity_bytes)
                .sum(),
        )
    }

    fn session(&self) -> String {
        // Every process that joins a session has a job of its own.
        self.runtime.job().to_string()
    }

    fn answer_to(&mut self, sink: PoolAnswers) {
        self.answers = Some(sink.0);
    }

    fn start_worker(&mut self, key: WorkerKey, start: WorkerStart<'_>) -> Result<(), TaskFailure> {
        let options = ActorOptions {
            resources: Some(start.resources.resources().units().collect()),
            gpu_memory_bytes: start.resources.gpu_memory_bytes(),
            shared_modules: if start.calls_python {
                self.python_modules.clone()
            } else {
                Vec::new()
            },
            ..ActorOptions::default()
        };
        let class = Function::native(STAGE_WORKER);
        let input = Value::native(start.spec.encode_to_vec());
        tracing::debug!(
            stage = start.name,
            worker = key.0,
            "starting a stage worker"
        );
        let captured: Result<Vec<ObjectRef>, TaskFailure> =
            start.captured.iter().map(reference).collect();
        let actor = self
            .runtime
            .create_actor(&class, input, captured?, &options)?;
        self.workers.insert(
            key,
            RunningWorker {
                actor,
                calls: Cell::new(0),
                calls_under_way: Arc::default(),
            },
        );
        let nothing = Value::native(Bytes::new());
        let results = self.call(
            key,
            METHOD_READY,
            nothing,
            Vec::new(),
            &CallOptions::default(),
        )?;
        let ready = results.into_iter().next().ok_or_else(|| {
            TaskFailure::new(ErrorCode::Internal, "a call with one result gave none")
        })?;
        self.when_ready(key, &ready.clone(), move |runtime| {
            Answer::Ready(read_ready(runtime, &ready))
        })
    }

    fn stop_worker(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.remove(&key) else {
            return;
        };
        if worker.calls_under_way.load(Ordering::Relaxed) == 0 {
            // The last handle goes, and the actor with it.
            return;
        }
        let runtime = self.runtime.clone();
        let calls_under_way = Arc::clone(&worker.calls_under_way);
        let kill = move || {
            if let Err(failure) = runtime.kill_actor(&worker.actor, true) {
                tracing::debug!(%failure, "a stage worker could not be ended");
            }
        };
        let thread = std::thread::Builder::new().name("aktis-end".to_owned());
        match thread.spawn(kill) {
            Ok(kill) => self.stopped.push(StoppedWorker {
                kill,
                calls_under_way,
            }),
            Err(error) => tracing::warn!(%error, "a stage worker could not be ended"),
        }
        self.stopped.retain(|stopped| !stopped.is_gone());
    }

    fn wait_for_stopped(&mut self, patience: Duration) {
        let stopped = std::mem::take(&mut self.stopped);
        super::wait_until(patience, || stopped.iter().all(StoppedWorker::is_gone));
    }

    fn start_input(
        &mut self,
        worker: WorkerKey,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure> {
        self.give(worker, METHOD_START, input, blocks)
    }

    fn queue_input(
        &mut self,
        worker: WorkerKey,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure> {
        self.give(worker, METHOD_QUEUE, input, blocks)
    }

    fn pull(&mut self, worker: WorkerKey) -> Result<(), TaskFailure> {
        self.call_for_report(worker, METHOD_PULL, Value::native(Bytes::new()), Vec::new())
    }

    fn put(&self, source: &SourceBlock) -> Result<BlockHandle, TaskFailure> {
        let batch = source.batch().ok_or_else(|| {
            TaskFailure::new(
                ErrorCode::ObjectLost,
                "the rows of a materialised dataset went with the session that made it; make it again in this session",
            )
        })?;
        let stream =
            block::encode(&batch.schema(), std::slice::from_ref(batch)).map_err(|error| {
                TaskFailure::new(ErrorCode::Serialization, format!("write a block: {error}"))
            })?;
        self.runtime
            .put(Value::arrow_stream(stream))
            .map(BlockHandle::new)
    }

    fn is_here(&self, block: &BlockHandle) -> bool {
        reference(block).is_ok_and(|block| self.runtime.is_inline(&block))
    }

    fn node_of(&self, block: &BlockHandle) -> Option<NodeId> {
        let nodes = self.runtime.nodes_of(reference(block).as_ref().ok()?);
        nodes.first().copied()
    }

    fn put_away(&self) -> PutAway {
        let runtime = self.runtime.clone();
        Arc::new(move |block| {
            let value = get_one(&runtime, &reference(block)?)?;
            runtime.put_stored(value).map(BlockHandle::new)
        })
    }

    fn note(&self, key: &Bytes) -> Result<Option<Bytes>, TaskFailure> {
        self.runtime.kv_get(key.clone())
    }

    fn is_node_lost(&self, node: &[u8]) -> Result<bool, TaskFailure> {
        let nodes = self.runtime.nodes()?;
        Ok(!nodes
            .iter()
            .any(|known| known.is_alive && known.node_id == node))
    }

    fn note_prefix(&self) -> String {
        let job = self.runtime.job();
        format!("data/calls/{job}/{}", self.pool)
    }

    fn keep_cost(&self, record: serde_json::Value) {
        self.costs.keep(&self.runtime, record);
    }

    fn is_named(&self, block: &BlockHandle, failure: &TaskFailure) -> bool {
        let id = reference(block).map(|reference| reference.id().to_string());
        id.is_ok_and(|id| failure.message.contains(&id))
    }

    fn reader(&self) -> BlockReader {
        let runtime = self.runtime.clone();
        Arc::new(move |handle| {
            let value = get_one(&runtime, &reference(handle)?)?;
            Ok(value
                .buffers
                .into_iter()
                .next()
                .unwrap_or_else(|| value.inband.into_bytes()))
        })
    }
}
