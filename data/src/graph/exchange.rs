//! Cutting where rows of several workers come together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::cut::{End, StageCutter};
use super::edge::EdgeKind;
use super::fragment::{AggregatePhase, Fragment, Sort};
use super::job::PlannedStep;
use super::operator::{NamedExpression, Operator};
use super::partition::{PartitionBy, Partitioner, RangeKey};
use crate::error::PlanError;
use crate::plan::{
    BlockRows, Expression, Grouping, Relation, RelationNode, Repartition, RepartitionBy, columns_of,
};

/// Partitions of an exchange: small neighbours become one input, so that only large data is spread over all of them.
pub(super) const PARTITIONS: u32 = 16;

/// The most first rows of an order that are kept apart from others: they are held, and not spilled.
const MOST_FIRST_ROWS: u64 = 10_000;

impl StageCutter {
    pub(super) fn relation(&mut self, node: &RelationNode) -> Result<(), PlanError> {
        match &node.relation {
            Relation::Union => return self.union(node),
            Relation::Join(joining) => {
                let sides = [&node.sources()[0], &node.sources()[1]];
                return self.join(joining, sides, |_, _| {});
            }
            Relation::Zip => return self.zip(node.sources()),
            _ => {}
        }
        self.visit(&node.sources()[0])?;
        match &node.relation {
            Relation::Sort(keys) => {
                self.sort(keys.clone());
            }
            Relation::Shuffle(seed) => {
                let seed = seed.unwrap_or_else(|| self.chance());
                self.exchange(PartitionBy::Random { seed });
                self.fragment(Fragment::Shuffle(seed));
                self.is_ordered();
            }
            Relation::Sample { share, seed } => {
                self.known_rows = None;
                let (share, seed) = (*share, seed.unwrap_or_else(by_chance));
                self.step("Sample", Operator::Sample { share, seed });
            }
            Relation::Repartition(repartition) => self.repartition(repartition),
            Relation::BlockRows(blocks) => self.block_rows(*blocks),
            Relation::Cluster(keys) => self.cluster(keys),
            Relation::Group(grouping) => self.group(grouping),
            Relation::Union | Relation::Join(_) | Relation::Zip => {}
        }
        Ok(())
    }

    /// One worker sorts all.
    pub(super) fn sort(&mut self, keys: Vec<RangeKey>) {
        self.gather();
        self.fragment(Fragment::Sort(Sort { keys, limit: None }));
        self.is_ordered();
    }

    /// If the rows so far were just sorted, no more than the first of them are, by every worker that gives rows and by the one
    /// that gets them all.
    pub(super) fn sort_only_first(&mut self, rows: u64) {
        let End::Stage(index) = self.end else {
            return;
        };
        if self.forks.has(index) {
            return;
        }
        let Some(PlannedStep {
            operator: Operator::Relational(Fragment::Sort(sort)),
            name,
            ..
        }) = self.stages[index].steps.last_mut()
        else {
            return;
        };
        if rows > MOST_FIRST_ROWS || sort.limit.is_some_and(|limit| limit <= rows) {
            return;
        }
        sort.limit = Some(rows);
        let first = Fragment::First(sort.clone());
        *name = Fragment::Sort(sort.clone()).step().to_owned();
        let mut givers = self.edges.iter().filter(|edge| edge.to == index);
        let giver = givers.next().map(|edge| edge.from);
        if let Some(giver) = giver
            && self.stages[giver].row_limit.is_none()
            && !self.forks.has(giver)
            && self.stages[index].steps.len() == 1
        {
            self.stages[giver].push(first.step(), Operator::Relational(first));
        }
    }

    fn repartition(&mut self, repartition: &Repartition) {
        let parts = repartition.parts;
        match &repartition.by {
            RepartitionBy::Place if parts == 1 => self.gather(),
            RepartitionBy::Place => self.cut_evenly(parts),
            RepartitionBy::Chance => {
                let seed = self.chance();
                self.exchange_into(parts, PartitionBy::Random { seed });
                self.fragment(Fragment::Shuffle(seed));
            }
            RepartitionBy::Keys { keys, is_sorted } => {
                self.exchange_into(parts, PartitionBy::Hash { keys: keys.clone() });
                if *is_sorted {
                    self.fragment(Fragment::Sort(ascending(keys)));
                }
            }
        }
        let stage = self.stage();
        stage.keeps_partitions = true;
        stage.is_ordered = true;
    }

