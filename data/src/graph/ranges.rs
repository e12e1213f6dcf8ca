//! Sorting in several workers: each gets the rows between two bounds, and what they give comes one after the other.
//!
//! ```text
//!       ┌──────────────────────────────────────────► Range ─► exchange ─► Sort ─► ...
//!  ... ─┤                                              ▲ broadcast
//!       └─► Sort(sample) ─► gather ─► Sort(bounds) ────┘
//! ```
//! The bounds are keys of rows that were drawn from every block, chosen so that there are about as many bytes between any two of
//! them as one worker can sort without files (ADR 165). A sort that one worker has done sooner than that stays as it is, and so
//! does one on one node.

use super::edge::{Edge, EdgeKind};
use super::fragment::{AggregatePhase, Bounds, Fragment, Sort};
use super::job::{JobPlan, StagePlan};
use super::operator::Operator;
use super::partition::{PartitionBy, Partitioner, RangeKey};
use super::size::bytes_of_source;

/// Most ranges of a sort: each worker that cuts rows makes blocks for all of them.
const MOST_RANGES: u32 = 256;

/// What a sort may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SortRoom {
    /// Workers that can sort at once.
    pub(crate) workers: usize,
    /// More bytes than these are sorted by ranges, and so is what nobody knows the bytes of.
    pub(crate) alone_bytes: u64,
}

impl JobPlan {
    /// The job with its sorts of many rows done by ranges.
    pub(crate) fn sorted_by_ranges(mut self, room: SortRoom) -> Self {
        let mut stage = 0;
        while stage < self.stages.len() {
            if let Some((giver, keys)) = self.sort_worth_ranges(stage, room) {
                stage = self.spread_sort(stage, giver, &keys, room);
            }
            stage += 1;
        }
        self
    }

    /// Who gives the rows that the stage sorts, and by what, if it shall have only some of them.
    fn sort_worth_ranges(&self, index: usize, room: SortRoom) -> Option<(usize, Vec<RangeKey>)> {
        let stage = &self.stages[index];
        let mut edges = self.edges_to(index);
        let edge = edges.next().filter(|_| edges.next().is_none())?;
        let mut steps = stage.steps.iter().map(|step| &step.operator);
        let Some(Operator::Relational(Fragment::Sort(Sort { keys, limit: None }))) = steps.next()
        else {
            return None;
        };
        // What functions make of a few rows may be many.
        let bytes = self.bytes_read_before(edge.from);
        let is_small = bytes.is_some_and(|bytes| bytes <= room.alone_bytes);
        let is_worth_it = !is_small || self.has_map_before(edge.from);
        let can = edge.kind == EdgeKind::GATHER && steps.all(goes_by_parts);
        (can && is_worth_it).then(|| (edge.from, keys.clone()))
    }

    /// What the sources before the stage read at most, the stage's own included; `None`: nobody knows.
    fn bytes_read_before(&self, stage: usize) -> Option<u64> {
        let mut all = 0u64;
        for one in self.before(stage) {
            let stage = &self.stages[one];
            // What runs as a whole was small enough for that.
            let members = stage.group.iter().flat_map(|group| &group.stages);
            for source in members.chain([stage]).filter_map(|one| one.source.as_ref()) {
                all = all.saturating_add(bytes_of_source(source)?);
            }
        }
        Some(all)
    }

    fn has_map_before(&self, stage: usize) -> bool {
        let before = self.before(stage);
        before.iter().any(|&one| self.stages[one].has_map)
    }

    /// Puts three stages before the one that sorts; returns where that is now.
    fn spread_sort(
        &mut self,
        index: usize,
        giver: usize,
        keys: &[RangeKey],
        room: SortRoom,
    ) -> usize {
        let (sample, bounds, range, sort) = (index, index + 1, index + 2, index + 3);
        self.edges.retain(|edge| edge.to != index);
        for end in self
            .edges
            .iter_mut()
            .flat_map(|edge| [&mut edge.from, &mut edge.to])
        {
            *end += if *end >= index { 3 } else { 0 };
        }
        let mut own: Vec<RangeKey> = Vec::with_capacity(keys.len());
        for key in keys {
            // Whoever is named twice decides where it comes first.
            if own.iter().all(|before| before.column != key.column) {
                own.push(key.clone());
            }
        }
        let step = |fragment: Fragment| {
            let mut stage = StagePlan::new(None);
            stage.push(fragment.step(), Operator::Relational(fragment));
            stage
        };
        let wanted = Bounds {
            keys: own.clone(),
            least: u32::try_from(room.workers).map_or(MOST_RANGES, |all| all.min(MOST_RANGES)),
            most: MOST_RANGES,
        };
        let mut ranges = StagePlan::new(None);
        ranges.partitioner = Some(Partitioner {
            partitions: MOST_RANGES,
            by: PartitionBy::Range {
                keys: own.clone(),
                bounds_feed: 1,
            },
        });
        let stages = [
            step(Fragment::Sample(own)),
            step(Fragment::Bounds(wanted)),
            ranges,
        ];
        self.stages.splice(index..index, stages);
        let edge = |from, to, kind| Edge { from, to, kind };
        let partitions = MOST_RANGES;
        self.edges.extend([
            Edge::forward(giver, sample),
            edge(sample, bounds, EdgeKind::GATHER),
            Edge::forward(giver, range),
            edge(bounds, range, EdgeKind::Broadcast),
            edge(range, sort, EdgeKind::Exchange { partitions }),
        ]);
        sort
    }
}

