//! Functions of which nobody has said whether they give a row for each row: what is seen of them.
//!
//! One that has given just as many rows as it got, in all inputs that are used up, and in enough rows, is taken to go on so. One that has
//! once given more or fewer is not, for good: what it will give cannot be told from what it gave.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::InputKey;
use crate::executor::core::event::WorkerKey;
use crate::wire::spec::Report;

/// A step that calls a function: its stage, and its place among the operators of that.
pub(super) type FunctionKey = (usize, u32);

/// Rows that a function must have had: of a few, nothing can be told.
const ENOUGH_ROWS: u64 = 100;

/// What is seen of functions that matter to expectations behind them.
#[derive(Default)]
pub(super) struct KeptRows {
    functions: BTreeMap<FunctionKey, Seen>,
    under_way: HashMap<WorkerKey, PassingAttempt>,
    /// Inputs that were begun: what a second attempt gets need not be the whole input.
    begun: HashSet<InputKey>,
}

/// What a function has done with inputs that are used up.
#[derive(Default)]
struct Seen {
    rows: u64,
    has_changed_rows: bool,
}

struct PassingAttempt {
    input: InputKey,
    is_first: bool,
    rows: BTreeMap<u32, Passed>,
}

#[derive(Default)]
struct Passed {
    came: u64,
    /// Those that came out, and those that were left out because the function failed for them.
    gone: u64,
}

impl KeptRows {
    /// Nothing is seen of these yet.
    pub(super) fn of(functions: impl IntoIterator<Item = FunctionKey>) -> Self {
        let functions = functions.into_iter().map(|key| (key, Seen::default()));
        Self {
            functions: functions.collect(),
            ..Self::default()
        }
    }

    /// Whether all of them are taken to give a row for each row.
    pub(super) fn are_kept_by(&self, functions: &[FunctionKey]) -> bool {
        functions.iter().all(|key| {
            let seen = self.functions.get(key);
            seen.is_some_and(|seen| !seen.has_changed_rows && seen.rows >= ENOUGH_ROWS)
        })
    }

    /// The worker begins an input.
    pub(super) fn begin(&mut self, worker: WorkerKey, input: InputKey) {
        if self.of_stage(input.0).next().is_none() {
            return;
        }
        let attempt = PassingAttempt {
            input,
            is_first: self.begun.insert(input),
            rows: BTreeMap::new(),
        };
        self.under_way.insert(worker, attempt);
    }

    /// The worker gives its input back, or died over it.
    pub(super) fn forget(&mut self, worker: WorkerKey) {
        self.under_way.remove(&worker);
    }

    fn of_stage(&self, stage: usize) -> impl Iterator<Item = (&FunctionKey, &Seen)> {
        self.functions.range((stage, 0)..(stage + 1, 0))
    }

    /// What a worker reports.
    pub(super) fn report(&mut self, worker: WorkerKey, report: &Report) {
        let Some(attempt) = self.under_way.get_mut(&worker) else {
            return;
        };
        let stage = attempt.input.0;
        for (&(_, operator), _) in self.functions.range((stage, 0)..(stage + 1, 0)) {
            let passed = attempt.rows.entry(operator).or_default();
            if let Some(step) = report.steps.get(operator as usize) {
                passed.came += step.rows_in;
                passed.gone += step.rows_out;
            }
            // The first operator is the source, which is no step.
            let told = report.failed.iter();
            let told = told.filter(|told| told.step + 1 == operator);
            passed.gone += told.map(|told| told.rows.len() as u64).sum::<u64>();
        }
        if report.is_last
            && let Some(attempt) = self.under_way.remove(&worker)
        {
            self.used_up(&attempt);
        }
    }

    fn used_up(&mut self, attempt: &PassingAttempt) {
        for (&operator, passed) in attempt.rows.iter().filter(|_| attempt.is_first) {
            let Some(seen) = self.functions.get_mut(&(attempt.input.0, operator)) else {
                continue;
            };
            seen.rows += passed.came;
            seen.has_changed_rows |= passed.gone != passed.came;
        }
    }
}
