//! A job in which rows of different inputs meet, cut into legs that are finished one after the other.
//!
//! ```text
//!  Read->Model ─┐ exchange                  leg 0: Read->Model->Write(leg 0)
//!               ├────────► Sort->Write      last:  Read ─► exchange ─► Sort->Write
//!  ...
//! ```
//! What a leg makes are files, which are the source of those behind it ([`LegTable`] until they are there). A leg of functions is a job
//! that goes on by the inputs of its source. One in which rows meet is done as a whole or not at all; so is the last one, if they
//! meet in it. What a limit lets through is kept in the same way: it is something else in every run.

mod places;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion_expr::TableSource;

use super::edge::{Edge, EdgeKind};
use super::job::{JobPlan, PlannedStep, SourcePlan, StagePlan};
use super::operator::{MapCall, Operator};
use super::output::PlannedOutput;
use crate::sources;

/// What is kept of what functions make, where rows of different inputs meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptFunctions {
    /// That of classes, models, functions on GPUs and those whose calls overlap: most of their work costs more than a file of it.
    #[default]
    Expensive,
    /// That of all functions; and where the order of rows is kept, stages wait for each other.
    All,
}

/// A job whose output is the source of others.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    /// Its last stage has no end yet, if it is not the last leg.
    pub(crate) job: JobPlan,
    /// The legs that it reads, by their numbers.
    pub(crate) reads: BTreeSet<usize>,
}

/// A job as a chain of jobs.
#[derive(Debug, Clone)]
pub(crate) struct Legs {
    /// Each after those that it reads.
    pub(crate) before: Vec<Leg>,
    /// The one that writes the output.
    pub(crate) last: Leg,
}

/// Stands for the rows of a leg until its files are there.
#[derive(Debug)]
pub(crate) struct LegTable {
    pub(crate) leg: usize,
    /// Each of its files is an input as a whole: all rows of a partition, or of groups.
    pub(crate) is_by_file: bool,
}

impl TableSource for LegTable {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }
}

impl LegTable {
    /// The one that a stage reads, if it reads one.
    pub(crate) fn of(stage: &StagePlan) -> Option<&Self> {
        let table = stage.source.as_ref()?.table.as_deref()?;
        table.downcast_ref::<Self>()
    }
}

/// Behind so many steps of a stage.
#[derive(Debug, Clone, Copy)]
struct Cut {
    stage: usize,
    steps: usize,
}

impl Legs {
    /// How the job is cut, for comparing.
    pub(super) fn layout(&self) -> String {
        let legs = self.before.iter().chain([&self.last]);
        let names = legs.map(|leg| {
            let names: Vec<String> = leg.job.stages.iter().map(StagePlan::name).collect();
            names.join(" + ")
        });
        names.collect::<Vec<_>>().join("; ")
    }
}

impl Leg {
    fn of(job: JobPlan) -> Self {
        let reads = job.stages.iter().filter_map(LegTable::of);
        let reads = reads.map(|table| table.leg).collect();
        Self { job, reads }
    }
}

impl JobPlan {
    /// The job in legs, if it is one that is worth it.
    pub(crate) fn legs(&self, kept: KeptFunctions, keeps_order: bool) -> Option<Legs> {
        // Those go on together as they are.
        if self.outputs.len() > 1 && self.fault(keeps_order).is_none() {
            return None;
        }
        let mut last = self.clone();
        let mut before = Vec::new();
        while let Some(cut) = last
            .cut_behind_limit(kept)
            .or_else(|| last.cut_before_meeting(kept, keeps_order))
            .or_else(|| last.cut_behind_meeting(kept))
            .or_else(|| last.cut_before_outputs(kept, keeps_order))
        {
            let (leg, rest) = last.cut_at(cut, before.len());
            before.push(Leg::of(leg));
            last = rest;
            if last.outputs.len() > 1 {
                last.give_legs_to_takers();
            }
        }
        let is_cut = !before.is_empty();
        is_cut.then(|| Legs {
            before,
            last: Leg::of(last),
        })
    }

    /// Whether something is counted over all of its rows: those that functions fail for, or that violate expectations.
    pub(crate) fn counts_rows(&self) -> bool {
        self.stages.iter().any(StagePlan::counts_rows)
    }

