//! Rows that functions fail for, as the driver knows them: counted once, held against the limits, blamed for deaths of workers.
//!
//! ```text
//!  report of a worker ─► its input's rows ──input is used up──► counted, put aside (letters)
//!  death of a worker ──► what it had noted ─► cut the batch in two, or blame the row that was alone
//!                                                          └─► the next attempt of the input
//! ```
//! Workers that die for want of memory have their batches cut, whatever the step does with rows that fail: smaller ones may do.
//!
//! What a worker has told stays told: when it dies, the next attempt leaves the same rows out. So a row is told once whatever
//! dies, and blocks that were delivered before have the rows that they had (EXE-3).
//!
//! Behind a step that loses rows, the numbers of rows hang on which ones it lost, and a function may fail for others the next time.
//! So what was told of such a step is forgotten where nothing of the input was handed on, and found again; where blocks were, the
//! worker sees to it that they are made as they were.

mod begun_with;
mod blame;
mod input_rows;
mod letters;
mod limits;

pub(in crate::executor) use blame::Death;
pub(crate) use letters::DeadLetters;
pub use letters::LetterBlock;
pub(in crate::executor) use letters::read_by_step;

use std::collections::{BTreeSet, HashMap};

use aktis_common::resources::MEMORY;
use aktis_worker::TaskFailure;
use bytes::Bytes;

use crate::executor::core::event::WorkerKey;
use crate::graph::{Operator, StagePlan};
use crate::ledger::{LeftOut, LeftOutByStep, LeftOutOfLeg};
use crate::operators::failing::letters::decode;
use crate::plan::FailurePolicy;
use crate::wire::failing::{FailingSpec, StepRow};
use crate::wire::spec::Report;
use begun_with::BegunWith;
use input_rows::InputRows;
use limits::Counts;

/// An input: its stage, and its place in the order of that.
type InputKey = (usize, u64);

/// The rows that failed, of all inputs.
pub(crate) struct FailedRows {
    /// Of each stage, of each of its steps.
    steps: Vec<Vec<StepState>>,
    /// Those of inputs that are not used up.
    inputs: HashMap<InputKey, InputRows>,
    /// Rows of inputs that are: they are left out too when blocks of these are made again.
    done: HashMap<InputKey, BTreeSet<StepRow>>,
    under_way: HashMap<WorkerKey, UnderWay>,
    /// Inputs that follow those, of workers that have two.
    queued: HashMap<WorkerKey, UnderWay>,
    /// Of each stage: how much memory its workers may have, by kind; 0: nobody limits it. Where they are of several kinds, blocks are the
    /// same however many rows calls have.
    memory: Vec<Vec<i64>>,
    /// Workers of kinds that are not the first one of their stage.
    kinds: HashMap<WorkerKey, usize>,
    /// Of stages, kinds of workers and steps that have died for want of memory: how many rows a call may have since then.
    most_rows: HashMap<(usize, usize, u32), u64>,
    /// The same as inputs were begun with that were begun since then.
    begun_with: BegunWith,
    /// Rows of all sources, if they are known.
    source_rows: Option<u64>,
    /// What notes of this execution begin with.
    note_prefix: String,
    letters: Vec<NewLetters>,
    /// Whether what was left out is kept for a later run.
    is_kept: bool,
    /// What was left out of the input that was used up last.
    left_out: Vec<LeftOutByStep>,
}

/// A step that may lose rows, and what it has lost.
struct StepState {
    name: String,
    policy: FailurePolicy,
    /// Whether workers may die of what it calls.
    calls_function: bool,
    /// Whether it holds rows of many batches.
    is_relational: bool,
    /// Of inputs that are used up.
    counts: Counts,
    last: String,
}

/// Letters of a step that nobody has put aside yet.
pub(super) struct NewLetters {
    pub(super) stage: usize,
    pub(super) step: usize,
    pub(super) operator: String,
    pub(super) stream: Bytes,
}