    /// Only a worker that gets all rows can cut them regardless of its inputs.
    fn block_rows(&mut self, blocks: BlockRows) {
        if blocks.is_exact {
            self.gather();
        }
        let stage = self.stage();
        stage.push("Repartition", Operator::BlockRows(blocks.rows));
        stage.is_ordered |= blocks.is_exact;
        // Inputs that end in the middle of a block are few.
        let rows = usize::try_from(blocks.rows.get()).unwrap_or(usize::MAX);
        stage.batch_rows = stage.batch_rows.or(Some(rows));
        stage.window_rows = stage.window_rows.max(rows);
    }

    fn cluster(&mut self, keys: &[String]) {
        if keys.is_empty() {
            self.gather();
            self.stage();
            return;
        }
        let by = PartitionBy::Hash {
            keys: keys.to_vec(),
        };
        self.exchange(by);
        self.fragment(Fragment::Sort(ascending(keys)));
    }

    /// Every worker groups what it has; then the states of one group come together.
    fn group(&mut self, grouping: &Grouping) {
        self.known_rows = grouping.keys.is_empty().then_some(1);
        let half = |phase| Fragment::Aggregate(grouping.half(phase));
        self.fragment(half(AggregatePhase::Partial));
        if grouping.keys.is_empty() {
            self.gather();
        } else {
            let keys = grouping.keys.clone();
            self.exchange(PartitionBy::Hash { keys });
        }
        self.fragment(half(AggregatePhase::Final));
        let column = |(name, expression): &(String, Expression)| NamedExpression {
            name: name.clone(),
            expression: expression.clone(),
        };
        let outputs = grouping.outputs.iter().map(column).collect();
        self.step("Project", Operator::Project(outputs));
    }

    fn union(&mut self, node: &RelationNode) -> Result<(), PlanError> {
        let own = node.columns();
        let mut edges = Vec::new();
        let mut known_rows = Some(0);
        for input in node.sources() {
            self.visit(input)?;
            if !node.is_open && columns_of(input) != own {
                self.step("Conform", Operator::Conform(Arc::clone(&own)));
            }
            let from = self.giver();
            edges.push((from, EdgeKind::Forward));
            let rows = self.known_rows.take();
            known_rows = known_rows.zip(rows).map(|(all, more)| all + more);
        }
        self.known_rows = known_rows;
        self.end = End::Edges(edges);
        Ok(())
    }

    fn chance(&self) -> u64 {
        self.chance.unwrap_or_else(by_chance)
    }

    /// What follows gets all rows as one input.
    pub(super) fn gather(&mut self) {
        let from = self.giver();
        self.end = End::Edges(vec![(from, EdgeKind::GATHER)]);
    }

    /// What follows gets the rows of one partition as an input.
    fn exchange(&mut self, by: PartitionBy) {
        self.exchange_into(PARTITIONS, by);
    }

    pub(super) fn exchange_into(&mut self, partitions: u32, by: PartitionBy) {
        self.stage().partitioner = Some(Partitioner { partitions, by });
        let from = self.giver();
        let kind = EdgeKind::Exchange { partitions };
        self.end = End::Edges(vec![(from, kind)]);
    }

    /// What follows gets so many runs of rows of about equal length, one as an input.
    fn cut_evenly(&mut self, partitions: u32) {
        let edges = match std::mem::take(&mut self.end) {
            // Rows of several datasets need not come together before that.
            End::Edges(edges) if edges.iter().all(|&(_, kind)| kind == EdgeKind::Forward) => edges,
            other => {
                self.end = other;
                vec![(self.giver(), EdgeKind::Forward)]
            }
        };
        let even = edges
            .into_iter()
            .map(|(from, _)| (from, EdgeKind::Even { partitions }));
        self.end = End::Edges(even.collect());
    }

    pub(super) fn fragment(&mut self, fragment: Fragment) {
        self.step(fragment.step(), Operator::Relational(fragment));
    }

    /// The rows of the stage that was begun last come in an order that is to be kept.
    pub(super) fn is_ordered(&mut self) {
        self.stage().is_ordered = true;
    }
}

