//! Stages that run together in one worker, as one plan of the engine.
//!
//! Rows that meet in one place need no exchange through the object store, and no worker for each stage: what is small enough
//! for the memory of one node runs there as a whole, with threads instead of workers (ADR 126). Which order its rows
//! come in depends on those threads, so only stages are taken whose rows come in any order, or sorted.
//!
//! ```text
//!  Read ─┐ exchange             ┌──────────────────────────┐
//!        ├────────► Join ─► ... │ Read+Read+Join+Aggregate │ ─► ...
//!  Read ─┘                      └──────────────────────────┘
//! ```

use std::collections::BTreeSet;

use super::edge::{Edge, EdgeKind};
use super::fragment::Fragment;
use super::job::{JobPlan, PlannedStep, SourcePlan, StagePlan};
use super::operator::Operator;
use super::partition::PartitionBy;
use super::size::bytes_of_source;
use crate::plan::{Compute, ComputeKind, Expression, asks_for_row_numbers};
use crate::sources;

/// Of what is read, most only passes by: so many times its memory may come in.
const READ_PER_HELD: u64 = 2;

/// Stages that one worker runs as one plan.
#[derive(Debug, Clone)]
pub struct StageGroup {
    /// Each after those that its rows come from; the rows of the last one leave.
    pub(crate) stages: Vec<StagePlan>,
    pub(crate) edges: Vec<Edge>,
    /// Threads that work at once.
    pub(crate) threads: usize,
}

impl StageGroup {
    /// The names of its stages.
    pub(super) fn name(&self) -> String {
        let names: Vec<String> = self.stages.iter().map(StagePlan::name).collect();
        names.join(" + ")
    }
}

/// What one worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupRoom {
    pub(crate) memory_bytes: u64,
    pub(crate) threads: usize,
}

impl JobPlan {
    /// The job with as many of its stages as can be, and have room, as one.
    pub(crate) fn grouped(self, room: GroupRoom) -> Self {
        let found = (0..self.stages.len()).rev().find_map(|last| {
            let job = self.with_functions_apart(last)?;
            let members = job.group_before(last)?;
            let has_room = job.bytes_read_by(&members)? <= room.memory_bytes * READ_PER_HELD;
            has_room.then(|| job.with_group(last, &members, room.threads))
        });
        found.unwrap_or(self)
    }

    /// The job with the functions of the stage in a stage behind it; `None`: nothing comes before them.
    fn with_functions_apart(&self, index: usize) -> Option<Self> {
        let is_map = |step: &PlannedStep| matches!(step.operator, Operator::Map(_));
        let mut job = self.clone();
        let Some(first) = job.stages[index].steps.iter().position(is_map) else {
            return Some(job);
        };
        if first == 0 {
            return None;
        }
        let behind = &mut job.stages[index];
        let mut head = StagePlan::new(behind.source.take());
        head.steps = behind.steps.drain(..first).collect();
        head.is_hinted = std::mem::take(&mut behind.is_hinted);
        head.spread = behind.spread.take();
        job.stages.insert(index, head);
        for edge in &mut job.edges {
            edge.from += usize::from(edge.from >= index);
            edge.to += usize::from(edge.to > index);
        }
        job.edges.push(Edge::forward(index, index + 1));
        Some(job)
    }

    /// How many of its stages a worker could run together, and the bytes that are read for them at most.
    pub(crate) fn groupable(&self) -> Option<(usize, u64)> {
        (0..self.stages.len()).rev().find_map(|last| {
            let job = self.with_functions_apart(last)?;
            let members = job.group_before(last)?;
            Some((members.len(), job.bytes_read_by(&members)?))
        })
    }

    /// The stage and all before it, if they can run together.
    fn group_before(&self, last: usize) -> Option<BTreeSet<usize>> {
        let members = self.before(last);
        let inside = |edge: &&Edge| members.contains(&edge.from) && members.contains(&edge.to);
        let inner: Vec<&Edge> = self.edges.iter().filter(inside).collect();
        let leaves = |edge: &Edge| members.contains(&edge.from) && !members.contains(&edge.to);
        let mut outer = self.edges.iter().filter(|edge| leaves(edge));
        let is_closed = outer.all(|edge| edge.from == last && edge.kind == EdgeKind::Forward);
        let gives_once =
            |&stage: &usize| inner.iter().filter(|edge| edge.from == stage).count() < 2;
        let meets = inner.iter().any(|edge| edge.kind != EdgeKind::Forward);
        let can = is_closed
            && meets
            && members.iter().all(gives_once)
            && members.iter().all(|&stage| self.may_be_member(stage))
            && self.is_unordered(last);
        can.then_some(members)
    }

    pub(super) fn before(&self, last: usize) -> BTreeSet<usize> {
        let (mut all, mut open) = (BTreeSet::new(), vec![last]);
        while let Some(stage) = open.pop() {
            if all.insert(stage) {
                open.extend(self.edges_to(stage).map(|edge| edge.from));
            }
        }
        all
    }

