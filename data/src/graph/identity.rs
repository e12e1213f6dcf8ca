//! What makes a job the same as one before, so that it can be taken up where that was left.
//!
//! Functions are not looked into: whoever made them knows what they are.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::edge::EdgeKind;
use super::job::{JobPlan, StagePlan};
use super::operator::{Function, Operator};
use super::task::StageTask;
use crate::digest::Digest;
use crate::ledger::Trait;
use crate::plan::{Expectation, Expression, FailurePolicy, MostViolations};
use crate::registered::Registered;
use crate::sources;
use crate::wire;

/// Functions of expressions that give other values when the rows before are not computed again.
const BY_ROW: [&str; 4] = [
    "monotonically_increasing_id",
    "random",
    "uuid",
    "row_number",
];

impl JobPlan {
    /// What the job is, but for its functions; or why it is not taken up, in words that fit behind "because". `keeps_order`: its rows
    /// are written in the order of the source.
    pub fn identity(&self, keeps_order: bool) -> Result<Vec<Trait>, String> {
        self.fault_of_stages(keeps_order)?;
        let stage = &self.stages[0];
        let source = stage
            .source
            .as_ref()
            .and_then(|plan| Some((plan, plan.table.as_deref()?)));
        let Some((plan, table)) = source else {
            return Err("it reads nothing".to_owned());
        };
        let is_limited = self.stages.iter().any(|stage| stage.row_limit.is_some());
        if is_limited || plan.row_limit.is_some() {
            return Err(
                "limit() takes what comes first, which is something else in every run".to_owned(),
            );
        }
        let mut steps = self.stages.iter().flat_map(|stage| &stage.steps);
        if steps.any(|step| matches!(step.operator, Operator::Relational(_))) {
            return Err("it works on all rows of an input at once".to_owned());
        }
        let source = sources::of_table(table).ok_or("its source is unknown")?;
        let mut traits = source.identity()?;
        let mut digest = Digest::new();
        digest.add(&format!("{:?} {:?}", plan.columns, plan.filters));
        let all: BTreeSet<usize> = (0..self.stages.len()).collect();
        if self.outputs.len() > 1 {
            digest.add(&stage.batch_rows);
            traits.push(Trait::new("what is read", digest.text()));
            for output in 0..self.outputs.len() {
                let mut digest = Digest::new();
                self.add_steps(&self.stages_of(output), &mut digest)?;
                let name = format!("steps on the way to output {}", output + 1);
                traits.push(Trait::new(name, digest.text()));
            }
            return Ok(traits);
        }
        self.add_steps(&all, &mut digest)?;
        traits.push(Trait::new("steps", digest.text()));
        Ok(traits)
    }

    /// Adds what these stages do, but for their functions.
    fn add_steps(&self, stages: &BTreeSet<usize>, digest: &mut Digest) -> Result<(), String> {
        let all = || stages.iter().map(|&stage| &self.stages[stage]);
        let window_rows = all().map(|stage| stage.window_rows).max();
        let has_map = all().any(|stage| stage.has_map);
        digest.add(&(self.stages[0].batch_rows, window_rows, has_map));
        digest.add(&steps_without_functions(all())?);
        Ok(())
    }

