//! What a simulated execution consists of, and what happens to it.

use std::collections::BTreeSet;

use aktis_common::ids::NodeId;

use super::graphs::Growth;
use crate::graph::Edge;

/// One stage of a scenario.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) rows_per_block: usize,
    pub(super) workers: usize,
    pub(super) bundle_rows: u64,
    pub(super) bundle_bytes: u64,
    pub(super) row_limit: Option<u64>,
    pub(super) growth: Growth,
    /// Partitions that its rows are told apart by, if an exchange of as many comes next.
    pub(super) partitions: u32,
    /// Gets an empty input where nothing comes.
    pub(super) runs_empty: bool,
    /// Gives the same blocks when it runs again; it counts where no block gets lost.
    pub(super) is_repeatable: bool,
    /// Of two exchanges, the feed whose rows it gives: of a partition an input may have a part of them, and all of the other.
    pub(super) spread: Option<usize>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            rows_per_block: 10,
            workers: 2,
            bundle_rows: 0,
            bundle_bytes: 0,
            row_limit: None,
            growth: Growth::Copies(1),
            partitions: 1,
            runs_empty: false,
            is_repeatable: true,
            spread: None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// Rows of the splits of each stage; none for stages whose rows come along edges.
    pub(super) splits: Vec<Vec<usize>>,
    pub(super) stages: Vec<Shape>,
    pub(super) edges: Vec<Edge>,
    /// Stages whose rows end in a sink, if they go to no other stage; other ends are read by the consumer.
    pub(super) sinks: BTreeSet<usize>,
    pub(super) keep_order: bool,
    /// Whether workers ask for an input that follows the one that they have.
    pub(super) overlaps: bool,
    /// Whether inputs may wait in workers that have one.
    pub(super) looks_ahead: bool,
    pub(super) budget_bytes: u64,
    pub(super) deaths: usize,
    /// Blocks that get lost with their nodes.
    pub(super) losses: usize,
    /// Processors of the nodes at first.
    pub(super) nodes: Vec<i64>,
    /// Nodes that come or go.
    pub(super) moves: usize,
    /// Nodes that rows of splits lie on, in turn, and that workers run on; 0: nobody tells.
    pub(super) told_nodes: u8,
    pub(super) choices: Vec<u16>,
    /// Kinds of workers of every stage, each with as many as the stage may have.
    pub(super) kinds: usize,
    /// Processors that each worker of kinds behind the first one takes.
    pub(super) cpus_of_others: i64,
}

impl Scenario {
    /// One stage after the other.
    pub(super) fn chain(splits: Vec<usize>, stages: Vec<Shape>) -> Self {
        let mut all_splits = vec![Vec::new(); stages.len()];
        all_splits[0] = splits;
        Self {
            splits: all_splits,
            edges: (1..stages.len())
                .map(|to| Edge::forward(to - 1, to))
                .collect(),
            nodes: vec![100],
            stages,
            sinks: BTreeSet::new(),
            keep_order: true,
            overlaps: false,
            looks_ahead: false,
            budget_bytes: 1000,
            deaths: 0,
            losses: 0,
            moves: 0,
            told_nodes: 0,
            choices: vec![0],
            kinds: 1,
            cpus_of_others: 1,
        }
    }

    /// Where the worker with this number is, or the split; some are nowhere in particular.
    pub(super) fn node_of(&self, number: u64) -> Option<NodeId> {
        let turn = number.checked_rem(u64::from(self.told_nodes))?;
        let node = u8::try_from(turn).expect("few nodes");
        (number % 5 != 4).then(|| NodeId::new([node + 1; 16]))
    }

    /// Of each split of the stage: where its rows lie.
    pub(super) fn nodes_of_splits(&self, stage: usize) -> Vec<Option<NodeId>> {
        let splits = (0..).zip(&self.splits[stage]);
        splits.map(|(number, _)| self.node_of(number)).collect()
    }

    /// Whether rows end in the stage.
    pub(super) fn is_sink(&self, stage: usize) -> bool {
        self.sinks.contains(&stage) && self.edges.iter().all(|edge| edge.from != stage)
    }
}