/// What an attempt at an input begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) enum Attempt {
    /// Nothing of the input was handed on.
    Anew,
    /// Blocks of it were, and are to be the same.
    GoingOn,
    /// It makes blocks that were lost: its rows are told already.
    Rerun,
}

/// What a worker works on.
struct UnderWay {
    input: InputKey,
    /// It works for blocks that were lost: its rows are told already.
    is_rerun: bool,
    note_key: Bytes,
    /// Rows that came to the steps in this attempt.
    rows_in: HashMap<u32, u64>,
    /// How many rows of it were to be tried where there is more memory when it was begun.
    moved: usize,
}

/// How much memory workers of each kind may have.
fn memory_of(stage: &StagePlan) -> Vec<i64> {
    let pools = stage.compute.pools().into_iter();
    let memory = pools.map(|pool| pool.resources.resources().get(MEMORY).whole());
    memory.collect()
}

impl FailedRows {
    /// None yet, of these stages. `note_prefix`: no other execution of the cluster has it.
    pub(crate) fn new(stages: &[StagePlan], source_rows: Option<u64>, note_prefix: String) -> Self {
        let steps = stages.iter().map(|stage| {
            let steps = stage.steps.iter().map(|step| StepState {
                name: step.name.clone(),
                calls_function: matches!(step.operator, Operator::Map(_)),
                is_relational: matches!(step.operator, Operator::Relational(_)),
                policy: match &step.operator {
                    Operator::Map(call) => call.failures,
                    _ => FailurePolicy::default(),
                },
                counts: Counts::default(),
                last: String::new(),
            });
            steps.collect()
        });
        Self {
            steps: steps.collect(),
            inputs: HashMap::new(),
            done: HashMap::new(),
            under_way: HashMap::new(),
            queued: HashMap::new(),
            memory: stages.iter().map(memory_of).collect(),
            kinds: HashMap::new(),
            most_rows: HashMap::new(),
            begun_with: BegunWith::default(),
            source_rows,
            note_prefix,
            letters: Vec::new(),
            is_kept: false,
            left_out: Vec::new(),
        }
    }

    /// If what is left out is kept for a later run: what an earlier one has left out of inputs that it used up.
    pub(crate) fn keep(&mut self, left_out: Option<Vec<LeftOut>>) {
        let Some(left_out) = left_out else {
            return;
        };
        self.is_kept = true;
        for left_out in left_out.into_iter().flat_map(|one| one.steps) {
            let Some((stage, step)) = self.place_of(left_out.step) else {
                continue;
            };
            let known = &mut self.steps[stage][step];
            known.counts.add(&Counts {
                rows_in: left_out.rows_in,
                rows: left_out.rows,
                batches: left_out.batches,
            });
            if !left_out.last.is_empty() {
                known.last = left_out.last;
            }
            let letters = left_out.letters.into_iter().map(|stream| NewLetters {
                stage,
                step,
                operator: known.name.clone(),
                stream,
            });
            self.letters.extend(letters);
        }
    }

    /// What steps have left out that may leave rows out, of a job that has ended.
    pub(super) fn found(&self) -> Vec<LeftOutOfLeg> {
        let mut all = Vec::new();
        for (stage, steps) in self.steps.iter().enumerate() {
            let losing = (0..).zip(steps);
            for (number, step) in losing.filter(|(_, step)| step.policy.loses_rows()) {
                let counts = self.counts(stage, number);
                all.push(LeftOutOfLeg {
                    step: step.name.clone(),
                    rows_in: counts.rows_in,
                    rows: counts.rows,
                    batches: counts.batches,
                    last: step.last.clone(),
                });
            }
        }
        all
    }

    /// The same of a leg that is finished.
    pub(super) fn take_found(&mut self, mut found: Vec<LeftOutOfLeg>) {
        let steps = self.steps.iter_mut().flatten();
        for step in steps.filter(|step| step.policy.loses_rows()) {
            let Some(at) = found.iter().position(|one| one.step == step.name) else {
                continue;
            };
            let found = found.remove(at);
            step.counts = Counts {
                rows_in: found.rows_in,
                rows: found.rows,
                batches: found.batches,
            };
            step.last = found.last;
        }
    }