    /// Whether rows of the stage come in any order, or in one that it makes itself.
    fn is_unordered(&self, stage: usize) -> bool {
        let mut edges = self.edges_to(stage);
        let (Some(first), second) = (edges.next(), edges.next()) else {
            return false;
        };
        match (first.kind, second) {
            (EdgeKind::Forward, None) => {
                self.stages[first.from].row_limit.is_none() && self.is_unordered(first.from)
            }
            (EdgeKind::Forward, Some(second)) => second.kind == EdgeKind::Broadcast,
            _ => true,
        }
    }

    fn may_be_member(&self, index: usize) -> bool {
        let stage = &self.stages[index];
        let is_plain = stage.compute.kind == ComputeKind::Tasks
            && !stage.has_map
            && !stage.is_apart
            && !stage.keeps_partitions
            && !stage.is_hinted
            && stage.batch_rows.is_none()
            && stage.group.is_none();
        let goes_by_hash = stage
            .partitioner
            .as_ref()
            .is_none_or(|by| matches!(&by.by, PartitionBy::Hash { keys } if !keys.is_empty()));
        is_plain
            && goes_by_hash
            && stage.source.as_ref().is_none_or(may_be_read_by_threads)
            && (stage.row_limit.is_none() || self.is_unordered(index))
            && stage.steps.iter().all(|step| match &step.operator {
                Operator::Relational(work) => self.may_run_together(index, work),
                other => is_without_order(other),
            })
    }

    fn may_run_together(&self, stage: usize, work: &Fragment) -> bool {
        match work {
            Fragment::Aggregate(_) | Fragment::First(_) | Fragment::Window(_) => true,
            // No thread knows whether others have rows.
            Fragment::Fold(fold) => fold.totals() == 0,
            // One that comes after an exchange puts groups in order, and not all rows.
            Fragment::Sort(_) => self
                .edges_to(stage)
                .all(|edge| edge.kind == EdgeKind::GATHER),
            Fragment::Skip(_) => self.edges_to(stage).all(|edge| self.is_sorted(edge.from)),
            Fragment::Join(join) => {
                // What is held without keys, or by all of the right, cannot be spilled.
                let mut edges = self.edges_to(stage);
                let mut held = edges.clone().enumerate().filter(|(side, edge)| {
                    let is_broadcast = edge.kind == EdgeKind::Broadcast;
                    (join.is_not_in && *side == 0) || (join.keys.is_empty() && is_broadcast)
                });
                let gathers_both = edges.all(|edge| edge.kind == EdgeKind::GATHER);
                !gathers_both && held.all(|(_, edge)| !self.multiplies(edge.from))
            }
            Fragment::Sample(_) | Fragment::Bounds(_) | Fragment::Shuffle(_) | Fragment::Zip => {
                false
            }
        }
    }

    /// Whether the stage sorts all rows, and nothing after that changes their order.
    fn is_sorted(&self, stage: usize) -> bool {
        let is_sort = |operator: &Operator| {
            matches!(
                operator,
                Operator::Relational(Fragment::Sort(_) | Fragment::Skip(_))
            )
        };
        self.stages[stage]
            .steps
            .iter()
            .any(|step| is_sort(&step.operator))
    }

    /// Whether there may be more rows than were read: there is a join before it, and no total after that.
    fn multiplies(&self, stage: usize) -> bool {
        let steps = &self.stages[stage].steps;
        let begins_with = |is_it: fn(&Fragment) -> bool| {
            let first = steps.first().map(|step| &step.operator);
            matches!(first, Some(Operator::Relational(work)) if is_it(work))
        };
        if begins_with(Fragment::is_total) {
            return false;
        }
        begins_with(|work| matches!(work, Fragment::Join(_)))
            || self.edges_to(stage).any(|edge| self.multiplies(edge.from))
    }

    fn bytes_read_by(&self, members: &BTreeSet<usize>) -> Option<u64> {
        let sources = members
            .iter()
            .filter_map(|&stage| self.stages[stage].source.as_ref());
        sources.map(bytes_of_source).sum()
    }

