//! What was found of expectations, over all inputs of a job, and whether they can still hold.
//!
//! A worker tells what it has found in its input so far, from the beginning. While the input is under way, the attempt that came furthest
//! counts; when it is used up, the attempt that has used it up. So what dead workers have told is never added to what others tell.
//!
//! An expectation with a number is broken as soon as more rows violate it. One with a share is broken when it is certain: with more
//! violations than the share of all rows that can come, where the sources know how many these are, or a limit is before it; else when all have
//! come. A function before it that may make more rows is taken to give one for each, if it has always done so.

mod bound;
mod broken;
mod kept_rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::core::event::WorkerKey;
use crate::block;
use crate::graph::{JobPlan, Operator, StageGroup, StagePlan};
use crate::ledger::{JudgedOfLeg, JudgedRows};
use crate::operators::expect::EXAMPLES;
use crate::plan::{Expectation, MostViolations};
use crate::stats::{ExecutionStats, ExpectationStats, ExpectationVerdict};
use crate::wire::expect::Judged;
use crate::wire::spec::Report;
use bound::RowSource;
use kept_rows::{FunctionKey, KeptRows};

/// An input: its stage, and its place in the order of that.
type InputKey = (usize, u64);

/// All expectations of a job.
pub(crate) struct Expectations {
    /// Of each stage, by the place among its operators.
    stages: Vec<BTreeMap<u32, Standing>>,
    /// What was told of inputs that are not used up.
    pending: HashMap<InputKey, BTreeMap<u32, JudgedCounts>>,
    under_way: HashMap<WorkerKey, JudgedAttempt>,
    kept_rows: KeptRows,
}

/// One expectation.
struct Standing {
    expectation: Expectation,
    /// Its step, counted through all stages, as the ledger has it: machines differ in how many stages these are.
    step: u32,
    /// No more rows than each of these come to it, if the functions before it give no more than they get.
    bounds: Vec<(u64, Vec<FunctionKey>)>,
    /// Of inputs that are used up.
    counts: JudgedCounts,
    /// By input and number: the first ones that were told.
    examples: BTreeMap<(u64, u64), RecordBatch>,
    is_broken: bool,
    /// So many rows leave its stage at most, and all that come to it leave.
    most_taken: Option<u64>,
    /// An input has ended before all of its rows had come.
    was_cut: bool,
    /// All rows have come.
    is_over: bool,
}

/// Rows that came, and those of them that an expectation does not hold for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct JudgedCounts {
    pub(crate) rows: u64,
    pub(crate) violations: u64,
}

impl JudgedCounts {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.violations += other.violations;
    }

    fn of(judged: &Judged) -> Self {
        Self {
            rows: judged.rows,
            violations: judged.violations,
        }
    }
}

/// What a worker works on.
struct JudgedAttempt {
    input: InputKey,
    /// In this attempt.
    told: BTreeMap<u32, JudgedCounts>,
    /// Those that all rows of the input have come to.
    over: BTreeSet<u32>,
}

impl Expectations {
    /// Those of a job. `source_rows`: the rows of its sources, if they are known.
    pub(crate) fn new(job: &JobPlan, source_rows: Option<u64>) -> Self {
        let mut steps = 0;
        let stages = job.stages.iter().enumerate().map(|(index, stage)| {
            let found = |(operator, step, expectation): (u32, u32, &Expectation)| {
                let bounds = bound::most_before(job, index, operator).into_iter();
                let bounds = bounds.filter_map(|most| match most.rows {
                    RowSource::Sources => Some((source_rows?, most.functions)),
                    RowSource::Limits(rows) => Some((rows, most.functions)),
                });
                let found = Standing {
                    expectation: expectation.clone(),
                    step,
                    bounds: bounds.collect(),
                    counts: JudgedCounts::default(),
                    examples: BTreeMap::new(),
                    is_broken: false,
                    most_taken: bound::most_taken(stage, operator),
                    was_cut: false,
                    is_over: false,
                };
                (operator, found)
            };
            expectations_of(stage, &mut steps)
                .into_iter()
                .map(found)
                .collect()
        });
        let stages: Vec<BTreeMap<u32, Standing>> = stages.collect();
        let standings = stages.iter().flat_map(BTreeMap::values);
        let shares = standings.filter(|found| found.is_share_that_ends_the_job());
        let functions = shares.flat_map(|found| found.bounds.iter().flat_map(|(_, of)| of));
        let kept_rows = KeptRows::of(functions.copied());
        Self {
            stages,
            pending: HashMap::new(),
            under_way: HashMap::new(),
            kept_rows,
        }
    }

    /// What an earlier run has found in inputs that it has used up.
    pub(crate) fn take_up(&mut self, judged: &[JudgedRows]) {
        for one in judged {
            let mut all = self.stages.iter_mut().flat_map(BTreeMap::values_mut);
            if let Some(found) = all.find(|found| found.step == one.operator) {
                // The source tells the rows that are left, and a limit those that it still takes.
                for (most, _) in &mut found.bounds {
                    *most = most.saturating_add(one.rows);
                }
                found.most_taken = found.most_taken.map(|most| most.saturating_add(one.rows));
                found.counts.add(JudgedCounts {
                    rows: one.rows,
                    violations: one.violations,
                });
            }
        }
    }

