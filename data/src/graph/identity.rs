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

use super::legs::{KeptFunctions, Legs};

/// Why a job is not taken up that has a limit.
const LIMITED: &str = "limit() takes what comes first, which is something else in every run";
/// Why one is not in which rows of different inputs meet, and nothing is kept before and behind that.
const MEET: &str = "rows of different inputs meet in it, in a sort, a join, a group, a union or a shuffle, and no class, model or \
                    function on a GPU makes rows that are worth keeping (DataContext.checkpoint_config keeps those of all functions)";

/// Functions of expressions that give other values when the rows before are not computed again.
const BY_ROW: [&str; 4] = [
    "monotonically_increasing_id",
    "random",
    "uuid",
    "row_number",
];

impl JobPlan {
    /// What the job is, but for its functions; or why it is not taken up, in words that fit behind "because". `keeps_order`: its rows
    /// are written in the order of the source. `kept`: where rows of different inputs meet, what is kept of what functions make.
    pub fn identity(&self, keeps_order: bool, kept: KeptFunctions) -> Result<Vec<Trait>, String> {
        if let Some(fault) = self.fault(keeps_order) {
            let legs = self.legs(kept, keeps_order).ok_or(fault)?;
            return self.identity_in_legs(&legs);
        }
        let stage = &self.stages[0];
        let mut traits = identity_of_source(stage)?;
        let mut digest = Digest::new();
        add_reading(stage, &mut digest);
        let all: BTreeSet<usize> = (0..self.stages.len()).collect();
        if self.outputs.len() > 1 {
            digest.add(&stage.batch_rows);
            traits.push(Trait::new("what is read", digest.text()));
            for output in 0..self.outputs.len() {
                let steps = self.signed_steps(&self.stages_of(output), Digest::new())?;
                let name = format!("steps on the way to output {}", output + 1);
                traits.push(Trait::of_parts(name, steps));
            }
            return Ok(traits);
        }
        traits.push(Trait::of_parts("steps", self.signed_steps(&all, digest)?));
        Ok(traits)
    }

    /// The same of one that runs in legs: all that it reads and does, however it is cut.
    fn identity_in_legs(&self, legs: &Legs) -> Result<Vec<Trait>, String> {
        let (mut traits, mut digest) = (Vec::new(), Digest::new());
        let sources = || self.stages.iter().filter(|stage| stage.source.is_some());
        let are_many = sources().count() > 1;
        for (number, stage) in (1..).zip(sources()) {
            let of_input = |known: Trait| match are_many {
                true => Trait::new(format!("{} (input {number})", known.name), known.value),
                false => known,
            };
            traits.extend(identity_of_source(stage)?.into_iter().map(of_input));
            add_reading(stage, &mut digest);
        }
        for stage in &self.stages {
            digest.add(&format!("{:?}", stage.partitioner));
            digest.add(&(stage.row_limit, stage.steps.len(), stage.is_ordered));
        }
        digest.add(&format!("{:?}", self.edges));
        let steps = self.signed_steps(&(0..self.stages.len()).collect(), digest)?;
        traits.push(Trait::of_parts("steps", steps));
        traits.push(Trait::new("where it is cut into legs", legs.layout()));
        Ok(traits)
    }

    /// Why nobody could go on with it by what its inputs have become; `None`: somebody could.
    pub(crate) fn fault(&self, keeps_order: bool) -> Option<String> {
        if let Err(fault) = self.fault_of_stages(keeps_order) {
            return Some(fault);
        }
        let source = self.stages[0].source.as_ref();
        if source.is_none_or(|plan| plan.table.is_none()) {
            return Some("it reads nothing".to_owned());
        }
        // Rows that a limit lets through are counted; those of a source must be the same ones in every run.
        let is_counted = self.is_limited() && self.writes_what_a_limit_lets_through();
        if !is_counted && (self.is_limited() || !self.stages[0].reads_what_it_says()) {
            return Some(LIMITED.to_owned());
        }
        let mut steps = self.stages.iter().flat_map(|stage| &stage.steps);
        let is_relational = steps.any(|step| matches!(step.operator, Operator::Relational(_)));
        is_relational.then(|| "it works on all rows of an input at once".to_owned())
    }

