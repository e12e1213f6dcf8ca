//! The loop of an execution: messages to events, effects to calls of the pool.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use aktis_common::resources::ResourceRequest;
use aktis_common::scheduling::ClusterView;
use aktis_worker::TaskFailure;
use parking_lot::Mutex;

use super::expectations::Expectations;
use super::failed_rows::{Attempt, DeadLetters, FailedRows};
use super::inputs::{Journals, ToldColumns};
use super::outputs::{JobOutputs, given_up};
use super::progress::{Progress, Working};
use super::shares::StoreShare;
use super::sizes::BatchSizes;
use super::watch::NodeWatch;
use super::worker_time::WorkerTimes;
use super::{DeliveredBlock, Delivery};
use crate::block::BlockHandle;
use crate::executor::core::Executor;
use crate::executor::core::event::{
    BlockKey, BlockSlice, Effect, Event, InputContent, Pulled, StartInput, WorkerKey,
};
use crate::executor::pool::{Answer, StagePool, WorkerInput, WorkerStart};
use crate::ledger::{JudgedRows, LeftOutByStep};
use crate::sources::Split;
use crate::stats::ExecutionStats;
use crate::wire::spec::{Report, StageSpec};

/// To the loop.
pub(crate) enum Message {
    Answer(WorkerKey, Box<Answer>),
    Taken(BlockKey),
    /// A delivered block cannot be read; where it lies when it was made again goes there.
    Lost(BlockKey, Sender<BlockHandle>),
    /// The cluster has other nodes than before.
    Nodes(ClusterView),
    Cancel,
}

/// What the workers of a stage are started with.
pub(crate) struct StageStart {
    pub(crate) spec: StageSpec,
    pub(crate) calls_python: bool,
    pub(crate) resources: ResourceRequest,
    pub(crate) captured: Vec<BlockHandle>,
    /// The output that its rows are of, if they end there.
    pub(crate) output: Option<usize>,
    /// The stages that give along its edges, in their order.
    pub(crate) givers: Vec<usize>,
    /// What has been told of the columns that it gives, where somebody asks.
    pub(crate) columns: Option<ToldColumns>,
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
    /// The inputs that workers have.
    pub(crate) working: HashMap<WorkerKey, Working>,
    pub(crate) blocks: HashMap<BlockKey, BlockHandle>,
    pub(crate) stage_of: HashMap<WorkerKey, usize>,
    pub(crate) next_block: u64,
    /// Attempts at inputs so far: their files never share a name.
    pub(crate) next_attempt: u64,
    /// The consumer went away: what there is is not the whole.
    pub(crate) is_cancelled: bool,
    /// Rows that sinks took for inputs that are under way: they count when their input is used up.
    pub(crate) sunk: HashMap<WorkerKey, u64>,
    /// Blocks that workers were given last.
    pub(crate) given: HashMap<WorkerKey, Vec<BlockKey>>,
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

/// A worker that is started when what its predecessors died of has had time to pass.
pub(crate) struct LateStart {
    at: Instant,
    stage: usize,
    worker: WorkerKey,
}

/// How long the next start of a worker waits after so many that died: a node may have died with them, and be known as
/// alive for some seconds.
const START_PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(8),
];

/// What a job has cost is kept while it runs, too: its driver may be killed.
const COST_KEPT_EVERY: Duration = Duration::from_secs(30);

/// How often a job that has less than it could have looks whether there is more.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);

