//! Workers are started, at once or when what their predecessors died of has had time to pass, and given their inputs.

use std::time::{Duration, Instant};

use aktis_worker::TaskFailure;

use super::failed_rows::Attempt;
use super::inputs::NotedOfInput;
use super::main_loop::{ExecutionLoop, WorkerRole};
use super::progress::Working;
use super::specs::KindStart;
use crate::block::BlockHandle;
use crate::executor::core::event::{BlockKey, Event, InputContent, StartInput, WorkerKey};
use crate::executor::pool::{WorkerInput, WorkerStart};
use crate::wire::failing::FailingSpec;

/// What is to be known of the second input of a worker when it goes on with that.
pub(crate) struct QueuedInput {
    working: Working,
    /// Its stage, and its place for expectations.
    judged: (usize, u64),
    pub(super) blocks: Vec<BlockKey>,
}

/// A worker that is started when what its predecessors died of has had time to pass.
pub(crate) struct LateStart {
    pub(super) at: Instant,
    role: WorkerRole,
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

impl ExecutionLoop {
    /// Starts the worker whose time has come.
    pub(super) fn start_late(&mut self) -> Option<Event> {
        let first = (0..self.late_starts.len()).min_by_key(|&index| self.late_starts[index].at)?;
        if self.late_starts[first].at > Instant::now() {
            return None;
        }
        let LateStart { role, worker, .. } = self.late_starts.swap_remove(first);
        // It may have been ended before it began.
        let is_wanted = self.roles.contains_key(&worker);
        is_wanted
            .then(|| self.start_worker(role, worker).err())
            .flatten()
    }

    /// Starts a worker behind so many that died of the same thing, one after another.
    pub(super) fn start_worker_after(
        &mut self,
        role: WorkerRole,
        worker: WorkerKey,
        incidents: u32,
    ) -> Result<(), Event> {
        self.roles.insert(worker, role);
        self.failed_rows.is_of(worker, role.kind);
        let most = START_PAUSES.len() - 1;
        let pause = START_PAUSES[usize::try_from(incidents).map_or(most, |count| count.min(most))];
        if pause.is_zero() {
            return self.start_worker(role, worker);
        }
        let at = Instant::now() + pause;
        self.late_starts.push(LateStart { at, role, worker });
        Ok(())
    }

    fn start_worker(&mut self, role: WorkerRole, worker: WorkerKey) -> Result<(), Event> {
        let KindStart {
            spec,
            calls_python,
            resources,
            captured,
        } = &self.stages[role.stage].kinds[role.kind];
        let start = WorkerStart {
            spec,
            calls_python: *calls_python,
            resources,
            captured,
            name: &spec.name,
        };
        let kind = self.number_of_kind(role);
        self.times.asked(worker, kind, Instant::now());
        let result = self.pool.start_worker(worker, start);
        self.checked(worker, result)
    }

    /// Which of the kinds of workers of all stages it is.
    fn number_of_kind(&self, role: WorkerRole) -> usize {
        let before = self.stages[..role.stage].iter();
        before.map(|start| start.kinds.len()).sum::<usize>() + role.kind
    }

    /// Gives a worker an input.
    pub(super) fn start_input(&mut self, start: StartInput) -> Result<(), Event> {
        let worker = start.worker;
        self.next_attempt += 1;
        self.sunk.remove(&worker);
        self.queued.remove(&worker);
        let place = self.place_of(&start);
        let working = self.begins(&start, place);
        self.working.insert(worker, working);
        let attempt = attempt_of(&start);
        let input = (start.stage, start.sequence);
        let number = self.next_attempt;
        let mut noted = self.noted_of(&start, working.number);
        self.failed_rows.take_noted(input, noted.take_found());
        let failing = self.failed_rows.begin(worker, input, attempt, number);
        let is_rerun = attempt == Attempt::Rerun;
        self.expectations
            .begin(worker, (start.stage, place), is_rerun);
        self.times.begins(worker, is_rerun, Instant::now());
        self.given.insert(worker, blocks_of(&start));
        let result = self.whole_input(start, place, failing, noted);
        let result =
            result.and_then(|(input, blocks)| self.pool.start_input(worker, input, blocks));
        self.checked(worker, result)
    }

    /// Gives a worker an input that follows the one that it has, and pulls it for that.
    pub(super) fn queue_input(&mut self, start: StartInput) -> Result<(), Event> {
        let worker = start.worker;
        self.next_attempt += 1;
        let place = self.place_of(&start);
        let working = self.begins(&start, place);
        let attempt = attempt_of(&start);
        let input = (start.stage, start.sequence);
        let number = self.next_attempt;
        let mut noted = self.noted_of(&start, working.number);
        self.failed_rows.take_noted(input, noted.take_found());
        let failing = self.failed_rows.queue(worker, input, attempt, number);
        let blocks = blocks_of(&start);
        let queued = QueuedInput {
            working,
            judged: (start.stage, place),
            blocks,
        };
        self.queued.insert(worker, queued);
        self.times.pull(worker, Instant::now());
        let result = self.whole_input(start, place, failing, noted);
        let result =
            result.and_then(|(input, blocks)| self.pool.queue_input(worker, input, blocks));
        self.checked(worker, result)
    }

    /// The worker has used its input up. If it has one that follows, that is the one that it is pulled for.
    pub(super) fn go_on_with_queued(&mut self, worker: WorkerKey) {
        if let Some(queued) = self.queued.remove(&worker) {
            self.working.insert(worker, queued.working);
            self.given.insert(worker, queued.blocks);
            self.expectations.begin(worker, queued.judged, false);
        }
    }

    /// The message for the worker with all that belongs to it.
    fn whole_input(
        &mut self,
        start: StartInput,
        place: u64,
        failing: Option<FailingSpec>,
        noted: NotedOfInput,
    ) -> Result<(WorkerInput, Vec<BlockHandle>), TaskFailure> {
        let (sizes, frames) = self.sizes.begin(start.stage, place);
        let (mut input, blocks) = self.input_of(start, failing, noted)?;
        (input.sizes, input.frames) = (sizes, frames);
        if !input.journal.is_empty() {
            let number = input.output.unwrap_or(input.sequence);
            self.journals.inputs.insert(number);
        }
        Ok((WorkerInput(input), blocks))
    }
}

fn attempt_of(start: &StartInput) -> Attempt {
    match start.skip_blocks {
        _ if !start.wanted.is_empty() => Attempt::Rerun,
        0 => Attempt::Anew,
        _ => Attempt::GoingOn,
    }
}

/// The blocks that come along.
fn blocks_of(start: &StartInput) -> Vec<BlockKey> {
    match &start.content {
        InputContent::Blocks { feeds, .. } => {
            let parts = feeds.iter().flatten();
            parts.map(|part| part.block).collect()
        }
        InputContent::Split(_) => Vec::new(),
    }
}
