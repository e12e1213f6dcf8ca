//! Stage workers as threads of this process: no cluster, no processes. For our tests, and for those of users, whose functions can then
//! be stopped in by a debugger and see what a test has changed (`aktis.testing.local`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::NodeId;
use aktis_common::resources::{NodeResources, ResourceSet};
use aktis_common::scheduling::{ClusterView, NodeView};
use aktis_worker::TaskFailure;
use bytes::Bytes;

use super::{
    Answer, AnswerSink, BlockReader, Look, PoolAnswers, StagePool, WorkerInput, WorkerStart,
};
use crate::block::{self, BlockHandle};
use crate::executor::core::event::WorkerKey;
use crate::graph::Operator;
use crate::panics;
use crate::sources::SourceBlock;
use crate::stage_worker::StageWorker;
use crate::wire::decode_task;
use crate::wire::spec::{InputSpec, StageSpec};

/// What every thread of a pool begins with.
type Begin = Arc<dyn Fn() -> Result<(), TaskFailure> + Send + Sync>;

/// Threads instead of actors.
pub struct InProcessPool {
    view: ClusterView,
    begin: Begin,
    answers: Option<AnswerSink>,
    workers: HashMap<WorkerKey, RunningThread>,
    /// Threads of workers that were stopped.
    stopped: Vec<JoinHandle<()>>,
}

struct RunningThread {
    requests: Sender<WorkerRequest>,
    thread: JoinHandle<()>,
}

enum WorkerRequest {
    Ready,
    Start(Box<InputSpec>, Vec<Bytes>),
    Queue(Box<InputSpec>, Vec<Bytes>),
    Pull,
}

impl InProcessPool {
    /// A pool that pretends to be one node with these resources.
    pub fn new(total: ResourceSet) -> Self {
        let node = NodeView {
            id: NodeId::NIL,
            resources: NodeResources::new(total, Vec::new(), [].into()),
        };
        Self {
            view: ClusterView::new(vec![node]),
            begin: Arc::new(|| Ok(())),
            answers: None,
            workers: HashMap::new(),
            stopped: Vec::new(),
        }
    }

    /// The same, whose threads call this first: once each, and not those that they start themselves.
    #[must_use]
    pub fn beginning_with(
        self,
        begin: impl Fn() -> Result<(), TaskFailure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            begin: Arc::new(begin),
            ..self
        }
    }

    /// The same with so many processors, and nothing else.
    #[cfg(test)]
    pub(crate) fn of_cpus(cpus: u16) -> Self {
        Self::new(ResourceSet::of_cpus(i64::from(cpus)))
    }

    /// The same, pretending to be several nodes.
    #[cfg(test)]
    pub(crate) fn of_nodes(nodes: u8, cpus: u16) -> Self {
        let total = ResourceSet::of_cpus(i64::from(cpus));
        let node = |id: u8| NodeView {
            id: NodeId::new([id; 16]),
            resources: NodeResources::new(total.clone(), Vec::new(), [].into()),
        };
        Self {
            view: ClusterView::new((1..=nodes).map(node).collect()),
            ..Self::of_cpus(cpus)
        }
    }

    fn request(&self, worker: WorkerKey, request: WorkerRequest) -> Result<(), TaskFailure> {
        let thread = self.workers.get(&worker);
        if thread.is_some_and(|thread| thread.requests.send(request).is_ok()) {
            return Ok(());
        }
        Err(TaskFailure::new(
            ErrorCode::ActorDied,
            "the worker's thread has ended",
        ))
    }
}

impl StagePool for InProcessPool {
    fn another(&self) -> Box<dyn StagePool> {
        Box::new(Self {
            view: self.view.clone(),
            begin: Arc::clone(&self.begin),
            answers: None,
            workers: HashMap::new(),
            stopped: Vec::new(),
        })
    }

    fn look(&self) -> Look {
        let view = self.view.clone();
        Arc::new(move || Ok(view.clone()))
    }

    fn store_bytes(&self) -> Option<u64> {
        None
    }

    fn session(&self) -> String {
        "this process".to_owned()
    }

    fn answer_to(&mut self, sink: PoolAnswers) {
        self.answers = Some(sink.0);
    }

