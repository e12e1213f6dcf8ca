//! The loop of an execution: messages to events, effects to calls of the pool.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use aktis_common::scheduling::ClusterView;
use aktis_worker::TaskFailure;
use parking_lot::Mutex;

use super::calls::Calls;
use super::expectations::Expectations;
use super::failed_rows::{DeadLetters, FailedRows};
use super::inputs::Journals;
use super::kept_blocks::KeptBlocks;
use super::outputs::JobOutputs;
use super::progress::{Progress, Working};
use super::shares::StoreShare;
use super::sizes::BatchSizes;
use super::specs::StageStart;
use super::starts::{LateStart, QueuedInput};
use super::statistics::COST_KEPT_EVERY;
use super::storing::Storing;
use super::watch::NodeWatch;
use super::worker_time::WorkerTimes;
use super::{DeliveredBlock, Delivery};
use crate::block::BlockHandle;
use crate::executor::core::Executor;
use crate::executor::core::event::{BlockKey, BlockSlice, Effect, Event, WorkerKey};
use crate::executor::pool::{Answer, StagePool};
use crate::sources::Split;
use crate::stats::ExecutionStats;

/// To the loop.
pub(crate) enum Message {
    /// Of a worker, to the call with this number.
    Answer(WorkerKey, u64, Box<Answer>),
    Taken(BlockKey),
    /// A delivered block cannot be read; where it lies when it was made again goes there.
    Lost(BlockKey, Sender<BlockHandle>),
    /// A block of this process lies in the store, or has no place there.
    Stored(BlockKey, Result<BlockHandle, TaskFailure>),
    /// The cluster has other nodes than before.
    Nodes(ClusterView),
    Cancel,
}

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRole {
    pub(crate) stage: usize,
    /// Which of the kinds of workers of the stage it is.
    pub(crate) kind: usize,
}

/// One execution.
pub(crate) struct ExecutionLoop {
    pub(crate) executor: Executor,
    /// What it may hold of the store beside other executions.
    pub(crate) share: StoreShare,
    pub(crate) pool: Box<dyn StagePool>,
    pub(crate) stages: Vec<StageStart>,
    /// Of each stage: those of its source.
    pub(crate) splits: Vec<Vec<Split>>,
    pub(crate) stats: Arc<Mutex<ExecutionStats>>,
    pub(crate) messages: Receiver<Message>,
    pub(crate) delivered: Sender<Delivery>,
    pub(crate) outputs: JobOutputs,
    /// Of each split of the first stage: its place among all, if some were done by an earlier run.
    pub(crate) places: Vec<u64>,
    pub(crate) journals: Journals,
    /// What is made of what, in a job of several stages whose progress is kept.
    pub(crate) progress: Option<Progress>,
    /// Calls of workers that are under way.
    pub(crate) calls: Calls,
    /// The inputs that workers have.
    pub(crate) working: HashMap<WorkerKey, Working>,
    pub(crate) blocks: KeptBlocks,
    /// Puts those away that are too many here.
    pub(crate) storing: Storing,
    pub(crate) roles: HashMap<WorkerKey, WorkerRole>,
    pub(crate) next_block: u64,
    /// Attempts at inputs so far: their files never share a name.
    pub(crate) next_attempt: u64,
    /// The consumer went away: what there is is not the whole.
    pub(crate) is_cancelled: bool,
    /// Rows that sinks took for inputs that are under way: they count when their input is used up.
    pub(crate) sunk: HashMap<WorkerKey, u64>,
    /// Blocks that workers were given last.
    pub(crate) given: HashMap<WorkerKey, Vec<BlockKey>>,
    /// Of workers that have a second input: what holds when they go on with that.
    pub(crate) queued: HashMap<WorkerKey, QueuedInput>,
    /// Consumers that wait for blocks to be made again.
    pub(crate) readers: Vec<(BlockKey, Sender<BlockHandle>)>,
    /// Rows that functions fail for.
    pub(crate) failed_rows: FailedRows,
    /// What became of the time of workers.
    pub(crate) times: WorkerTimes,
    /// When that was kept last.
    pub(crate) cost_kept: Instant,
    /// What is expected of rows.
    pub(crate) expectations: Expectations,
    pub(crate) began: Instant,
    /// What was found of the sizes of batches.
    pub(crate) sizes: BatchSizes,
    /// What was put aside of them.
    pub(crate) letters: Arc<Mutex<DeadLetters>>,
    /// Workers that are started later.
    pub(crate) late_starts: Vec<LateStart>,
    /// Looks for other nodes while the job runs.
    pub(crate) watch: NodeWatch,
    /// The stage that what is dealt with now has happened in, if it is a failure.
    pub(crate) failed_stage: Option<usize>,
}