/// How long a job that failed waits for its writers to end.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

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
                queue.extend(self.executor.handle(Event::BudgetChanged(bytes)));
                continue;
            }
            self.failed_stage = None;
            let event = match self.receive() {
                Ok(Some(message)) => self.read_message(message),
                Ok(None) => self.start_late(),
                // The handle and the pool are gone: nobody is left to run for.
                Err(RecvError) => return,
            };
            let Some(event) = event else { continue };
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
        let at = starts.chain(self.watch.begins_at()).min();
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

    /// Starts the worker whose time has come.
    fn start_late(&mut self) -> Option<Event> {
        let first = (0..self.late_starts.len()).min_by_key(|&index| self.late_starts[index].at)?;
        if self.late_starts[first].at > Instant::now() {
            return None;
        }
        let LateStart { stage, worker, .. } = self.late_starts.swap_remove(first);
        // It may have been ended before it began.
        let is_wanted = self.stage_of.contains_key(&worker);
        is_wanted
            .then(|| self.start_worker(stage, worker).err())
            .flatten()
    }

    /// Expectations are looked at once more where nothing is left to do. Fails if one does not hold.
    fn end_stages(&mut self) -> Result<(), TaskFailure> {
        for stage in 0..self.stages.len() {
            if self.executor.is_stage_done(stage) {
                self.end_expectations_of(stage)?;
            }
        }
        Ok(())
    }

    fn end(mut self, outcome: Result<(), TaskFailure>) {
        let outcome = outcome.and_then(|()| self.end_expectations());
        let outcome = self.end_letters(outcome);
        if outcome.is_ok() && !self.is_cancelled {
            self.keep_rest();
        }
        let outcome = self.close_outputs(outcome);
        let outcome = self.close_letters(outcome);
        self.sizes.remember();
        self.publish(true);
        {
            let mut stats = self.stats.lock();
            stats.is_done = true;
            stats.elapsed = stats.began.elapsed();
            stats
                .stages
                .iter_mut()
                .for_each(|stage| stage.is_done = true);
        }
        self.keep_cost();
        // The consumer may have gone away.
        let _ = self.delivered.send(Delivery::End(outcome));
    }

    /// Keeps what the execution has cost so far.
    fn keep_cost(&mut self) {
        let record = self.stats.lock().cost_record();
        self.pool.keep_cost(record);
        self.cost_kept = Instant::now();
    }

    /// All rows have come that were wanted, of some stages all that there are. Of a run that was given up nobody knows.
    fn end_expectations(&mut self) -> Result<(), TaskFailure> {
        if self.is_cancelled {
            return Ok(());
        }
        (0..self.stages.len()).try_for_each(|stage| self.end_expectations_of(stage))
    }

    fn end_expectations_of(&mut self, stage: usize) -> Result<(), TaskFailure> {
        let is_used_up = self.executor.is_stage_used_up(stage);
        let ended = self.expectations.end(stage, is_used_up);
        if ended.is_err() {
            self.failed_stage = Some(stage);
        }
        ended
    }

    /// What was written becomes visible, if all is well.
    fn close_outputs(&mut self, outcome: Result<(), TaskFailure>) -> Result<(), TaskFailure> {
        let has_files = self.outputs.have_files();
        let outcome = outcome.and(if self.is_cancelled && has_files {
            Err(given_up())
        } else {
            Ok(())
        });
        if outcome.is_err() {
            if has_files {
                self.pool.wait_for_stopped(WRITER_PATIENCE);
            }
            let failed = self.failed_stage.map(|stage| self.outputs.behind(stage));
            self.stats.lock().failed_outputs = failed.unwrap_or_default();
        }
        self.outputs.close(outcome).map_err(|(output, failure)| {
            if let Some(output) = output {
                self.stats.lock().failed_outputs = vec![output];
            }
            failure
        })
    }

    fn read_message(&mut self, message: Message) -> Option<Event> {
        let (worker, answer) = match message {
            Message::Taken(block) => return Some(Event::Taken(block)),
            Message::Nodes(view) => return Some(Event::NodesChanged(view)),
            Message::Cancel => {
                self.is_cancelled = true;
                return Some(Event::Cancelled);
            }
            Message::Lost(block, reader) => {
                if !self.executor.needs(block) {
                    // Dropped, which its reader sees.
                    return None;
                }
                self.readers.push((block, reader));
                return Some(Event::BlockLost(block));
            }
            Message::Answer(worker, answer) => match *answer {
                Answer::Later(answer) => (worker, answer()),
                answer => (worker, answer),
            },
        };
        match answer {
            Answer::Ready(Ok(ready)) => {
                self.times.ready(worker, &ready, Instant::now());
                Some(Event::WorkerReady(worker))
            }
            Answer::Pulled(Ok((report, block))) => {
                self.times.pulled(worker, &report, Instant::now());
                Some(self.pulled(worker, &report, block))
            }
            Answer::Ready(Err(failure)) => self.not_ready(worker, failure),
            Answer::Pulled(Err(failure)) => self.failed(worker, failure),
            Answer::Later(_) => None,
        }
    }

    fn pulled(&mut self, worker: WorkerKey, report: &Report, block: Option<BlockHandle>) -> Event {
        let mut left_out = Vec::new();
        if let Some(&stage) = self.stage_of.get(&worker) {
            self.stats.lock().add_report(stage, report);
            let judged = self.expectations.of_used_up(worker, report);
            let outcome = self.put_aside(worker, report);
            if let Err(failure) = outcome.and_then(|()| self.expectations.report(worker, report)) {
                self.failed_stage = Some(stage);
                return Event::WorkerFailed { worker, failure };
            }
            left_out = self.failed_rows.take_left_out();
            let start = &self.stages[stage];
            if let Some(output) = start.output.filter(|_| start.spec.sink.is_some()) {
                let left_out = std::mem::take(&mut left_out);
                self.count_sunk(output, worker, report, judged, left_out);
            }
            self.sizes.hear(stage, &report.sizes);
            if let Some(columns) = &mut self.stages[stage].columns {
                columns.hear(&report.schema);
            }
            if let Some(output) = self.stages[stage].output {
                self.outputs.hear(output, &report.schema);
            }
        }
        let block = block.map(|handle| {
            let key = BlockKey(self.next_block);
            self.next_block += 1;
            self.blocks.insert(key, handle);
            (key, report.rows, report.bytes)
        });
        let made = block.map(|(key, rows, _)| (key, rows));
        self.keep_origin(worker, report, made, left_out);
        let nanos = report.steps.iter().map(|step| step.wall_nanos).sum();
        Event::Pulled(Pulled {
            worker,
            block,
            partition: report.partition,
            is_last: report.is_last,
            rows_in: report.steps.first().map_or(0, |source| source.rows_out),
            busy: Duration::from_nanos(nanos),
        })
    }

    /// EXE-3 (every-split-once): what a sink took counts once, when its input is used up.
    fn count_sunk(
        &mut self,
        output: usize,
        worker: WorkerKey,
        report: &Report,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOutByStep>,
    ) {
        let rows = self.sunk.entry(worker).or_default();
        *rows += report.rows;
        if report.is_last {
            self.stats.lock().outputs[output].rows += std::mem::take(rows);
            if let Some(working) = self.working.remove(&worker) {
                self.keep_output(output, working, report.files.clone(), judged, left_out);
            }
        }
    }

    /// Does what the executor wants. `Ok(Some)` is the end; `Err` is an event that came of it at once.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Result<(), TaskFailure>>, Event> {
        match effect {
            Effect::StartWorker {
                stage,
                worker,
                incidents,
            } => self.start_worker_after(stage, worker, incidents)?,
            Effect::StopWorker(worker) => {
                self.stage_of.remove(&worker);
                self.given.remove(&worker);
                self.failed_rows.forget(worker);
                self.expectations.forget(worker);
                self.times.ended(worker, Instant::now());
                self.pool.stop_worker(worker);
            }
            Effect::StartInput(start) => self.start_input(start)?,
            Effect::Pull(worker) => {
                self.times.pull(worker, Instant::now());
                let result = self.pool.pull(worker);
                self.checked(worker, result)?;
            }
            Effect::Deliver(part) => self.deliver(part),
            Effect::Release(block) => {
                self.blocks.remove(&block);
            }
            Effect::Restored { lost, made } => self.restored(lost, made),
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

    fn start_worker_after(
        &mut self,
        stage: usize,
        worker: WorkerKey,
        incidents: u32,
    ) -> Result<(), Event> {
        self.stage_of.insert(worker, stage);
        let most = START_PAUSES.len() - 1;
        let pause = START_PAUSES[usize::try_from(incidents).map_or(most, |count| count.min(most))];
        if pause.is_zero() {
            return self.start_worker(stage, worker);
        }
        let at = Instant::now() + pause;
        self.late_starts.push(LateStart { at, stage, worker });
        Ok(())
    }

    fn start_worker(&mut self, stage: usize, worker: WorkerKey) -> Result<(), Event> {
        let StageStart {
            spec,
            calls_python,
            resources,
            captured,
            ..
        } = &self.stages[stage];
        let start = WorkerStart {
            spec,
            calls_python: *calls_python,
            resources,
            captured,
            name: &spec.name,
        };
        self.times.asked(worker, stage, Instant::now());
        let result = self.pool.start_worker(worker, start);
        self.checked(worker, result)
    }

    fn start_input(&mut self, start: StartInput) -> Result<(), Event> {
        let worker = start.worker;
        self.next_attempt += 1;
        self.sunk.remove(&worker);
        let place = self.place_of(&start);
        self.begins(&start, place);
        let attempt = match start.skip_blocks {
            _ if !start.wanted.is_empty() => Attempt::Rerun,
            0 => Attempt::Anew,
            _ => Attempt::GoingOn,
        };
        let input = (start.stage, start.sequence);
        let number = self.next_attempt;
        let failing = self.failed_rows.begin(worker, input, attempt, number);
        let is_rerun = attempt == Attempt::Rerun;
        self.expectations
            .begin(worker, (start.stage, place), is_rerun);
        self.times.begins(worker, is_rerun, Instant::now());
        if let InputContent::Blocks { feeds, .. } = &start.content {
            let blocks = feeds.iter().flatten().map(|part| part.block).collect();
            self.given.insert(worker, blocks);
        }
        let (sizes, frames) = self.sizes.begin(start.stage, place);
        let result = self.input_of(start, failing);
        let result = result.and_then(|(mut input, blocks)| {
            (input.sizes, input.frames) = (sizes, frames);
            if !input.journal.is_empty() {
                let number = input.output.unwrap_or(input.sequence);
                self.journals.inputs.insert(number);
            }
            self.pool.start_input(worker, WorkerInput(input), blocks)
        });
        self.checked(worker, result)
    }

    fn deliver(&self, part: BlockSlice) {
        let Some(handle) = self.blocks.get(&part.block).cloned() else {
            return;
        };
        let block = DeliveredBlock {
            key: part.block,
            handle,
            first_row: part.first_row,
            rows: part.rows,
            bytes: part.bytes,
        };
        // The consumer may have gone away; then a message to cancel is on its way.
        let _ = self.delivered.send(Delivery::Block(block));
    }

    /// Brings the statistics up to date.
    fn publish(&self, is_end: bool) {
        let mut stats = self.stats.lock();
        stats.most_block_bytes = stats.most_block_bytes.max(self.executor.used_bytes());
        stats.most_exchange_bytes = stats
            .most_exchange_bytes
            .max(self.executor.exchange_bytes());
        for (index, stage) in stats.stages.iter_mut().enumerate() {
            let (pending, active) = self.executor.backlog(index);
            stage.inputs.1 = stage.inputs.0 + (pending + active) as u64;
            (stage.workers, stage.starting) = self.executor.workers(index);
            stage.is_done = self.executor.is_stage_done(index);
            stage.cut_partitions = self.executor.cut_partitions(index);
        }
        for (stage, failed) in stats.stages.iter_mut().zip(self.failed_rows.counted()) {
            // The first of a stage is where its rows come from.
            for (operator, rows) in stage.operators.iter_mut().skip(1).zip(failed) {
                operator.rows_failed = rows;
            }
        }
        self.expectations.publish(&mut stats, is_end);
        for (index, stage) in stats.stages.iter_mut().enumerate() {
            for (step, chosen) in self.sizes.chosen(index) {
                if let Some(operator) = stage.operators.get_mut(step + 1) {
                    operator.chosen = chosen;
                }
            }
        }
        let times = self.times.so_far(Instant::now());
        for (stage, time) in stats.stages.iter_mut().zip(times) {
            stage.time = time;
        }
    }
}