    fn start_worker(&mut self, key: WorkerKey, start: WorkerStart<'_>) -> Result<(), TaskFailure> {
        let answers = Arc::clone(self.answers.as_ref().expect("answer_to comes first"));
        let (sender, requests) = channel();
        let spec: StageSpec = start.spec.clone();
        if !start.captured.is_empty() {
            return Err(TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{}: functions that hold references of a session cannot run in threads of this process",
                    start.name
                ),
            ));
        }
        let begin = Arc::clone(&self.begin);
        let work = move || {
            let made = begin().and_then(|()| made(spec));
            let mut worker = match made {
                Ok(worker) => worker,
                Err(failure) => return answers(key, 0, Answer::Ready(Err(failure))),
            };
            let mut numbers = 0..;
            while let Ok(request) = requests.recv() {
                let is_ready_call = matches!(request, WorkerRequest::Ready);
                let work = || Ok(serve(&mut worker, request));
                let answer = panics::caught(|text| panics::defect("a stage worker", text), work);
                let has_panicked = answer.is_err();
                answers(
                    key,
                    numbers.next().unwrap_or(u64::MAX),
                    answer.unwrap_or_else(|failure| failed(is_ready_call, failure)),
                );
                if has_panicked {
                    // Its state is not to be trusted; whoever calls again is told that it has ended.
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("aktis-stage".to_owned())
            .spawn(work)
            .map_err(|error| {
                TaskFailure::new(
                    ErrorCode::Internal,
                    format!("start a worker thread: {error}"),
                )
            })?;
        self.workers.insert(
            key,
            RunningThread {
                requests: sender,
                thread,
            },
        );
        self.request(key, WorkerRequest::Ready)
    }

    fn stop_worker(&mut self, worker: WorkerKey) {
        if let Some(RunningThread { thread, .. }) = self.workers.remove(&worker) {
            // With its requests gone it ends after the one that it works on.
            self.stopped.push(thread);
        }
    }

    fn wait_for_stopped(&mut self, patience: Duration) {
        let stopped = std::mem::take(&mut self.stopped);
        super::wait_until(patience, || stopped.iter().all(JoinHandle::is_finished));
    }

    fn start_input(
        &mut self,
        worker: WorkerKey,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure> {
        let blocks: Result<Vec<Bytes>, TaskFailure> = blocks.iter().map(read).collect();
        self.request(worker, WorkerRequest::Start(Box::new(input.0), blocks?))
    }

    fn queue_input(
        &mut self,
        worker: WorkerKey,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure> {
        let blocks: Result<Vec<Bytes>, TaskFailure> = blocks.iter().map(read).collect();
        self.request(worker, WorkerRequest::Queue(Box::new(input.0), blocks?))
    }

    fn pull(&mut self, worker: WorkerKey) -> Result<(), TaskFailure> {
        self.request(worker, WorkerRequest::Pull)
    }

    fn put(&self, source: &SourceBlock) -> Result<BlockHandle, TaskFailure> {
        let batch = source.batch().ok_or_else(|| {
            TaskFailure::new(ErrorCode::Internal, "a block of another pool was put here")
        })?;
        let stream =
            block::encode(&batch.schema(), std::slice::from_ref(batch)).map_err(|error| {
                TaskFailure::new(ErrorCode::Serialization, format!("write a block: {error}"))
            })?;
        Ok(BlockHandle::new(stream))
    }

    fn is_named(&self, _block: &BlockHandle, _failure: &TaskFailure) -> bool {
        // Blocks lie in the memory of this process.
        false
    }

    fn reader(&self) -> BlockReader {
        Arc::new(read)
    }
}

/// A worker that does not end this process if a call takes too long.
fn made(spec: StageSpec) -> Result<StageWorker, TaskFailure> {
    let task = decode_task(spec.clone())?;
    let has_limit = |step: &&Operator| match step {
        Operator::Map(call) => call.failures.timeout.is_some(),
        _ => false,
    };
    if let Some(Operator::Map(call)) = task.steps.iter().find(has_limit) {
        return Err(TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!(
                "{}: timeout_s= ends the process of a call that takes too long, and here that is the process of its caller: leave \
                 timeout_s= and DataContext.batch_timeout_s away",
                call.name
            ),
        ));
    }
    StageWorker::new(spec, Vec::new())
}

fn read(handle: &BlockHandle) -> Result<Bytes, TaskFailure> {
    handle.get::<Bytes>().cloned().ok_or_else(|| {
        TaskFailure::new(ErrorCode::Internal, "a block of another pool was read here")
    })
}

fn failed(is_ready_call: bool, failure: TaskFailure) -> Answer {
    if is_ready_call {
        Answer::Ready(Err(failure))
    } else {
        Answer::Pulled(Err(failure))
    }
}

fn serve(worker: &mut StageWorker, request: WorkerRequest) -> Answer {
    let pulled = match request {
        WorkerRequest::Ready => return Answer::Ready(worker.ready()),
        WorkerRequest::Start(input, blocks) => {
            worker.begin(*input, blocks.into_iter().map(Into::into).collect())
        }
        WorkerRequest::Queue(input, blocks) => {
            worker.queue(*input, blocks.into_iter().map(Into::into).collect())
        }
        WorkerRequest::Pull => worker.pull(),
    };
    let here = |block| BlockHandle::new(Bytes::from(block));
    Answer::Pulled(pulled.map(|(report, block)| (report, block.map(here))))
}