/// How often a job that has less than it could have looks whether there is more.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);

impl ExecutionLoop {
    /// Runs to the end.
    pub(crate) fn run(mut self) {
        let mut queue: VecDeque<Effect> = self.executor.start().into();
        loop {
            while let Some(effect) = queue.pop_front() {
                match self.carry_out(effect) {
                    Ok(None) => {}
                    Ok(Some(outcome)) => return self.end(outcome),
                    Err(event) => queue.extend(self.executor.handle(event)),
                }
            }
            if let Err(failure) = self.end_stages() {
                queue.extend(self.executor.handle(Event::Broken(failure)));
                continue;
            }
            self.publish(false);
            if self.cost_kept.elapsed() >= COST_KEPT_EVERY {
                self.keep_cost();
            }
            if let Some(bytes) = self.share.news(self.executor.used_bytes()) {
                self.note_budget(bytes);
                queue.extend(self.executor.handle(Event::BudgetChanged(bytes)));
                continue;
            }
            self.failed_stage = None;
            let event = match self.calls.take() {
                Some((worker, answer)) => self.read_answer(worker, answer),
                None => match self.receive() {
                    Ok(Some(message)) => self.read_message(message),
                    Ok(None) => self.start_late().or(Some(Event::TimePassed)),
                    // The handle and the pool are gone: nobody is left to run for.
                    Err(RecvError) => return,
                },
            };
            let Some(event) = event else { continue };
            self.executor.set_time(self.began.elapsed());
            if matches!(event, Event::WorkerLost { .. })
                && let Some(news) = self.look_at_nodes()
            {
                queue.extend(self.executor.handle(news));
            }
            queue.extend(self.executor.handle(event));
        }
    }

    /// The next message; `None` when it is time to do something without one.
    fn receive(&mut self) -> Result<Option<Message>, RecvError> {
        let starts = self.late_starts.iter().map(|late| late.at);
        let looks = self.executor.looks_again_at();
        let looks = looks.map(|at| self.began + at);
        let at = starts.chain(self.watch.begins_at()).chain(looks).min();
        let patience = at.map(|at| at.saturating_duration_since(Instant::now()));
        // Nobody says when others make room.
        let looks_again = self.share.is_short().then_some(LOOK_FOR_ROOM);
        let Some(patience) = patience.into_iter().chain(looks_again).min() else {
            return self.messages.recv().map(Some);
        };
        match self.messages.recv_timeout(patience) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => {
                self.watch.begin_if_due();
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// Does what the executor wants. `Ok(Some)` is the end; `Err` is an event that came of it at once.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Result<(), TaskFailure>>, Event> {
        match effect {
            Effect::StartWorker {
                stage,
                kind,
                worker,
                incidents,
            } => self.start_worker_after(WorkerRole { stage, kind }, worker, incidents)?,
            Effect::StopWorker(worker) => {
                self.forget_worker(worker);
                self.failed_rows.forget(worker);
                self.times.ended(worker, Instant::now());
                self.pool.stop_worker(worker);
            }
            Effect::TakeBack(worker) => self.times.gives_back(worker, Instant::now()),
            Effect::StartInput(start) => self.start_input(start)?,
            Effect::Pull(worker) => {
                self.times.pull(worker, Instant::now());
                let result = self.pool.pull(worker);
                self.checked(worker, result)?;
            }
            Effect::QueueInput(start) => self.queue_input(start)?,
            Effect::Deliver(part) => self.deliver(part),
            Effect::Release(block) => {
                self.blocks.remove(block);
            }
            Effect::Restored { lost, made } => self.restored(lost, made),
            Effect::Finish(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    /// What comes of a call if it could not be made.
    pub(super) fn checked(
        &mut self,
        worker: WorkerKey,
        result: Result<(), TaskFailure>,
    ) -> Result<(), Event> {
        match result {
            Ok(()) => {
                self.calls.made(worker);
                Ok(())
            }
            Err(failure) => match self.failed(worker, failure) {
                Some(event) => Err(event),
                None => Ok(()),
            },
        }
    }

    fn deliver(&self, part: BlockSlice) {
        let Some(handle) = self.blocks.get(part.block).cloned() else {
            return;
        };
        let block = DeliveredBlock {
            key: part.block,
            handle,
            first_row: part.first_row,
            rows: part.rows,
            bytes: part.bytes,
        };
        self.stats.lock().delivered_rows += part.rows;
        // The consumer may have gone away; then a message to cancel is on its way.
        let _ = self.delivered.send(Delivery::Block(block));
    }
}
