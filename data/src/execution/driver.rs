//! The loop of an execution: messages to events, effects to calls of the pool.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use aktis_worker::options::ResourceMap;
use parking_lot::Mutex;

use super::write::FolderSink;
use super::{DeliveredBlock, Delivery};
use crate::block::BlockHandle;
use crate::core::Executor;
use crate::core::event::{
    BlockKey, BlockSlice, Effect, Event, InputContent, Pulled, StartInput, WorkerKey,
};
use crate::plan::SourceBlock;
use crate::pool::{Answer, WorkerInput, WorkerPool, WorkerStart};
use crate::stages::Split;
use crate::stages::spec::{BlockPart, InputSpec, Report, StageSpec};
use crate::stats::ExecutionStats;

/// To the driver.
pub(crate) enum Message {
    Answer(WorkerKey, Answer),
    Taken(BlockKey),
    Cancel,
}

/// What the workers of a stage are started with.
pub(crate) struct StageStart {
    pub(crate) spec: StageSpec,
    pub(crate) resources: ResourceMap,
}

/// One execution.
pub(crate) struct Driver {
    pub(crate) executor: Executor,
    pub(crate) pool: Box<dyn WorkerPool>,
    pub(crate) stages: Vec<StageStart>,
    pub(crate) splits: Vec<Split>,
    pub(crate) stats: Arc<Mutex<ExecutionStats>>,
    pub(crate) messages: Receiver<Message>,
    pub(crate) delivered: Sender<Delivery>,
    pub(crate) folder: Option<FolderSink>,
    pub(crate) blocks: HashMap<BlockKey, BlockHandle>,
    pub(crate) stage_of: HashMap<WorkerKey, usize>,
    pub(crate) next_block: u64,
}

