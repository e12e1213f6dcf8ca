//! What a dataset can be asked for that needs rows of all of its parts: order, groups, other datasets beside it.

use std::collections::HashSet;

use super::dataset::Dataset;
use super::nodes::relation::{
    BlockRows, Grouping, Hint, Joining, Relation, RelationNode, Repartition, RepartitionBy,
    columns_of,
};
use crate::error::PlanError;
use crate::graph::{JoinKind, RangeKey};
use crate::operators::fragment::joined;

impl Dataset {
    /// All rows in the order of these keys, the most important first. Rows with equal keys come in any order.
    pub fn sort(&self, keys: Vec<RangeKey>) -> Result<Self, PlanError> {
        if keys.is_empty() {
            return Err(PlanError::InvalidArgument(
                "sort() needs at least one column".to_owned(),
            ));
        }
        let names: Vec<&String> = keys.iter().map(|key| &key.column).collect();
        self.check_columns("sort()", &names)?;
        self.relation(Relation::Sort(keys))
    }

    /// All rows in an order by chance, which is the same with the same seed.
    pub fn shuffle(&self, seed: Option<u64>) -> Result<Self, PlanError> {
        self.relation(Relation::Shuffle(seed))
    }

    /// Each row with this probability, by chance, the same rows with the same seed.
    pub fn sample(&self, share: f64, seed: Option<u64>) -> Result<Self, PlanError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(PlanError::InvalidArgument(format!(
                "random_sample() needs a fraction from 0 to 1, not {share}"
            )));
        }
        let share = share.to_bits();
        self.relation(Relation::Sample { share, seed })
    }

    /// All rows in so many parts. The order of rows is kept by their place, in one part only.
    pub fn repartition(&self, parts: u32, by: RepartitionBy) -> Result<Self, PlanError> {
        if let RepartitionBy::Keys { keys, .. } = &by {
            self.check_columns("repartition()", &keys.iter().collect::<Vec<_>>())?;
        }
        if parts == 0 {
            return Err(PlanError::InvalidArgument(
                "repartition() needs at least one part".to_owned(),
            ));
        }
        self.relation(Relation::Repartition(Repartition { parts, by }))
    }

    /// All rows in their order, in blocks of so many.
    pub fn with_block_rows(&self, blocks: BlockRows) -> Result<Self, PlanError> {
        self.relation(Relation::BlockRows(blocks))
    }

    /// Rows with equal keys one after another, all of a group in one worker; a function that follows with a batch as large as
    /// there can be gets whole groups.
    pub fn cluster(&self, keys: Vec<String>) -> Result<Self, PlanError> {
        let names: Vec<&String> = keys.iter().collect();
        self.check_columns("groupby()", &names)?;
        self.relation(Relation::Cluster(keys))
    }

    /// One row per group of rows with equal keys (nulls are equal to each other), in any order; one row of everything where
    /// there are no keys, of no rows too.
    pub fn group(&self, grouping: Grouping) -> Result<Self, PlanError> {
        let keys: Vec<&String> = grouping.keys.iter().collect();
        self.check_columns("groupby()", &keys)?;
        let columns = grouping
            .calls
            .iter()
            .filter_map(|call| call.column.as_ref());
        self.check_columns("aggregate()", &columns.collect::<Vec<_>>())?;
        let mut seen = HashSet::new();
        let names = grouping.outputs.iter().map(|(name, _)| name);
        if let Some(name) = names.into_iter().find(|&name| !seen.insert(name)) {
            return Err(PlanError::DuplicateColumn {
                operation: "aggregate()",
                name: name.clone(),
            });
        }
        self.relation(Relation::Group(grouping))
    }

    /// The rows of this dataset and of others, one after the other.
    ///
    /// Columns go together by name, each of a type that all values fit into; what a dataset does not have is null there.
    pub fn union(&self, others: &[&Self]) -> Result<Self, PlanError> {
        let others = others.iter().map(|other| other.plan().clone());
        let inputs = std::iter::once(self.plan().clone()).chain(others).collect();
        let node = RelationNode::try_new(Relation::Union, inputs);
        node.map(Self::extend).map_err(PlanError::planner)
    }

    /// Rows of this dataset, the left, beside those of another, the right, with equal keys. In any order.
    pub fn join(&self, right: &Self, joining: Joining) -> Result<Self, PlanError> {
        let join = &joining.join;
        if joining.partitions == 0 {
            return Err(refused("num_partitions must be at least 1"));
        }
        if joining.hint == Some(Hint::Salt) && join.kind == JoinKind::FullOuter {
            return Err(refused(
                "hint='salt' gives several workers a part of the rows of a key each, and none of them could tell alone which \
                 rows of the other side a full_outer join leaves without a partner; leave the hint out",
            ));
        }
        if joining.hint == Some(Hint::Broadcast) && !join.kind.goes_by_parts().0 {
            return Err(refused(&format!(
                "hint='broadcast' gives every part of the left all of the right, and none of them could tell alone which rows \
                 of the right a {} join leaves without a partner; leave the hint out, or change the sides",
                join.kind.name()
            )));
        }
        if !self.is_open() && !right.is_open() {
            let columns = [self, right].map(|side| columns_of(side.plan()));
            joined(join, &columns[0], &columns[1]).map_err(|why| refused(&why))?;
        }
        let inputs = vec![self.plan().clone(), right.plan().clone()];
        let node = RelationNode::try_new(Relation::Join(joining), inputs);
        node.map(Self::extend).map_err(PlanError::planner)
    }

    /// Rows of this dataset and of others side by side, by their place. All must have as many.
    pub fn zip(&self, others: &[&Self]) -> Result<Self, PlanError> {
        let others = others.iter().map(|other| other.plan().clone());
        let inputs = std::iter::once(self.plan().clone()).chain(others).collect();
        let node = RelationNode::try_new(Relation::Zip, inputs);
        node.map(Self::extend).map_err(PlanError::planner)
    }

    fn relation(&self, relation: Relation) -> Result<Self, PlanError> {
        let node = RelationNode::try_new(relation, vec![self.plan().clone()]);
        node.map(Self::extend).map_err(PlanError::planner)
    }
}

fn refused(why: &str) -> PlanError {
    PlanError::InvalidArgument(format!("join(): {why}"))
}
