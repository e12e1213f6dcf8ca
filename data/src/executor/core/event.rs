//! What happens to the executor and what it wants done.

use std::time::Duration;

use aktis_worker::TaskFailure;

use aktis_common::ids::NodeId;
use aktis_common::scheduling::ClusterView;

/// A worker of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerKey(pub u64);

/// A block of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey(pub u64);

/// Rows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSlice {
    /// The block.
    pub block: BlockKey,
    /// First row.
    pub first_row: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of the whole block.
    pub bytes: u64,
    /// Rows of the whole block.
    pub block_rows: u64,
}

impl BlockSlice {
    /// Bytes of a row of the block, about.
    pub(crate) fn row_bytes(&self) -> u64 {
        self.bytes / self.block_rows.max(1)
    }

    /// Bytes of its rows, about.
    pub(crate) fn own_bytes(&self) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(self.rows);
        u64::try_from(bytes / u128::from(self.block_rows.max(1))).unwrap_or(u64::MAX)
    }
}

/// What an input consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputContent {
    /// The split of the source with this number.
    Split(usize),
    /// Blocks that other stages made.
    Blocks {
        /// Of each feed, in the order of the edges.
        feeds: Vec<Vec<BlockSlice>>,
        /// Of exchanges: its partition, or the first of neighbours that were put together.
        partition: u32,
        /// Other inputs have more of its partition.
        is_piece: bool,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The worker has loaded its functions, on this node, if that is known.
    WorkerReady(WorkerKey, Option<NodeId>),
    /// The worker's process died, or its node.
    WorkerLost {
        /// The worker.
        worker: WorkerKey,
        /// What the system says about it.
        failure: TaskFailure,
        /// Whether rows of its input are to blame, of which fewer are suspected from now on: it says nothing of the others.
        is_explained: bool,
        /// How long the job had run by then.
        at: Duration,
    },
    /// The worker could not make its function ready, and another may: a model could not be fetched, a device was taken.
    ConstructorFailed {
        /// The worker, which was ended.
        worker: WorkerKey,
        /// What to tell the user if none can.
        failure: TaskFailure,
    },
    /// The worker's function or constructor failed: running it again would not help.
    WorkerFailed {
        /// The worker.
        worker: WorkerKey,
        /// What to tell the user.
        failure: TaskFailure,
    },
    /// What was expected of rows does not hold.
    Broken(TaskFailure),
    /// A worker could not be given its input, because blocks of it are lost; the worker itself is well.
    InputLost {
        /// The worker.
        worker: WorkerKey,
        /// The blocks.
        blocks: Vec<BlockKey>,
    },
    /// A delivered block cannot be read: its node is gone. Answered by `Restored`, or the job fails.
    BlockLost(BlockKey),
    /// The cluster has other nodes than before.
    NodesChanged(ClusterView),
    /// Other executions hold more or less of the store than before: this many bytes of blocks may wait or be read from now on.
    BudgetChanged(u64),
    /// A pull came back.
    Pulled(Pulled),
    /// The consumer has read a delivered block, and it is free.
    Taken(BlockKey),
    /// It is the time that was asked for.
    TimePassed,
    /// Nobody wants the rest.
    Cancelled,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The worker.
    pub worker: WorkerKey,
    /// The block, if there is one: its rows and bytes.
    pub block: Option<(BlockKey, u64, u64)>,
    /// Which partition the block belongs to.
    pub partition: u32,
    /// Whether the input is used up. If the worker was given one that follows, it is pulled for that from now on.
    pub is_last: bool,
    /// Whether all calls of the input are begun, and more could be under way: those of one that follows.
    pub wants_input: bool,
    /// Rows that went in since the last pull.
    pub rows_in: u64,
    /// How long the worker worked for it.
    pub busy: Duration,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a worker of this stage; answered by `WorkerReady`, `WorkerLost` or `WorkerFailed`.
    StartWorker {
        /// The stage.
        stage: usize,
        /// Which of the kinds of workers of the stage.
        kind: usize,
        /// The worker's name from now on.
        worker: WorkerKey,
        /// How often in a row workers of that kind have died before they were ready: what they died of needs time to
        /// pass, or to be noticed.
        incidents: u32,
    },
    /// End a worker. Not answered.
    StopWorker(WorkerKey),
    /// A worker that is ended next has not used its input up, which others will be given. Not answered.
    TakeBack(WorkerKey),
    /// Give a worker an input and pull once; answered by `Pulled`, `WorkerLost` or `WorkerFailed`. An input that the
    /// worker has is forgotten.
    StartInput(StartInput),
    /// Pull once more; answered like `StartInput`.
    Pull(WorkerKey),
    /// The same, and give the worker an input that follows the one that it is pulled for. Another pull may be under way: what comes of the
    /// two comes in their order, and if the first is answered by anything but `Pulled`, the second is not answered.
    QueueInput(StartInput),
    /// Give rows to the consumer; answered by `Taken`, when they have been read.
    Deliver(BlockSlice),
    /// Nobody needs the block any more.
    Release(BlockKey),
    /// A lost block was made again, under the second name: from now on it is the first.
    Restored {
        /// The block that was lost.
        lost: BlockKey,
        /// The one that has its rows.
        made: BlockKey,
    },
    /// It is over: all rows have been delivered or written, or it failed.
    Finish(Result<(), TaskFailure>),
}

/// An input on its way to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInput {
    /// The worker.
    pub worker: WorkerKey,
    /// Its stage.
    pub stage: usize,
    /// Position in the stage's order.
    pub sequence: u64,
    /// What it is.
    pub content: InputContent,
    /// Blocks that an earlier attempt has delivered.
    pub skip_blocks: u64,
    /// Rows in them.
    pub skip_rows: u64,
    /// If there are any: only these blocks are sent, by number, from the first of the input on.
    pub wanted: Vec<u64>,
}