    /// Which step of which stage has this number, through all stages: machines differ in how many these are.
    fn place_of(&self, number: u32) -> Option<(usize, usize)> {
        let mut left = usize::try_from(number).ok()?;
        for (stage, steps) in self.steps.iter().enumerate() {
            if left < steps.len() {
                return Some((stage, left));
            }
            left -= steps.len();
        }
        None
    }

    /// What was left out of the input that was just used up, for the ledger.
    pub(super) fn take_left_out(&mut self) -> Vec<LeftOutByStep> {
        std::mem::take(&mut self.left_out)
    }

    /// Whether workers of the stage are of several kinds.
    fn is_mixed(&self, stage: usize) -> bool {
        self.memory[stage].len() > 1
    }

    fn calls_functions(&self, stage: usize) -> bool {
        self.steps[stage].iter().any(|step| step.calls_function)
    }

    /// The first step of a stage that may lose rows: those that come to it have the same numbers each time.
    fn first_losing(&self, stage: usize) -> u32 {
        let mut steps = (0..).zip(&self.steps[stage]);
        let first = steps.find(|(_, step)| step.policy.loses_rows());
        first.map_or(0, |(number, _)| number)
    }

    /// A worker is of a kind, which is not the only one of its stage.
    pub(super) fn is_of(&mut self, worker: WorkerKey, kind: usize) {
        if kind > 0 {
            self.kinds.insert(worker, kind);
        }
    }

    fn kind_of(&self, worker: WorkerKey) -> usize {
        self.kinds.get(&worker).copied().unwrap_or(0)
    }

    /// The worker begins an input; what it must know of its rows.
    pub(super) fn begin(
        &mut self,
        worker: WorkerKey,
        input: InputKey,
        attempt: Attempt,
        number: u64,
    ) -> Option<FailingSpec> {
        self.queued.remove(&worker);
        let (spec, under_way) = self.told_of(worker, input, attempt, number)?;
        self.under_way.insert(worker, under_way);
        Some(spec)
    }

    /// The same of an input that it goes on with when the one that it has is used up.
    pub(super) fn queue(
        &mut self,
        worker: WorkerKey,
        input: InputKey,
        attempt: Attempt,
        number: u64,
    ) -> Option<FailingSpec> {
        let (spec, under_way) = self.told_of(worker, input, attempt, number)?;
        self.queued.insert(worker, under_way);
        Some(spec)
    }

    fn told_of(
        &mut self,
        worker: WorkerKey,
        input: InputKey,
        attempt: Attempt,
        number: u64,
    ) -> Option<(FailingSpec, UnderWay)> {
        if !self.calls_functions(input.0) {
            return None;
        }
        let note_key = Bytes::from(format!("{}/{number}", self.note_prefix));
        let mut spec = FailingSpec::default();
        let mut moved = 0;
        let first_losing = self.first_losing(input.0);
        if let Some(rows) = self.inputs.get_mut(&input) {
            if attempt == Attempt::Anew {
                rows.forget_behind(first_losing);
            }
            spec = rows.blame.to_spec(&rows.told);
            moved = rows.blame.moved();
            spec.told = rows.told.iter().copied().collect();
            rows.tell_noted(&mut spec);
        }
        if let Some(told) = self.done.get(&input) {
            spec.told = told.iter().copied().collect();
        }
        spec.most_rows = self.most_rows_of(input, self.kind_of(worker), attempt);
        spec.note_key = note_key.clone();
        spec.is_repeat = attempt != Attempt::Anew;
        let under_way = UnderWay {
            input,
            is_rerun: attempt == Attempt::Rerun,
            note_key,
            rows_in: spec
                .came
                .iter()
                .map(|came| (came.step, came.rows))
                .collect(),
            moved,
        };
        Some((spec, under_way))
    }