    /// What was found of each, of a job that has ended.
    pub(super) fn found(&self) -> Vec<JudgedOfLeg> {
        let mut all = Vec::new();
        for (stage, of_stage) in self.stages.iter().enumerate() {
            for (&operator, found) in of_stage {
                let JudgedCounts { rows, violations } = self.counts(stage, operator);
                all.push(JudgedOfLeg {
                    expectation: found.expectation.name.clone(),
                    rows,
                    violations,
                    is_over: found.is_over,
                });
            }
        }
        all
    }

    /// The same of a leg that is finished. Fails if one does not hold: as many may violate it as this run says.
    pub(super) fn take_found(&mut self, mut found: Vec<JudgedOfLeg>) -> Result<(), TaskFailure> {
        for standing in self.stages.iter_mut().flat_map(BTreeMap::values_mut) {
            let name = &standing.expectation.name;
            let Some(at) = found.iter().position(|one| one.expectation == *name) else {
                continue;
            };
            let found = found.remove(at);
            standing.counts = JudgedCounts {
                rows: found.rows,
                violations: found.violations,
            };
            standing.is_over = found.is_over;
        }
        (0..self.stages.len()).try_for_each(|stage| self.check(stage))
    }

    /// The worker begins an input. `is_rerun`: for blocks that were lost, so that its rows were judged already.
    pub(super) fn begin(&mut self, worker: WorkerKey, input: InputKey, is_rerun: bool) {
        self.forget(worker);
        if is_rerun {
            return;
        }
        self.kept_rows.begin(worker, input);
        if self.stages[input.0].is_empty() {
            return;
        }
        let attempt = JudgedAttempt {
            input,
            told: BTreeMap::new(),
            over: BTreeSet::new(),
        };
        self.under_way.insert(worker, attempt);
    }

    /// What a worker reports. Fails if an expectation is broken that ends the job.
    pub(super) fn report(&mut self, worker: WorkerKey, report: &Report) -> Result<(), TaskFailure> {
        self.kept_rows.report(worker, report);
        let Some(under_way) = self.under_way.get_mut(&worker) else {
            return Ok(());
        };
        let input = under_way.input;
        let pending = self.pending.entry(input).or_default();
        for judged in &report.judged {
            let counts = JudgedCounts::of(judged);
            under_way.told.insert(judged.operator, counts);
            if judged.is_over {
                under_way.over.insert(judged.operator);
            }
            let furthest = pending.entry(judged.operator).or_default();
            if counts.rows >= furthest.rows {
                *furthest = counts;
            }
            if let Some(found) = self.stages[input.0].get_mut(&judged.operator) {
                found.hear_examples(input.1, judged)?;
            }
        }
        if report.is_last
            && let Some(JudgedAttempt { told, over, .. }) = self.under_way.remove(&worker)
        {
            self.pending.remove(&input);
            for (operator, counts) in told {
                if let Some(found) = self.stages[input.0].get_mut(&operator) {
                    found.counts.add(counts);
                }
            }
            for (operator, found) in &mut self.stages[input.0] {
                found.was_cut |= !over.contains(operator);
            }
        }
        self.check(input.0)
    }

    /// What was found in the input that the worker uses up by this report, for the ledger.
    pub(super) fn of_used_up(&self, worker: WorkerKey, report: &Report) -> Vec<JudgedRows> {
        let Some(under_way) = self.under_way.get(&worker).filter(|_| report.is_last) else {
            return Vec::new();
        };
        let mut told = under_way.told.clone();
        let last = report.judged.iter();
        told.extend(last.map(|judged| (judged.operator, JudgedCounts::of(judged))));
        let (stage, input) = under_way.input;
        let rows = told.into_iter().filter_map(|(operator, counts)| {
            Some(JudgedRows {
                input,
                operator: self.stages[stage].get(&operator)?.step,
                rows: counts.rows,
                violations: counts.violations,
                attempt: None,
                output: None,
            })
        });
        rows.collect()
    }

    /// The worker gives its input back, or died over it.
    pub(super) fn forget(&mut self, worker: WorkerKey) {
        self.under_way.remove(&worker);
        self.kept_rows.forget(worker);
    }

    /// Nothing more comes to the stage. `is_used_up`: because its inputs are used up, and not because nobody wants more. Fails if an
    /// expectation of it does not hold.
    pub(super) fn end(&mut self, stage: usize, is_used_up: bool) -> Result<(), TaskFailure> {
        let operators: Vec<u32> = self.stages[stage].keys().copied().collect();
        let mut is_news = false;
        for operator in operators {
            let counts = self.counts(stage, operator);
            if let Some(found) = self.stages[stage].get_mut(&operator) {
                let was_over = found.is_over;
                found.is_over |= found.has_all(counts, is_used_up);
                is_news |= found.is_over != was_over;
            }
        }
        if is_news { self.check(stage) } else { Ok(()) }
    }