/// A seed that nobody has asked for.
fn by_chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// All rows in the order of these columns.
fn ascending(keys: &[String]) -> Sort {
    let key = |column: &String| RangeKey {
        column: column.clone(),
        is_descending: false,
        has_nulls_first: false,
    };
    Sort {
        keys: keys.iter().map(key).collect(),
        limit: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{AggregateCall, AggregateFunction, JobPlan, StagePlan, plan_job};
    use crate::plan::Dataset;
    use crate::sinks::Sink;

    fn numbers() -> Dataset {
        Dataset::range(100).expect("plans")
    }

    fn job(dataset: &Dataset) -> JobPlan {
        plan_job(dataset, &Sink::Consumer).expect("can be cut")
    }

    fn names(job: &JobPlan) -> Vec<String> {
        job.stages.iter().map(StagePlan::name).collect()
    }

    fn kinds(job: &JobPlan) -> Vec<EdgeKind> {
        job.edges.iter().map(|edge| edge.kind).collect()
    }

    fn by_id() -> Vec<RangeKey> {
        vec![RangeKey {
            column: "id".to_owned(),
            is_descending: false,
            has_nulls_first: false,
        }]
    }

    fn counted(keys: &[&str]) -> Grouping {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let column = |name: &str| (name.to_owned(), Expression::from(name));
        Grouping {
            calls: vec![AggregateCall {
                function: AggregateFunction::Count,
                column: None,
                name: "rows".to_owned(),
            }],
            outputs: keys
                .iter()
                .map(String::as_str)
                .chain(["rows"])
                .map(column)
                .collect(),
            keys,
        }
    }

    #[test]
    fn sorted_rows_are_gathered_and_stay_in_order() {
        let sorted = numbers()
            .sort(by_id())
            .expect("plans")
            .limit(3)
            .expect("plans");
        let job = job(&sorted);
        assert_eq!(names(&job), ["Read->TopK(partial)", "TopK"]);
        assert_eq!(kinds(&job), [EdgeKind::GATHER]);
        let ordered: Vec<bool> = job.stages.iter().map(|stage| stage.is_ordered).collect();
        assert_eq!(ordered, [false, true]);
        assert_eq!(job.stages[1].row_limit, Some(3));
    }

    #[test]
    fn groups_are_counted_where_rows_are_read_and_put_together_by_key() {
        let job = job(&numbers().group(counted(&["id"])).expect("plans"));
        assert_eq!(
            names(&job),
            ["Read->Aggregate(partial)", "Aggregate->Project"]
        );
        assert_eq!(
            kinds(&job),
            [EdgeKind::Exchange {
                partitions: PARTITIONS
            }]
        );
        let by = job.stages[0].partitioner.as_ref().map(|by| by.by.clone());
        let keys = vec!["id".to_owned()];
        assert_eq!(by, Some(PartitionBy::Hash { keys }));
    }

    #[test]
    fn total_is_one_row_whatever_there_is() {
        let total = numbers().group(counted(&[])).expect("plans");
        let job = job(&total);
        assert_eq!(kinds(&job), [EdgeKind::GATHER]);
        assert_eq!(job.outputs[0].known_rows, Some(1));
        assert_eq!(total.known_columns(), ["rows"]);
    }

    #[test]
    fn datasets_beside_each_other_are_read_by_stages_of_their_own() {
        let all = numbers().union(&[&numbers(), &numbers()]).expect("plans");
        let job = job(&all);
        assert_eq!(names(&job), ["Read", "Read", "Read", "Pass"]);
        assert_eq!(kinds(&job), [EdgeKind::Forward; 3]);
        assert_eq!(job.outputs[0].known_rows, Some(300));
    }

    #[test]
    fn filter_behind_a_sort_is_done_where_rows_are_read() {
        let sorted = numbers().sort(by_id()).expect("plans");
        let job = job(&sorted.filter("id > 7").expect("plans"));
        assert_eq!(names(&job), ["Read->Filter", "Sort"]);
    }

    #[test]
    fn shuffle_without_a_seed_is_another_one_every_time() {
        let shuffled = numbers().shuffle(None).expect("plans");
        let seed = || job(&shuffled).stages[0].partitioner.clone();
        assert_ne!(seed(), seed());
        let shuffled = numbers().shuffle(Some(7)).expect("plans");
        let by = PartitionBy::Random { seed: 7 };
        let seed = job(&shuffled).stages[0]
            .partitioner
            .as_ref()
            .map(|by| by.by.clone());
        assert_eq!(seed, Some(by));
    }
}