/// Whether the step may see sorted rows in several parts.
fn goes_by_parts(step: &Operator) -> bool {
    let Operator::Relational(work) = step else {
        return true;
    };
    match work {
        Fragment::First(_) => true,
        Fragment::Aggregate(work) => work.phase == AggregatePhase::Partial,
        Fragment::Fold(work) => work.phase == AggregatePhase::Partial,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::plan_job;
    use crate::plan::Dataset;
    use crate::sinks::Sink;
    use crate::testing::{sorted_downwards, test_map};

    const ROOM: SortRoom = SortRoom {
        workers: 4,
        alone_bytes: 100,
    };

    fn job(dataset: &Dataset, room: SortRoom) -> JobPlan {
        let job = plan_job(dataset, &Sink::Consumer).expect("can be cut");
        let job = job.sorted_by_ranges(room);
        job.check().expect("can be carried out");
        job
    }

    fn names(job: &JobPlan) -> Vec<String> {
        job.stages.iter().map(StagePlan::name).collect()
    }

    #[test]
    fn sort_of_many_rows_gets_them_by_ranges() {
        let numbers = Dataset::range(1000).expect("plans");
        let mapped = sorted_downwards(&numbers)
            .map(test_map("same"))
            .expect("plans");
        let job = job(&mapped, ROOM);
        assert_eq!(
            names(&job),
            [
                "Read",
                "Sort(sample)",
                "Sort(bounds)",
                "Range",
                "Sort->same"
            ]
        );
        assert!(job.stages[4].is_ordered);
        let ends: Vec<(usize, usize)> = job.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        assert_eq!(ends, [(0, 1), (1, 2), (0, 3), (2, 3), (3, 4)]);
    }

    #[test]
    fn every_sort_of_a_job_is_spread_and_stages_behind_keep_their_edges() {
        let numbers = Dataset::range(1000).expect("plans");
        let twice = sorted_downwards(
            &sorted_downwards(&numbers)
                .map(test_map("same"))
                .expect("plans"),
        );
        let other = Dataset::range(1000).expect("plans");
        let job = job(&other.union(&[&twice]).expect("plans"), ROOM);
        let sorts = names(&job)
            .iter()
            .filter(|name| name.starts_with("Sort->") || *name == "Sort")
            .count();
        assert_eq!(sorts, 2, "{:?}", names(&job));
        let last = job.stages.len() - 1;
        let givers: Vec<usize> = job.edges_to(last).map(|edge| edge.from).collect();
        assert_eq!(givers, [0, last - 1]);
    }

    #[test]
    fn one_worker_sorts_what_is_small_or_wanted_as_a_whole() {
        let numbers = Dataset::range(1000).expect("plans");
        let wide = SortRoom {
            alone_bytes: 8000,
            ..ROOM
        };
        assert_eq!(
            names(&job(&sorted_downwards(&numbers), wide)),
            ["Read", "Sort"]
        );
        let mapped = sorted_downwards(&numbers.map(test_map("same")).expect("plans"));
        assert_eq!(job(&mapped, wide).stages.len(), 5, "may have become many");
        let first = sorted_downwards(&numbers).limit(3).expect("plans");
        assert_eq!(
            names(&job(&first, ROOM)),
            ["Read->TopK(partial)", "TopK"],
            "first rows are few"
        );
        let groups = numbers.cluster(vec!["id".to_owned()]).expect("plans");
        assert_eq!(
            names(&job(&groups, ROOM)),
            ["Read", "Sort"],
            "is apart by its keys"
        );
    }

    #[test]
    fn skipped_rows_are_those_of_all_ranges() {
        let tables = [("t".to_owned(), Dataset::range(1000).expect("plans"))];
        let query = "SELECT id FROM t ORDER BY id OFFSET 7";
        let job = job(&Dataset::sql(query, &tables).expect("plans"), ROOM);
        let names = names(&job);
        assert_eq!(names.last().map(String::as_str), Some("Skip"), "{names:?}");
        let last = job.stages.len() - 1;
        assert!(job.edges_to(last).all(|edge| edge.kind == EdgeKind::GATHER));
    }
}