    /// How many steps are in stages before.
    fn steps_before(&self, stage: usize) -> usize {
        self.steps[..stage].iter().map(Vec::len).sum()
    }

    /// What a worker reports. Fails if more rows have failed than may.
    pub(super) fn report(&mut self, worker: WorkerKey, report: &Report) -> Result<(), TaskFailure> {
        let Some(under_way) = self.under_way.get_mut(&worker) else {
            return Ok(());
        };
        let input = under_way.input;
        if under_way.is_rerun {
            if report.is_last {
                self.go_on(worker);
            }
            return Ok(());
        }
        let rows = self.inputs.entry(input).or_default();
        // The first report of steps is that of the source.
        let steps = self.steps[input.0].iter().zip(report.steps.iter().skip(1));
        for (step, (_, told)) in (0..).zip(steps) {
            let came = under_way.rows_in.entry(step).or_default();
            *came += told.rows_in;
            // An attempt that died may have come further: what it has told was of so many.
            let counts = rows.counts.entry(step).or_default();
            counts.rows_in = counts.rows_in.max(*came);
        }
        if !report.failed.is_empty() {
            report.failed.iter().for_each(|told| rows.hear(told));
            for told in &report.failed {
                self.steps[input.0][told.step as usize]
                    .last
                    .clone_from(&told.last);
            }
        }
        if report.is_last {
            self.end(worker, input);
        }
        if report.failed.is_empty() {
            return Ok(());
        }
        self.check(false)
    }

    /// The input is used up: what was told of it counts.
    fn end(&mut self, worker: WorkerKey, input: InputKey) {
        self.go_on(worker);
        let Some(rows) = self.inputs.remove(&input) else {
            return;
        };
        if self.is_kept {
            let before = self.steps_before(input.0);
            self.left_out = rows.left_out(&self.steps[input.0], before);
        }
        let steps = &mut self.steps[input.0];
        for (step, counts) in rows.counts {
            steps[step as usize].counts.add(&counts);
        }
        let letters = rows.letters.into_iter().map(|(step, stream)| NewLetters {
            stage: input.0,
            step: step as usize,
            operator: steps[step as usize].name.clone(),
            stream,
        });
        self.letters.extend(letters);
        if !rows.told.is_empty() {
            self.done.insert(input, rows.told);
        }
    }

    /// The worker goes on with its second input, if it has one.
    fn go_on(&mut self, worker: WorkerKey) {
        match self.queued.remove(&worker) {
            Some(queued) => self.under_way.insert(worker, queued),
            None => self.under_way.remove(&worker),
        };
    }

    /// The worker gives back what it has.
    pub(super) fn forget(&mut self, worker: WorkerKey) {
        self.under_way.remove(&worker);
        self.queued.remove(&worker);
    }

    /// Where the worker would have noted what it may have died of.
    pub(super) fn note_key(&self, worker: WorkerKey) -> Option<&Bytes> {
        self.under_way
            .get(&worker)
            .map(|under_way| &under_way.note_key)
    }

    /// Letters of inputs that are used up.
    pub(super) fn take_letters(&mut self) -> Vec<NewLetters> {
        std::mem::take(&mut self.letters)
    }

    /// Letters of inputs that are not, for a job that ends before they are.
    pub(super) fn take_unfinished_letters(&mut self) -> Vec<NewLetters> {
        let mut letters = Vec::new();
        for (&(stage, _), rows) in &mut self.inputs {
            for (step, stream) in rows.letters.drain(..) {
                letters.push(NewLetters {
                    stage,
                    step: step as usize,
                    operator: self.steps[stage][step as usize].name.clone(),
                    stream,
                });
            }
        }
        letters
    }

    /// Of each stage, of each step: rows that were left out, of inputs that are used up.
    pub(super) fn counted(&self) -> impl Iterator<Item = impl Iterator<Item = u64>> {
        let steps = self.steps.iter();
        steps.map(|steps| steps.iter().map(|step| step.counts.rows))
    }
}

#[cfg(test)]
mod tests;
