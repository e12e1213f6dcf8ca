//! Cutting where rows of several datasets are put side by side.

use datafusion_expr::LogicalPlan;

use super::cut::{End, StageCutter};
use super::edge::EdgeKind;
use super::fragment::Fragment;
use super::partition::{PartitionBy, Partitioner};
use super::size::bytes_of;
use crate::error::PlanError;
use crate::executor::core::skew::Spread;
use crate::operators::fragment::rows_differ;
use crate::plan::{Hint, Joining};

/// A side that is certainly not larger than this goes whole to every part of the other.
const SMALL_BYTES: u64 = 4 << 20;

/// A partition with more than so many times the rows of others, and of so many bytes, is joined by several workers.
const LARGE_TIMES_MEAN: u64 = 10;
const LARGE_BYTES: u64 = 256 << 20;
/// The same, where somebody has said that keys are skewed.
const SALTED_TIMES_MEAN: u64 = 2;
const SALTED_BYTES: u64 = 4 << 20;

/// How the rows of both sides meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    /// Every part of the left gets all of the right.
    AllOfRight,
    /// Every part of the right gets all of the left.
    AllOfLeft,
    /// Both sides are cut by their keys.
    ByKey,
    /// All rows of both sides come to one worker.
    InOnePlace,
}

impl StageCutter {
    /// Two sides meet; `prepare` adds what each of them needs before, the left with 0 and the right with 1.
    pub(super) fn join(
        &mut self,
        joining: &Joining,
        sources: [&LogicalPlan; 2],
        mut prepare: impl FnMut(&mut Self, usize),
    ) -> Result<(), PlanError> {
        let meeting = meeting(joining, sources);
        let (left_keys, right_keys) = joining.join.keys.iter().cloned().unzip();
        let partitions = joining.partitions;
        let mut edges = Vec::with_capacity(sources.len());
        for (source, keys) in sources.into_iter().zip([left_keys, right_keys]) {
            self.visit(source)?;
            prepare(self, edges.len());
            let kind = match (meeting, edges.len()) {
                (Meeting::AllOfRight, 0) | (Meeting::AllOfLeft, 1) => EdgeKind::Forward,
                (Meeting::AllOfRight | Meeting::AllOfLeft, _) => EdgeKind::Broadcast,
                (Meeting::InOnePlace, _) => EdgeKind::GATHER,
                (Meeting::ByKey, _) => {
                    let by = PartitionBy::Hash { keys };
                    self.stage().partitioner = Some(Partitioner { partitions, by });
                    EdgeKind::Exchange { partitions }
                }
            };
            edges.push((self.giver(), kind));
        }
        self.known_rows = None;
        self.end = End::Edges(edges);
        self.fragment(Fragment::Join(joining.join.clone()));
        let stage = self.stage();
        stage.is_hinted = joining.hint.is_some();
        stage.spread = spread(joining).filter(|_| meeting == Meeting::ByKey);
        Ok(())
    }

    pub(super) fn zip(&mut self, sources: &[LogicalPlan]) -> Result<(), PlanError> {
        let mut edges = Vec::with_capacity(sources.len());
        let mut counts = Vec::with_capacity(sources.len());
        for source in sources {
            self.visit(source)?;
            let from = self.giver();
            // Which rows go together depends on their order.
            self.keep_order_up_to(from);
            edges.push((from, EdgeKind::GATHER));
            counts.push(self.known_rows.take());
        }
        let known: Vec<u64> = counts.iter().copied().flatten().collect();
        if known.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(PlanError::InvalidArgument(rows_differ(&known)));
        }
        self.known_rows = known
            .first()
            .copied()
            .filter(|_| known.len() == counts.len());
        self.end = End::Edges(edges);
        self.fragment(Fragment::Zip);
        self.is_ordered();
        Ok(())
    }

    /// The stage and all before it, up to the next exchange, hand on their rows in order, whatever the options of the run say.
    pub(super) fn keep_order_up_to(&mut self, stage: usize) {
        self.stages[stage].is_ordered = true;
        let before: Vec<usize> = self
            .edges
            .iter()
            .filter(|edge| edge.to == stage && edge.kind == EdgeKind::Forward)
            .map(|edge| edge.from)
            .collect();
        for stage in before {
            self.keep_order_up_to(stage);
        }
    }
}

/// What may be done with a partition that is much larger than others: a part of one side can be joined with all of the other, where
/// the kind of the join lets a part decide alone.
fn spread(joining: &Joining) -> Option<Spread> {
    let (left_goes, right_goes) = joining.join.kind.goes_by_parts();
    let sides = [(0, left_goes), (1, right_goes)].into_iter();
    let feeds: Vec<usize> = sides
        .filter_map(|(side, goes)| goes.then_some(side))
        .collect();
    let (times_mean, least_bytes) = match joining.hint {
        Some(Hint::Salt) => (SALTED_TIMES_MEAN, SALTED_BYTES),
        _ => (LARGE_TIMES_MEAN, LARGE_BYTES),
    };
    (!feeds.is_empty()).then_some(Spread {
        feeds,
        times_mean,
        least_bytes,
    })
}