    /// What these stages do, step by step, but for their functions: for people, and signs that are equal if and only if the things are. The
    /// first says how rows are read and handed on, begun with `handed`.
    fn signed_steps(
        &self,
        stages: &BTreeSet<usize>,
        mut handed: Digest,
    ) -> Result<Vec<(String, String)>, String> {
        let all = || stages.iter().map(|&stage| &self.stages[stage]);
        let window_rows = all().map(|stage| stage.window_rows).max();
        let has_map = all().any(|stage| stage.has_map);
        handed.add(&(self.stages[0].batch_rows, window_rows, has_map));
        if let Some(stage) = all().find(|stage| stage.window_bytes > 0) {
            handed.add(&stage.window_bytes);
        }
        let reading: Vec<String> = all().filter_map(words_of_reading).collect();
        let mut parts = vec![(reading.join(", "), handed.text())];
        for stage in all() {
            parts.extend(steps_without_functions(stage)?);
        }
        if let Some(limit) = all().find_map(|stage| stage.row_limit) {
            parts.push((format!("limit({limit})"), String::new()));
        }
        Ok(parts)
    }

    /// Why its stages are such that nobody could go on with them.
    fn fault_of_stages(&self, keeps_order: bool) -> Result<(), String> {
        let [_, behind @ ..] = self.stages.as_slice() else {
            return Err("it has no stages".to_owned());
        };
        if behind.is_empty() {
            return Ok(());
        }
        if self.is_limited() && !self.writes_what_a_limit_lets_through() {
            return Err(LIMITED.to_owned());
        }
        let reads = |stage: &&StagePlan| stage.source.is_some();
        if self.outputs.len() > 1 && self.stages.iter().filter(reads).count() > 1 {
            return Err("its outputs are made of several things that are read".to_owned());
        }
        if !self.is_chain() {
            return Err(MEET.to_owned());
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

    /// Whether the rows of each stage are those of one other, block by block, but for the first one.
    fn is_chain(&self) -> bool {
        (1..self.stages.len()).all(|index| {
            let mut edges = self.edges_to(index);
            let edge = edges.next().filter(|_| edges.next().is_none());
            edge.is_some_and(|edge| edge.kind == EdgeKind::Forward)
        })
    }

    fn is_limited(&self) -> bool {
        self.stages.iter().any(|stage| stage.row_limit.is_some())
    }

    /// Whether the rows of its files are just those that its only limit lets through, so that they count against it.
    pub(super) fn writes_what_a_limit_lets_through(&self) -> bool {
        let Some((last, before)) = self.stages.split_last() else {
            return false;
        };
        let (giver, rest) = match before.split_last() {
            Some((giver, rest)) => (giver, rest),
            None => return false,
        };
        let mut steps = last.steps.iter().map(|step| &step.operator);
        let keeps_rows = |step: &Operator| !matches!(step, Operator::Map(_)) && step.keeps_rows();
        self.outputs.len() == 1
            && self.is_chain()
            && giver.row_limit.is_some()
            && last.row_limit.is_none()
            && rest.iter().all(|stage| stage.row_limit.is_none())
            // A leg has its end when it begins, which is files.
            && last.end.as_ref().is_none_or(|end| end.sink.writes_files())
            && steps.all(keeps_rows)
    }

    /// So many rows have come through its limit in an earlier run. Returns whether none is left to come.
    pub(crate) fn lower_limit(&mut self, rows: u64) -> bool {
        if rows == 0 || !self.writes_what_a_limit_lets_through() {
            return false;
        }
        let mut limits = self
            .stages
            .iter_mut()
            .filter_map(|stage| stage.row_limit.as_mut());
        let Some(limit) = limits.next() else {
            return false;
        };
        let left = limit.saturating_sub(rows);
        *limit = left.max(1);
        left == 0
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
        let has_function = steps.any(|step| matches!(step, Operator::Map(_)));
        // What several stages that run together have found is not told apart.
        let is_told_apart = stage.group.is_none() || !stage.counts_rows();
        has_function && is_told_apart && !steps.any(counts_rows)
    }
}

/// What is known of what the stage reads.
fn identity_of_source(stage: &StagePlan) -> Result<Vec<Trait>, String> {
    let table = stage.source.as_ref().and_then(|plan| plan.table.as_deref());
    let source = sources::of_table(table.ok_or("it reads nothing")?);
    source.ok_or("its source is unknown")?.identity()
}

/// Adds what of it is read.
fn add_reading(stage: &StagePlan, digest: &mut Digest) {
    if let Some(plan) = &stage.source {
        digest.add(&format!("{:?} {:?}", plan.columns, plan.filters));
        if let Some(rows) = plan.row_limit {
            digest.add(&rows);
        }
    }
}

/// Which rows are read, for people.
fn words_of_reading(stage: &StagePlan) -> Option<String> {
    let plan = stage.source.as_ref()?;
    let mut words = "reading".to_owned();
    let filters: Vec<String> = plan
        .filters
        .iter()
        .map(|filter| filter.human_display().to_string())
        .collect();
    if !filters.is_empty() {
        words.push_str(&format!(" where {}", filters.join(" and ")));
    }
    if let Some(rows) = plan.row_limit {
        words.push_str(&format!(", {rows} rows"));
    }
    Some(words)
}

/// The steps of a stage for people, and signs of them as they travel, with nothing in the place of functions.
fn steps_without_functions(stage: &StagePlan) -> Result<Vec<(String, String)>, String> {
    // Which kinds of workers there are changes nothing: how inputs are cut hangs on the rows of their largest calls, which are told.
    let is_mixed = stage.compute.is_mixed();
    let steps = stage.steps.iter().zip(stage.to_steps(0).0);
    let signed = steps.map(|(planned, step)| {
        let words = words_of_step(&planned.name, &step);
        let without = match step {
            Operator::Map(mut call) => {
                call.cache = None;
                call.batch_rows = call.batch_rows.filter(|_| !is_mixed);
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
        };
        Ok((words, sign(without)?))
    });
    signed.collect()
}

/// A step, with what of it is changed most often.
fn words_of_step(name: &str, step: &Operator) -> String {
    match step {
        Operator::Filter(expression) => format!("{name}({expression})"),
        Operator::Map(call) => match call.batch_rows {
            Some(rows) => format!("{name} with batch_size={rows}"),
            None => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

fn sign(step: Operator) -> Result<String, String> {
    let task = StageTask {
        name: String::new(),
        source: Registered {
            kind: String::new(),
            settings: Bytes::new(),
        },
        steps: vec![step],
        sink: None,
        block_bytes: 0,
        growing_inputs: 0,
        row_limit: None,
        memory_bytes: 0,
        even_rows: 0,
        prefetch_batches: 0,
        partitioner: None,
        group: None,
    };
    let spec = wire::encode_task(&task).map_err(|error| error.to_string())?;
    let mut digest = Digest::new();
    digest.add(&prost::Message::encode_to_vec(&spec));
    Ok(digest.text())
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
        Operator::Expect(expectation) => by_row(&expectation.expression),
        Operator::Sample { .. } | Operator::Relational(_) => true,
        Operator::Select(_)
        | Operator::Drop(_)
        | Operator::Rename(_)
        | Operator::Conform(_)
        | Operator::Declare(_)
        | Operator::BlockRows(_)
        | Operator::Unnest(_)
        | Operator::Map(_) => false,
    }
}