    /// Why its stages are such that nobody could go on with them.
    fn fault_of_stages(&self, keeps_order: bool) -> Result<(), String> {
        let [_, behind @ ..] = self.stages.as_slice() else {
            return Err("it has no stages".to_owned());
        };
        if behind.is_empty() {
            return Ok(());
        }
        if self.stages.iter().any(|stage| stage.row_limit.is_some()) {
            return Err(
                "limit() takes what comes first, which is something else in every run".to_owned(),
            );
        }
        let mut steps = self.stages.iter().flat_map(|stage| &stage.steps);
        if steps.any(|step| matches!(step.operator, Operator::Expect(_))) {
            return Err("it has several stages, and expect() counts their rows".to_owned());
        }
        let follows = |index: usize| {
            let mut edges = self.edges_to(index);
            let edge = edges.next().filter(|_| edges.next().is_none());
            edge.is_some_and(|edge| edge.kind == EdgeKind::Forward)
        };
        let reads = |stage: &&StagePlan| stage.source.is_some();
        if self.outputs.len() > 1 && self.stages.iter().filter(reads).count() > 1 {
            return Err("its outputs are made of several things that are read".to_owned());
        }
        if !(1..self.stages.len()).all(follows) {
            return Err(
                "rows of different inputs meet in it, in a sort, a join, a group, a union or a shuffle"
                    .to_owned(),
            );
        }
        if keeps_order || self.stages.iter().any(|stage| stage.is_ordered) {
            return Err("it has several stages, and keeps the order of its rows".to_owned());
        }
        let counts = |stage: &StagePlan| {
            let steps = stage.steps.iter().map(|step| &step.operator);
            let is_map = |step: &Operator| matches!(step, Operator::Map(_));
            let is_before = |step: &&Operator| stage.source.is_some() && !is_map(step);
            steps.skip_while(is_before).any(counts_rows)
        };
        if self.stages.iter().any(counts) {
            return Err(
                "it has several stages, and behind a function something that is another for every number of a row, such as \
                 random_sample"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Whether a function may leave rows out that it fails for.
    pub(crate) fn loses_rows(&self) -> bool {
        let mut steps = self.stages.iter().flat_map(|stage| &stage.steps);
        steps.any(|step| match &step.operator {
            Operator::Map(call) => call.failures.loses_rows(),
            _ => false,
        })
    }

    /// Whether it is worth noting rows that were made: a function makes them, and none of the steps behind it counts rows.
    pub(crate) fn notes_rows(&self) -> bool {
        let Some(stage) = self.stages.last() else {
            return false;
        };
        let first = stage.steps.first().map(|step| &step.operator);
        let begins_with_function = matches!(first, Some(Operator::Map(_)));
        // Rows of an input of blocks are counted as they come.
        if stage.source.is_none() && !begins_with_function {
            return false;
        }
        let mut steps = stage.steps.iter().map(|step| &step.operator);
        let is_guarded = |step: &Operator| match step {
            Operator::Map(call) => call.failures.is_guarded(),
            _ => false,
        };
        // What such a step gives goes on when its calls have ended, and rows that it has lost are told in another way.
        if steps.clone().any(is_guarded) {
            return false;
        }
        let has_function = steps.any(|step| matches!(step, Operator::Map(_)));
        has_function && !steps.any(counts_rows)
    }
}

/// The steps of stages as they travel, with nothing in the place of functions.
fn steps_without_functions<'a>(
    stages: impl Iterator<Item = &'a StagePlan>,
) -> Result<Vec<u8>, String> {
    let steps = stages.flat_map(|stage| stage.to_steps().0);
    let without = steps.map(|step| match step {
        Operator::Map(mut call) => {
            call.cache = None;
            if let Function::Python(definition) = &mut call.function {
                *definition = Bytes::new();
            }
            // Whoever has mended a job may let more rows fail, or give calls more time.
            call.failures = FailurePolicy {
                on_error: Some(call.failures.on_error()),
                ..FailurePolicy::default()
            };
            Operator::Map(call)
        }
        // Rows that were judged were judged, whatever limit holds now.
        Operator::Expect(expectation) => Operator::Expect(Expectation {
            most: MostViolations::Rows(0),
            only_warns: false,
            ..expectation
        }),
        other => other,
    });
    let task = StageTask {
        name: String::new(),
        source: Registered {
            kind: String::new(),
            settings: Bytes::new(),
        },
        steps: without.collect(),
        sink: None,
        block_bytes: 0,
        growing_inputs: 0,
        row_limit: None,
        memory_bytes: 0,
        prefetch_batches: 0,
        partitioner: None,
        group: None,
    };
    let spec = wire::encode_task(&task).map_err(|error| error.to_string())?;
    Ok(prost::Message::encode_to_vec(&spec))
}

fn counts_rows(step: &Operator) -> bool {
    let by_row = |expression: &Expression| {
        let text = match expression {
            Expression::Planned(expr) => expr.to_string(),
            Expression::Text(text) => text.clone(),
        };
        BY_ROW.iter().any(|function| text.contains(function))
    };
    match step {
        Operator::Filter(expression) => by_row(expression),
        Operator::Project(columns) | Operator::Compute(columns) => {
            columns.iter().any(|column| by_row(&column.expression))
        }
        // Rows that are noted do not come again to those who judge them.
        Operator::Sample { .. } | Operator::Relational(_) | Operator::Expect(_) => true,
        Operator::Select(_)
        | Operator::Drop(_)
        | Operator::Rename(_)
        | Operator::Conform(_)
        | Operator::Declare(_)
        | Operator::Map(_) => false,
    }
}
