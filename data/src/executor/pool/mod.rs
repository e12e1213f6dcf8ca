//! Where stage workers live: as actors of a cluster, or, in tests, ours and users', as threads of this process.

mod in_process;
mod kept_costs;
mod runtime;

pub use in_process::InProcessPool;
pub use runtime::RuntimePool;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::NodeId;
use aktis_common::resources::ResourceRequest;
use aktis_common::scheduling::{ClusterView, NodeView};
use aktis_worker::TaskFailure;
use bytes::Bytes;
use serde_json::Value;

use crate::block::BlockHandle;
use crate::executor::core::event::WorkerKey;
use crate::sources::SourceBlock;
use crate::wire::spec::{InputSpec, Report, StageSpec};
use crate::wire::time::ReadyReport;

/// What a pool tells the loop. Every request is answered once, unless its worker was stopped.
pub(crate) enum Answer {
    /// To be read on the loop's thread, because reading may take a moment.
    Later(Box<dyn FnOnce() -> Answer + Send>),
    /// The worker has loaded its functions.
    Ready(Result<ReadyReport, TaskFailure>),
    /// A pull came back.
    Pulled(Result<(Report, Option<BlockHandle>), TaskFailure>),
}

/// Takes answers, from any thread; must not block. With the number of the call among those that the worker has got: the first, which
/// makes it ready, is 0.
pub(crate) type AnswerSink = Arc<dyn Fn(WorkerKey, u64, Answer) + Send + Sync>;

/// A pool of stage workers. Calls return at once; what comes of them arrives at the [`AnswerSink`]. A worker carries its calls out in their
/// order, and may have several.
pub trait StagePool: Send {
    /// Another pool like this one, without workers.
    fn another(&self) -> Box<dyn StagePool>;

    /// Looks what the cluster has, from any thread; as if nobody used anything of it.
    fn look(&self) -> Look;

    /// What nodes had that were lost lately: workers that only those can take are waited for.
    fn lost_nodes(&self) -> Result<Vec<NodeView>, TaskFailure> {
        Ok(Vec::new())
    }

    /// Whether workers that no node can ever take wait for one that can.
    fn waits_when_infeasible(&self) -> bool {
        false
    }

    /// Bytes of blocks that may be held, if the pool knows better than the default.
    fn store_bytes(&self) -> Option<u64>;

    /// What blocks in the store belong to: those of another session cannot be read.
    fn session(&self) -> String;

    /// Says where answers go. Called once, first.
    #[doc(hidden)]
    fn answer_to(&mut self, sink: PoolAnswers);

    /// Starts a worker.
    #[doc(hidden)]
    fn start_worker(
        &mut self,
        worker: WorkerKey,
        start: WorkerStart<'_>,
    ) -> Result<(), TaskFailure>;

    /// Ends a worker, whatever it is doing.
    #[doc(hidden)]
    fn stop_worker(&mut self, worker: WorkerKey);

    /// Waits until nothing of the workers that were stopped runs any more, at most so long.
    #[doc(hidden)]
    fn wait_for_stopped(&mut self, patience: Duration);

    /// Gives a worker an input, and pulls once.
    #[doc(hidden)]
    fn start_input(
        &mut self,
        worker: WorkerKey,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure>;

    /// Gives a worker an input that follows the one that it has, and pulls once. A pull may be under way.
    #[doc(hidden)]
    fn queue_input(
        &mut self,
        worker: WorkerKey,
        input: WorkerInput,
        blocks: Vec<BlockHandle>,
    ) -> Result<(), TaskFailure>;

    /// Pulls once.
    #[doc(hidden)]
    fn pull(&mut self, worker: WorkerKey) -> Result<(), TaskFailure>;

    /// Puts a block of this process where workers can read it.
    fn put(&self, block: &SourceBlock) -> Result<BlockHandle, TaskFailure>;

    /// Whether a block that is there lies in the memory of this process, where it came with an answer.
    #[doc(hidden)]
    fn is_here(&self, _block: &BlockHandle) -> bool {
        false
    }

    /// The node that a block lies on, if that is one and is known.
    #[doc(hidden)]
    fn node_of(&self, _block: &BlockHandle) -> Option<NodeId> {
        None
    }

    /// Puts such blocks into the store.
    #[doc(hidden)]
    fn put_away(&self) -> PutAway {
        Arc::new(|block| Ok(block.clone()))
    }

    /// What a worker has noted under this key, if it has.
    fn note(&self, _key: &Bytes) -> Result<Option<Bytes>, TaskFailure> {
        Ok(None)
    }

    /// Whether the node is gone, by its id as notes have it.
    fn is_node_lost(&self, _node: &[u8]) -> Result<bool, TaskFailure> {
        Ok(false)
    }

    /// What no notes of another execution begin with.
    fn note_prefix(&self) -> String {
        String::new()
    }

    /// Keeps what an execution has cost so far, for whoever asks later: the record that it kept last is replaced.
    fn keep_cost(&self, _record: Value) {}

    /// Whether the failure names this block as one that is gone.
    fn is_named(&self, block: &BlockHandle, failure: &TaskFailure) -> bool;

    /// Reads blocks back as Arrow IPC streams.
    fn reader(&self) -> BlockReader;
}

/// Waits until something is so, at most so long. For ends that nobody tells.
fn wait_until(patience: Duration, is_so: impl Fn() -> bool) {
    const LOOK_AGAIN: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + patience;
    while !is_so() && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Tells what the cluster has now. May block for a while.
pub type Look = Arc<dyn Fn() -> Result<ClusterView, TaskFailure> + Send + Sync>;

/// Reads a block as an Arrow IPC stream.
pub type BlockReader = Arc<dyn Fn(&BlockHandle) -> Result<Bytes, TaskFailure> + Send + Sync>;

/// Puts a block into the store, and says where it lies then. Waits where the store is full.
pub type PutAway = Arc<dyn Fn(&BlockHandle) -> Result<BlockHandle, TaskFailure> + Send + Sync>;

/// Where answers of a pool go.
pub struct PoolAnswers(pub(crate) AnswerSink);

/// What a new worker does.
pub struct WorkerStart<'a> {
    pub(crate) spec: &'a StageSpec,
    pub(crate) calls_python: bool,
    pub(crate) resources: &'a ResourceRequest,
    /// Objects that hold the references of its functions.
    pub(crate) captured: &'a [BlockHandle],
    pub(crate) name: &'a str,
}

/// One input for a worker.
pub struct WorkerInput(pub(crate) InputSpec);