    /// The part up to there, without an end, and the rest, which reads the leg with this number.
    fn cut_at(&self, cut: Cut, number: usize) -> (Self, Self) {
        let members = self.before(cut.stage);
        let place = |stage: usize, is_in: &dyn Fn(&usize) -> bool| (0..stage).filter(is_in).count();
        let in_leg = |stage: usize| place(stage, &|one| members.contains(one));
        let stays = |one: &usize| *one == cut.stage || !members.contains(one);
        let (mut leg, mut rest) = (Vec::new(), Vec::new());
        for (index, stage) in self.stages.iter().enumerate() {
            if index == cut.stage {
                let is_by_file = self.is_by_file(cut);
                let source = source_of(number, is_by_file);
                let (head, tail) = stage.clone().cut_at(cut.steps, source);
                leg.push(head);
                rest.push(tail);
            } else if members.contains(&index) {
                leg.push(stage.clone());
            } else {
                rest.push(stage.clone());
            }
        }
        let (inner, outer): (Vec<Edge>, Vec<Edge>) = self
            .edges
            .iter()
            .partition(|edge| members.contains(&edge.to));
        let inner = inner.into_iter().map(|edge| Edge {
            from: in_leg(edge.from),
            to: in_leg(edge.to),
            ..edge
        });
        let outer = outer.into_iter().map(|edge| Edge {
            from: place(edge.from, &stays),
            to: place(edge.to, &stays),
            ..edge
        });
        let of_leg = PlannedOutput {
            schema: None,
            known_rows: None,
        };
        let leg = Self {
            stages: leg,
            edges: inner.collect(),
            outputs: vec![of_leg],
        };
        let rest = Self {
            stages: rest,
            edges: outer.collect(),
            outputs: self.outputs.clone(),
        };
        (leg, rest)
    }

    /// Whether what comes behind the cut must get the rows of a partition as one input.
    fn is_by_file(&self, cut: Cut) -> bool {
        let stage = &self.stages[cut.stage];
        let rest = stage.steps[cut.steps..].iter().filter_map(call_of);
        let has_groups = rest
            .into_iter()
            .any(|call| !call.batching.group_keys.is_empty());
        let meets = self
            .edges_to(cut.stage)
            .any(|edge| edge.kind != EdgeKind::Forward);
        meets && (has_groups || stage.keeps_partitions)
    }
}

impl StagePlan {
    /// Whether rows are judged in it.
    pub(crate) fn expects(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step.operator, Operator::Expect(_)))
    }

    /// Whether a function of it may leave rows out that it fails for.
    pub(crate) fn loses_rows(&self) -> bool {
        self.steps.iter().any(|step| match &step.operator {
            Operator::Map(call) => call.failures.loses_rows(),
            _ => false,
        })
    }

    /// Whether rows are judged in it, or may be left out.
    pub(crate) fn counts_rows(&self) -> bool {
        self.expects() || self.loses_rows()
    }

    /// Whether its source gives just the rows that the plan says, and the same ones in every run.
    pub(super) fn reads_what_it_says(&self) -> bool {
        self.source.as_ref().is_none_or(|plan| {
            let source = plan.table.as_deref().and_then(sources::of_table);
            let knows_rows = source.is_some_and(|source| source.rows().is_some());
            plan.row_limit.is_none() || (plan.filters.is_empty() && knows_rows)
        })
    }

    /// Its first steps, and a stage of the others, which reads what these give.
    fn cut_at(mut self, steps: usize, source: SourcePlan) -> (Self, Self) {
        let rest = self.steps.split_off(steps);
        let mut tail = Self::new(Some(source));
        tail.end = self.end.take();
        tail.partitioner = self.partitioner.take();
        tail.row_limit = self.row_limit.take();
        tail.is_ordered = self.is_ordered;
        if steps == 0 && !self.has_map {
            // All that it does is done there, and what it gets may be anything.
            tail.compute = self.compute.clone();
            tail.batch_rows = self.batch_rows;
            tail.window_rows = self.window_rows;
            tail.is_apart = self.is_apart;
        }
        if let Some(call) = rest.iter().find_map(call_of) {
            // Whole groups are put together of whatever is read at once.
            let rows = call
                .batch_rows
                .filter(|_| call.batching.group_keys.is_empty());
            let rows = rows.and_then(|rows| usize::try_from(rows).ok());
            tail.batch_rows = self.compute.most_batch_rows(rows);
            tail.compute = self.compute.clone();
            tail.has_map = true;
            tail.is_native = self.is_native;
            tail.overlaps = self.overlaps;
            tail.window_rows = self.window_rows;
        }
        tail.steps = rest;
        if self.has_map && !self.steps.iter().any(|step| call_of(step).is_some()) {
            let plain = Self::new(None);
            self.compute = plain.compute;
            self.has_map = false;
            self.is_native = plain.is_native;
            self.overlaps = false;
            self.batch_rows = None;
            self.window_rows = 0;
        }
        (self, tail)
    }
}

fn source_of(leg: usize, is_by_file: bool) -> SourcePlan {
    SourcePlan {
        table: Some(Arc::new(LegTable { leg, is_by_file })),
        columns: Vec::new(),
        filters: Vec::new(),
        row_limit: None,
        parts: None,
        is_by_file,
    }
}

fn call_of(step: &PlannedStep) -> Option<&MapCall> {
    match &step.operator {
        Operator::Map(call) => Some(call),
        _ => None,
    }
}