fn meeting(joining: &Joining, sources: [&LogicalPlan; 2]) -> Meeting {
    let join = &joining.join;
    let (left_goes, right_goes) = join.kind.goes_by_parts();
    let is_small = |side: usize| bytes_of(sources[side]).is_some_and(|bytes| bytes <= SMALL_BYTES);
    if left_goes
        && (joining.hint == Some(Hint::Broadcast)
            || join.is_not_in
            || join.keys.is_empty()
            || is_small(1))
    {
        Meeting::AllOfRight
    } else if right_goes && (join.keys.is_empty() || is_small(0)) {
        Meeting::AllOfLeft
    } else if join.keys.is_empty() {
        Meeting::InOnePlace
    } else {
        Meeting::ByKey
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{JobPlan, Join, JoinKind, JoinNaming, StagePlan, plan_job};
    use crate::plan::Dataset;
    use crate::sinks::Sink;
    use crate::testing::test_map;

    fn joined(left: &Dataset, right: &Dataset, kind: JoinKind, is_broadcast: bool) -> JobPlan {
        let joining = Joining {
            join: Join {
                kind,
                keys: vec![("id".to_owned(), "id".to_owned())],
                has_equal_nulls: false,
                condition: None,
                is_not_in: false,
                naming: JoinNaming::KeysOnce {
                    left_suffix: None,
                    right_suffix: None,
                },
            },
            partitions: 5,
            hint: is_broadcast.then_some(Hint::Broadcast),
        };
        let dataset = left.join(right, joining).expect("plans");
        let job = plan_job(&dataset, &Sink::Consumer).expect("can be cut");
        job.check().expect("can be carried out");
        job
    }

    fn kinds(job: &JobPlan) -> Vec<EdgeKind> {
        job.edges.iter().map(|edge| edge.kind).collect()
    }

    /// Nobody knows how many rows come out of a function.
    fn behind_function(dataset: &Dataset) -> Dataset {
        dataset.map(test_map("same")).expect("plans")
    }

    #[test]
    fn sides_of_unknown_size_are_cut_by_their_keys() {
        let numbers = Dataset::range(10).expect("plans");
        let unknown = behind_function(&numbers);
        let other = numbers.map(test_map("other")).expect("plans");
        let job = joined(&unknown, &other, JoinKind::Inner, false);
        assert_eq!(kinds(&job), [EdgeKind::Exchange { partitions: 5 }; 2]);
        for side in 0..2 {
            let by = job.stages[side]
                .partitioner
                .as_ref()
                .map(|by| by.by.clone());
            let keys = vec!["id".to_owned()];
            assert_eq!(by, Some(PartitionBy::Hash { keys }));
        }
        let names: Vec<String> = job.stages.iter().map(StagePlan::name).collect();
        assert_eq!(names, ["Read->same", "Read->other", "Join"]);
    }

    #[test]
    fn small_side_goes_to_all_parts_of_the_other_where_these_can_tell_alone() {
        let small = Dataset::range(10).expect("plans");
        let unknown = behind_function(&small);
        let (forward, broadcast) = (EdgeKind::Forward, EdgeKind::Broadcast);
        let by_key = EdgeKind::Exchange { partitions: 5 };
        for (kind, right_is_small, left_is_small) in [
            (JoinKind::Inner, [forward, broadcast], [broadcast, forward]),
            (JoinKind::LeftOuter, [forward, broadcast], [by_key, by_key]),
            (JoinKind::LeftAnti, [forward, broadcast], [by_key, by_key]),
            (JoinKind::RightSemi, [by_key, by_key], [broadcast, forward]),
            (JoinKind::RightOuter, [by_key, by_key], [broadcast, forward]),
            (JoinKind::FullOuter, [by_key, by_key], [by_key, by_key]),
        ] {
            assert_eq!(
                kinds(&joined(&unknown, &small, kind, false)),
                right_is_small,
                "{kind:?}"
            );
            assert_eq!(
                kinds(&joined(&small, &unknown, kind, false)),
                left_is_small,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn hint_sends_the_right_whatever_its_size() {
        let unknown = behind_function(&Dataset::range(10).expect("plans"));
        let job = joined(&unknown, &unknown, JoinKind::LeftSemi, true);
        assert_eq!(kinds(&job), [EdgeKind::Forward, EdgeKind::Broadcast]);
    }

    #[test]
    fn rows_that_go_together_by_their_place_keep_their_order() {
        let numbers = Dataset::range(10).expect("plans");
        let zipped = numbers.zip(&[&behind_function(&numbers)]).expect("plans");
        let job = plan_job(&zipped, &Sink::Consumer).expect("can be cut");
        job.check().expect("can be carried out");
        assert_eq!(kinds(&job), [EdgeKind::GATHER; 2]);
        assert!(job.stages.iter().all(|stage| stage.is_ordered));
        assert_eq!(job.outputs[0].known_rows, None);
        let zipped = numbers.zip(&[&numbers]).expect("plans");
        let job = plan_job(&zipped, &Sink::Consumer).expect("can be cut");
        assert_eq!(job.outputs[0].known_rows, Some(10));
        let other = Dataset::range(9).expect("plans");
        let error = plan_job(&numbers.zip(&[&other]).expect("plans"), &Sink::Consumer);
        let text = error.expect_err("they differ").to_string();
        assert!(text.contains("the datasets have 10 and 9 rows"), "{text}");
    }
}