impl Driver {
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
            self.publish();
            let Ok(message) = self.messages.recv() else {
                // The handle and the pool are gone: nobody is left to run for.
                return;
            };
            if let Some(event) = self.read_message(message) {
                queue.extend(self.executor.handle(event));
            }
        }
    }

    fn end(mut self, outcome: Result<(), TaskFailure>) {
        let outcome = match (&mut self.folder, outcome) {
            (Some(folder), outcome) => folder.close(outcome),
            (None, outcome) => outcome,
        };
        self.publish();
        {
            let mut stats = self.stats.lock();
            stats.is_done = true;
            stats.elapsed = stats.began.elapsed();
            stats
                .stages
                .iter_mut()
                .for_each(|stage| stage.is_done = true);
        }
        // The consumer may have gone away.
        let _ = self.delivered.send(Delivery::End(outcome));
    }

    fn read_message(&mut self, message: Message) -> Option<Event> {
        let (worker, answer) = match message {
            Message::Taken(block) => return Some(Event::Taken(block)),
            Message::Cancel => return Some(Event::Cancelled),
            Message::Answer(worker, Answer::Later(answer)) => (worker, answer()),
            Message::Answer(worker, answer) => (worker, answer),
        };
        match answer {
            Answer::Ready(Ok(())) => Some(Event::WorkerReady(worker)),
            Answer::Pulled(Ok((report, block))) => Some(self.pulled(worker, &report, block)),
            Answer::Ready(Err(failure)) | Answer::Pulled(Err(failure)) => {
                self.failed(worker, failure)
            }
            Answer::Later(_) => None,
        }
    }

    fn pulled(&mut self, worker: WorkerKey, report: &Report, block: Option<BlockHandle>) -> Event {
        if let Some(&stage) = self.stage_of.get(&worker) {
            self.stats.lock().add_report(stage, report);
        }
        let block = block.map(|handle| {
            let key = BlockKey(self.next_block);
            self.next_block += 1;
            self.blocks.insert(key, handle);
            (key, report.rows, report.bytes)
        });
        let nanos = report.steps.iter().map(|step| step.wall_nanos).sum();
        Event::Pulled(Pulled {
            worker,
            block,
            is_last: report.is_last,
            rows_in: report.steps.first().map_or(0, |source| source.rows_out),
            busy: Duration::from_nanos(nanos),
        })
    }

    /// A call that failed: was it the worker's process or the user's function?
    fn failed(&mut self, worker: WorkerKey, failure: TaskFailure) -> Option<Event> {
        // Calls of a worker that was stopped fail as they should.
        let stage = *self.stage_of.get(&worker)?;
        if !is_death(failure.code) {
            return Some(Event::WorkerFailed { worker, failure });
        }
        self.stage_of.remove(&worker);
        self.pool.stop_worker(worker);
        self.stats.lock().stages[stage].deaths += 1;
        tracing::warn!(worker = worker.0, %failure, "a stage worker died");
        Some(Event::WorkerLost { worker, failure })
    }

    /// Does what the executor wants. `Ok(Some)` is the end; `Err` is an event that came of it at once.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Result<(), TaskFailure>>, Event> {
        match effect {
            Effect::StartWorker { stage, worker } => self.start_worker(stage, worker)?,
            Effect::StopWorker(worker) => {
                self.stage_of.remove(&worker);
                self.pool.stop_worker(worker);
            }
            Effect::StartInput(start) => self.start_input(start)?,
            Effect::Pull(worker) => {
                let result = self.pool.pull(worker);
                self.checked(worker, result)?;
            }
            Effect::Deliver(part) => self.deliver(part),
            Effect::Release(block) => {
                self.blocks.remove(&block);
            }
            Effect::Finish(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    fn checked(&mut self, worker: WorkerKey, result: Result<(), TaskFailure>) -> Result<(), Event> {
        match result {
            Ok(()) => Ok(()),
            Err(failure) => match self.failed(worker, failure) {
                Some(event) => Err(event),
                None => Ok(()),
            },
        }
    }

    fn start_worker(&mut self, stage: usize, worker: WorkerKey) -> Result<(), Event> {
        self.stage_of.insert(worker, stage);
        let StageStart { spec, resources } = &self.stages[stage];
        let start = WorkerStart {
            spec,
            resources,
            name: &spec.name,
        };
        let result = self.pool.start_worker(worker, start);
        self.checked(worker, result)
    }

    fn start_input(&mut self, start: StartInput) -> Result<(), Event> {
        let worker = start.worker;
        let result = self
            .input_of(start)
            .and_then(|(input, blocks)| self.pool.start_input(worker, WorkerInput(input), blocks));
        self.checked(worker, result)
    }

    fn input_of(&self, start: StartInput) -> Result<(InputSpec, Vec<BlockHandle>), TaskFailure> {
        let (input, blocks) = match start.content {
            InputContent::Split(index) => {
                let split = &self.splits[index];
                let mut handles = Vec::with_capacity(split.blocks.len());
                for block in &split.blocks {
                    handles.push(self.stored(block)?);
                }
                (split.input.clone(), handles)
            }
            InputContent::Blocks(parts) => {
                let part = |part: &BlockSlice| BlockPart {
                    first_row: part.first_row,
                    rows: part.rows,
                };
                let blocks = parts.iter().map(part).collect();
                let handles: Option<Vec<BlockHandle>> = parts
                    .iter()
                    .map(|part| self.blocks.get(&part.block).cloned())
                    .collect();
                let handles = handles.ok_or_else(|| {
                    TaskFailure::new(
                        ErrorCode::Internal,
                        "an input names a block that was released",
                    )
                })?;
                (
                    InputSpec {
                        blocks,
                        ..InputSpec::default()
                    },
                    handles,
                )
            }
        };
        let input = InputSpec {
            sequence: start.sequence,
            skip_blocks: start.skip_blocks,
            skip_rows: start.skip_rows,
            ..input
        };
        Ok((input, blocks))
    }

    /// Where the block lies; puts it there if this is its first use.
    fn stored(&self, block: &SourceBlock) -> Result<BlockHandle, TaskFailure> {
        let session = self.pool.session();
        if let Some(handle) = block.handle(&session) {
            return Ok(handle);
        }
        let handle = self.pool.put(block)?;
        block.set_handle(session, handle.clone());
        Ok(handle)
    }

    fn deliver(&self, part: BlockSlice) {
        let Some(handle) = self.blocks.get(&part.block).cloned() else {
            return;
        };
        let block = DeliveredBlock {
            handle,
            first_row: part.first_row,
            rows: part.rows,
            bytes: part.bytes,
        };
        // The consumer may have gone away; then a message to cancel is on its way.
        let _ = self.delivered.send(Delivery::Block(part.block, block));
    }

    /// Brings the statistics up to date.
    fn publish(&self) {
        let mut stats = self.stats.lock();
        stats.most_block_bytes = stats.most_block_bytes.max(self.executor.used_bytes());
        for (index, stage) in stats.stages.iter_mut().enumerate() {
            let (pending, active) = self.executor.backlog(index);
            stage.inputs.1 = stage.inputs.0 + (pending + active) as u64;
            (stage.workers, stage.starting) = self.executor.workers(index);
            stage.is_done = self.executor.is_stage_done(index);
        }
    }
}

/// Whether the worker's process, and not what it ran, has failed.
fn is_death(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ActorDied
            | ErrorCode::WorkerCrashed
            | ErrorCode::NodeDied
            | ErrorCode::ActorUnavailable
            | ErrorCode::OutOfMemory
    )
}