    fn check(&mut self, stage: usize) -> Result<(), TaskFailure> {
        let operators: Vec<u32> = self.stages[stage].keys().copied().collect();
        for operator in operators {
            let counts = self.counts(stage, operator);
            let Some(found) = self.stages[stage].get_mut(&operator) else {
                continue;
            };
            found.is_broken |= found.is_certainly_broken(counts, &self.kept_rows);
            if found.is_broken && !found.expectation.only_warns {
                return Err(broken::failure(found, counts));
            }
        }
        Ok(())
    }

    /// With those of inputs that are not used up.
    fn counts(&self, stage: usize, operator: u32) -> JudgedCounts {
        let mut counts = self.stages[stage]
            .get(&operator)
            .map_or_else(JudgedCounts::default, |found| found.counts);
        let of_stage = self.pending.iter().filter(|((of, _), _)| *of == stage);
        for (_, pending) in of_stage {
            counts.add(pending.get(&operator).copied().unwrap_or_default());
        }
        counts
    }

    /// Says what was found so far. `is_end`: the job has ended.
    pub(super) fn publish(&self, stats: &mut ExecutionStats, is_end: bool) {
        for (index, (stage, all)) in stats.stages.iter_mut().zip(&self.stages).enumerate() {
            for (&operator, found) in all {
                let counts = self.counts(index, operator);
                if let Some(operator) = stage.operators.get_mut(operator as usize) {
                    operator.expectation = Some(found.stats(counts, is_end));
                }
            }
        }
    }
}

impl Standing {
    /// Whether all rows have come that are to come to it, where nothing more comes.
    fn has_all(&self, counts: JudgedCounts, is_used_up: bool) -> bool {
        (is_used_up && !self.was_cut) || self.most_taken == Some(counts.rows)
    }

    fn is_share_that_ends_the_job(&self) -> bool {
        matches!(self.expectation.most, MostViolations::Share(_)) && !self.expectation.only_warns
    }

    /// Whether it cannot hold any more, whatever comes.
    fn is_certainly_broken(&self, counts: JudgedCounts, kept_rows: &KeptRows) -> bool {
        let most = self.expectation.most;
        if self.is_over {
            return most.is_exceeded(counts.violations, counts.rows);
        }
        let bounds = self.bounds.iter();
        let known = bounds.filter(|(_, functions)| kept_rows.are_kept_by(functions));
        let known = known.map(|(rows, functions)| match functions.is_empty() {
            true => (*rows, counts),
            // What a function does with an input is known when that is used up.
            false => (*rows, self.counts),
        });
        // A source may have told less than it gave.
        known
            .chain([(u64::MAX, counts)])
            .any(|(rows, counts)| most.is_exceeded(counts.violations, rows.max(counts.rows)))
    }

    fn hear_examples(&mut self, input: u64, judged: &Judged) -> Result<(), TaskFailure> {
        if judged.examples.is_empty() {
            return Ok(());
        }
        let (_, batches) = block::decode(judged.examples.clone()).map_err(|error| {
            let text = format!("read rows that violate an expectation: {error}");
            TaskFailure::new(ErrorCode::Internal, text)
        })?;
        let rows = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|at| batch.slice(at, 1)));
        for (&number, row) in judged.numbers.iter().zip(rows) {
            self.examples.insert((input, number), row);
        }
        while self.examples.len() > EXAMPLES {
            self.examples.pop_last();
        }
        Ok(())
    }

    fn stats(&self, counts: JudgedCounts, is_end: bool) -> ExpectationStats {
        ExpectationStats {
            name: self.expectation.name.clone(),
            most: self.expectation.most,
            only_warns: self.expectation.only_warns,
            rows: counts.rows,
            violations: counts.violations,
            verdict: match (self.is_broken, self.is_over) {
                (true, _) => ExpectationVerdict::Broken,
                (false, true) => ExpectationVerdict::Held,
                (false, false) if is_end => ExpectationVerdict::Undecided,
                (false, false) => ExpectationVerdict::Pending,
            },
            examples: self.examples.values().cloned().collect(),
        }
    }
}

/// The expectations of a stage, by the places that their operators have in reports, and by their steps. `steps`: of the stages before, to
/// which its own are added.
fn expectations_of<'a>(stage: &'a StagePlan, steps: &mut u32) -> Vec<(u32, u32, &'a Expectation)> {
    let operators: Vec<Option<&Operator>> = match &stage.group {
        Some(StageGroup { stages, .. }) => stages.iter().flat_map(operators_of).collect(),
        None => operators_of(stage).collect(),
    };
    let mut found = Vec::new();
    for (number, operator) in (0..).zip(operators) {
        *steps += u32::from(operator.is_some());
        if let Some(Operator::Expect(expectation)) = operator {
            found.push((number, *steps, expectation));
        }
    }
    found
}

/// What rows begin with, which is no step, and the steps.
fn operators_of(stage: &StagePlan) -> impl Iterator<Item = Option<&Operator>> {
    let steps = stage.steps.iter().map(|step| Some(&step.operator));
    std::iter::once(None).chain(steps)
}