    /// Puts one stage in the place of the last of `members`, and takes the others out. Files are written by a stage of their own,
    /// in as many workers as there are.
    fn with_group(self, last: usize, members: &BTreeSet<usize>, threads: usize) -> Self {
        let Self {
            stages,
            edges,
            outputs,
        } = self;
        let place = |index: usize, is_counted: &dyn Fn(&usize) -> bool| {
            (0..index).filter(is_counted).count()
        };
        let in_group = |index: usize| place(index, &|one| members.contains(one));
        let stays = |index: &usize| *index == last || !members.contains(index);
        let (mut inner, mut outer): (Vec<Edge>, Vec<Edge>) = edges
            .into_iter()
            .partition(|edge| members.contains(&edge.to));
        for edge in &mut inner {
            (edge.from, edge.to) = (in_group(edge.from), in_group(edge.to));
        }
        for edge in &mut outer {
            (edge.from, edge.to) = (place(edge.from, &stays), place(edge.to, &stays));
        }
        let (mut grouped, mut kept) = (Vec::with_capacity(members.len()), Vec::new());
        let mut writing = None;
        for (index, mut stage) in stages.into_iter().enumerate() {
            if !members.contains(&index) {
                kept.push(stage);
                continue;
            }
            if index == last {
                let mut whole = StagePlan::new(None);
                whole.is_ordered = true;
                whole.compute = Compute {
                    max_workers: Some(1),
                    ..Compute::tasks()
                };
                let end = stage.end.take();
                if end.as_ref().is_some_and(|end| end.sink.writes_files()) {
                    writing = Some((kept.len(), end));
                } else {
                    whole.end = end;
                }
                grouped.push(stage);
                let stages = std::mem::take(&mut grouped);
                whole.group = Some(StageGroup {
                    stages,
                    edges: std::mem::take(&mut inner),
                    threads,
                });
                kept.push(whole);
            } else {
                grouped.push(stage);
            }
        }
        if let Some((from, end)) = writing {
            let mut stage = StagePlan::new(None);
            (stage.end, stage.is_apart) = (end, true);
            outer.push(Edge::forward(from, kept.len()));
            kept.push(stage);
        }
        Self {
            stages: kept,
            edges: outer,
            outputs,
        }
    }
}

/// Whether its rows can be read in any order, without Python, and with columns that are known before.
fn may_be_read_by_threads(plan: &SourcePlan) -> bool {
    // Where there are no rows, nobody knows the columns either.
    let Some(table) = plan.table.as_deref() else {
        return false;
    };
    let rows = sources::of_table(table).and_then(|source| source.rows());
    let has_all = plan
        .row_limit
        .is_none_or(|limit| rows.is_some_and(|rows| rows <= limit));
    has_all && sources::is_native(table)
}

/// Whether what it makes of a row does not depend on the rows before.
fn is_without_order(operator: &Operator) -> bool {
    let is_plain = |expression: &Expression| match expression {
        Expression::Planned(expr) => !asks_for_row_numbers(expr),
        Expression::Text(_) => false,
    };
    match operator {
        Operator::Filter(expression) => is_plain(expression),
        Operator::Expect(expectation) => is_plain(&expectation.expression),
        Operator::Project(columns) | Operator::Compute(columns) => {
            columns.iter().all(|column| is_plain(&column.expression))
        }
        Operator::Select(_)
        | Operator::Drop(_)
        | Operator::Rename(_)
        | Operator::Conform(_)
        | Operator::Declare(_) => true,
        Operator::Sample { .. }
        | Operator::BlockRows(_)
        | Operator::Unnest(_)
        | Operator::Map(_)
        | Operator::Relational(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::plan_job;
    use crate::plan::{Dataset, RepartitionBy};
    use crate::sinks::Sink;
    use crate::testing::{sorted_downwards, test_map};

    const ROOM: GroupRoom = GroupRoom {
        memory_bytes: 1 << 20,
        threads: 2,
    };

    fn names(dataset: &Dataset, room: GroupRoom) -> Vec<String> {
        let job = plan_job(dataset, &Sink::Consumer).expect("can be cut");
        let job = job.grouped(room);
        job.check().expect("can be carried out");
        job.stages.iter().map(StagePlan::name).collect()
    }

    fn numbers() -> Dataset {
        Dataset::range(100).expect("plans")
    }

    #[test]
    fn stages_whose_rows_meet_are_one() {
        assert_eq!(names(&sorted_downwards(&numbers()), ROOM), ["Read + Sort"]);
        let mapped = sorted_downwards(&numbers())
            .map(test_map("same"))
            .expect("plans");
        assert_eq!(names(&mapped, ROOM), ["Read + Sort", "same"]);
        let again = sorted_downwards(&mapped);
        assert_eq!(names(&again, ROOM), ["Read + Sort", "same", "Sort"]);
    }

    #[test]
    fn stages_stay_apart_where_they_must() {
        let numbers = numbers();
        let mapped = numbers.map(test_map("same")).expect("plans");
        // A function may be in it, or the order of rows, or chance; or they are too many.
        for (dataset, stages) in [
            (sorted_downwards(&mapped), 2),
            (numbers.limit(5).expect("plans"), 1),
            (
                sorted_downwards(&numbers.sample(0.5, Some(1)).expect("plans")),
                2,
            ),
            (numbers.shuffle(Some(1)).expect("plans"), 2),
            (
                numbers.repartition(3, RepartitionBy::Place).expect("plans"),
                2,
            ),
            (numbers.cluster(vec!["id".to_owned()]).expect("plans"), 2),
        ] {
            let names = names(&dataset, ROOM);
            assert_eq!(names.len(), stages, "{names:?}");
            assert!(names.iter().all(|name| !name.contains(" + ")), "{names:?}");
        }
        let nothing = GroupRoom {
            memory_bytes: 0,
            ..ROOM
        };
        assert_eq!(
            names(&sorted_downwards(&numbers), nothing),
            ["Read", "Sort"]
        );
    }
}
