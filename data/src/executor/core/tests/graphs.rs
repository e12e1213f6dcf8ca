//! Random graphs of the simulated world, and what comes out of them by definition.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::event::BlockSlice;
use super::scenario::{Scenario, Shape};
use super::scenarios;
use super::shapes;
use super::world::World;
use crate::graph::{Edge, EdgeKind};

/// What a stage makes of rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Growth {
    /// Keeps about one row of so many.
    Keeps(u64),
    /// Gives each row so many times.
    Copies(usize),
}

impl Growth {
    fn apply(self, rows: &[u64]) -> Vec<u64> {
        let rows = rows.iter().copied();
        match self {
            Self::Keeps(one_of) => rows.filter(|row| row * 7919 % one_of == 0).collect(),
            Self::Copies(count) => rows
                .flat_map(|row| std::iter::repeat_n(row, count))
                .collect(),
        }
    }
}

/// A block before it is handed out.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) partition: u32,
    pub(super) rows: Vec<u64>,
}

fn partition_of(row: u64, partitions: u32) -> u32 {
    // Half of the rows are skewed into one partition.
    if row.is_multiple_of(2) {
        0
    } else {
        (row / 2 % u64::from(partitions)) as u32
    }
}

impl Scenario {
    fn edges_to(&self, stage: usize) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == stage)
    }

    fn edges_from(&self, stage: usize) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == stage)
    }

    /// The feed whose partitions may be cut, if the stage has two exchanges.
    pub(super) fn spread_feed(&self, stage: usize) -> Option<usize> {
        let mut edges = self.edges_to(stage).map(|edge| edge.kind);
        let is_exchange = |kind: Option<EdgeKind>| matches!(kind, Some(EdgeKind::Exchange { .. }));
        let are_two = is_exchange(edges.next()) && is_exchange(edges.next());
        self.stages[stage].spread.filter(|_| are_two)
    }

    /// Partitions that the blocks of the stage are of.
    fn partitions(&self, stage: usize) -> u32 {
        let count = self.stages[stage].partitions;
        let kind = EdgeKind::Exchange { partitions: count };
        if self.edges_from(stage).any(|edge| edge.kind == kind) {
            count
        } else {
            1
        }
    }

    /// The blocks that a stage makes of the rows of an input.
    pub(super) fn cut(&self, stage: usize, rows: &[u64]) -> Vec<Cut> {
        let (shape, partitions) = (&self.stages[stage], self.partitions(stage));
        let rows = shape.growth.apply(rows);
        let of_partition = |partition: u32| -> Vec<Cut> {
            let is_in = |row: &u64| partitions == 1 || partition_of(*row, partitions) == partition;
            let rows: Vec<u64> = rows.iter().copied().filter(is_in).collect();
            let blocks = rows.chunks(shape.rows_per_block);
            let cut = |rows: &[u64]| Cut {
                partition,
                rows: rows.to_vec(),
            };
            blocks.map(cut).collect()
        };
        (0..partitions).flat_map(of_partition).collect()
    }

    /// The rows of all stages by definition, in order: those of the sources are numbered.
    pub(super) fn rows(&self) -> Vec<Vec<u64>> {
        let mut next_row = 0;
        let mut all: Vec<Vec<u64>> = Vec::new();
        for (stage, shape) in self.stages.iter().enumerate() {
            let own: usize = self.splits[stage].iter().sum();
            let mut rows: Vec<u64> = (next_row..next_row + own as u64).collect();
            next_row += own as u64;
            let edges = self
                .edges_to(stage)
                .filter(|edge| edge.kind != EdgeKind::Broadcast);
            let mut edges: Vec<&Edge> = edges.collect();
            if let Some(feed) = self.spread_feed(stage) {
                edges = vec![edges[feed]];
            }
            let partitions = edges.first().map_or(1, |edge| match edge.kind {
                EdgeKind::Exchange { partitions } => partitions,
                EdgeKind::Forward | EdgeKind::Even { .. } | EdgeKind::Broadcast => 1,
            });
            for partition in 0..partitions {
                let is_in =
                    |row: &u64| partitions == 1 || partition_of(*row, partitions) == partition;
                let given = edges.iter().flat_map(|edge| &all[edge.from]);
                rows.extend(given.copied().filter(is_in));
            }
            all.push(shape.growth.apply(&rows));
        }
        all
    }

    /// Stages that the consumer reads from.
    pub(super) fn ends(&self) -> Vec<usize> {
        let is_end =
            |&stage: &usize| self.edges_from(stage).next().is_none() && !self.is_sink(stage);
        (0..self.stages.len()).filter(is_end).collect()
    }

    /// Whether the order of what comes out is that of [`rows`](Self::rows): blocks of partitions that go elsewhere too, and
    /// partitions that are put together, have an order that depends on inputs.
    pub(super) fn is_order_defined(&self) -> bool {
        let is_plain = |stage: usize| {
            let partitions = self.partitions(stage);
            let kind = EdgeKind::Exchange { partitions };
            partitions == 1 || self.edges_from(stage).all(|edge| edge.kind == kind)
        };
        let is_one = |stage: usize| {
            let own = self
                .edges_to(stage)
                .filter(|edge| edge.kind != EdgeKind::Broadcast);
            own.count() < 2 || self.stages[stage].bundle_bytes == 0
        };
        let mut all = 0..self.stages.len();
        self.ends().len() == 1 && all.all(|stage| is_plain(stage) && is_one(stage))
    }
}

impl World {
    /// The rows of an input; what is broadcast comes whole.
    pub(super) fn rows_of_feeds(&self, stage: usize, feeds: &[Vec<BlockSlice>]) -> Vec<u64> {
        self.check_length(stage, feeds);
        let mut all = Vec::new();
        let spread = self.scenario.spread_feed(stage);
        for (feed, (edge, parts)) in self.scenario.edges_to(stage).zip(feeds).enumerate() {
            let rows = parts.iter().flat_map(|part| self.rows_of(part));
            if spread.is_some_and(|own| own != feed)
                && matches!(edge.kind, EdgeKind::Exchange { .. })
            {
                let own = spread.map_or(&[][..], |own| &feeds[own]);
                self.check_partner(edge, rows.collect(), own);
                continue;
            }
            if edge.kind == EdgeKind::Broadcast {
                let mut rows: Vec<u64> = rows.collect();
                let mut expected = self.stage_rows[edge.from].clone();
                rows.sort_unstable();
                expected.sort_unstable();
                assert_eq!(rows, expected, "EXE-3: an input has all of a broadcast");
            } else {
                all.extend(rows);
            }
        }
        all
    }
}

impl World {
    /// An input of an even edge has its part of all rows, to a row.
    fn check_length(&self, stage: usize, feeds: &[Vec<BlockSlice>]) {
        let (mut all, mut own, mut partitions) = (0, 0, None);
        for (edge, parts) in self.scenario.edges_to(stage).zip(feeds) {
            if let EdgeKind::Even { partitions: count } = edge.kind {
                all += self.stage_rows[edge.from].len() as u64;
                own += parts.iter().map(|part| part.rows).sum::<u64>();
                partitions = Some(u64::from(count));
            }
        }
        let is_one = self.scenario.stages[stage].bundle_bytes == 0 && all > 0;
        if let Some(partitions) = partitions.filter(|_| is_one) {
            let least = all / partitions;
            assert!((least..=least + 1).contains(&own), "{own} of {all} rows");
        }
    }

    /// Rows of a feed that may be cut meet all rows of their partitions that the other feed has.
    fn check_partner(&self, edge: &Edge, rows: Vec<u64>, own: &[BlockSlice]) {
        let EdgeKind::Exchange { partitions } = edge.kind else {
            return;
        };
        let of = |row: &u64| match partitions {
            1 => 0,
            _ => partition_of(*row, partitions),
        };
        let met: BTreeSet<u32> = own
            .iter()
            .flat_map(|part| self.rows_of(part))
            .map(|row| of(&row))
            .collect();
        let in_met = |rows: &[u64]| {
            let mut rows: Vec<u64> = rows
                .iter()
                .copied()
                .filter(|row| met.contains(&of(row)))
                .collect();
            rows.sort_unstable();
            rows
        };
        let expected = in_met(&self.stage_rows[edge.from]);
        assert_eq!(
            in_met(&rows),
            expected,
            "EXE-3: a piece has all of the other feed"
        );
    }
}

/// Edges that bring the rows of a stage of a random graph.
#[derive(Debug, Clone, Copy)]
enum Ways {
    Forward,
    Exchange,
    Even(u32),
}

/// How such a stage gets its rows: by what kind of edges, from which stages, and whether one more is broadcast.
type Inputs = (Ways, Vec<Index>, Option<Index>);

fn growths() -> impl Strategy<Value = Growth> {
    prop_oneof![
        4 => Just(Growth::Copies(1)),
        1 => prop_oneof![Just(2u64), Just(10), Just(100)].prop_map(Growth::Keeps),
        1 => prop_oneof![Just(2usize), Just(10), Just(100)].prop_map(Growth::Copies),
    ]
}

fn edges(stages: &[Shape], to: usize, (ways, givers, broadcast): &Inputs) -> Vec<Edge> {
    let givers: Vec<usize> = givers.iter().map(|giver| giver.index(to)).collect();
    let counts: BTreeSet<u32> = givers.iter().map(|&from| stages[from].partitions).collect();
    let partitions = counts
        .first()
        .copied()
        .filter(|_| counts.len() == 1)
        .unwrap_or(1);
    let kind = match *ways {
        Ways::Forward => EdgeKind::Forward,
        Ways::Exchange => EdgeKind::Exchange { partitions },
        Ways::Even(partitions) => EdgeKind::Even { partitions },
    };
    let own = givers.iter().map(|&from| Edge { from, to, kind });
    // Beside a source nothing is broadcast.
    let broadcast = broadcast.filter(|_| !givers.is_empty());
    let broadcast = broadcast.map(|giver| Edge {
        from: giver.index(to),
        to,
        kind: EdgeKind::Broadcast,
    });
    own.chain(broadcast).collect()
}

/// Graphs of 1 to 8 stages: each has a source, or gets rows of up to two of those before it (or twice of one), forward, by
/// exchange or in even parts, and maybe all of one more. Rows become a hundredth to a hundredfold. Ends are sinks, or read by the consumer.
pub(super) fn graphs() -> impl Strategy<Value = Scenario> {
    let ways = prop_oneof![
        2 => Just(Ways::Forward),
        2 => Just(Ways::Exchange),
        1 => (1u32..9).prop_map(Ways::Even),
    ];
    let inputs = (
        ways,
        prop::collection::vec(any::<Index>(), 0..3),
        prop::option::weighted(0.3, any::<Index>()),
    );
    let stages = prop::collection::vec(
        (
            shapes(),
            growths(),
            1u32..6,
            prop_oneof![Just(0u64), 1u64..500],
            inputs,
            prop::option::of(0usize..2),
        ),
        1..9,
    );
    let sinks = prop::collection::btree_set(0usize..8, 0..8);
    (scenarios(), stages, sinks).prop_map(|(scenario, drawn, sinks)| {
        let rows = scenario.splits[0].clone();
        let (mut shapes, mut all_inputs) = (Vec::new(), Vec::new());
        for (shape, growth, partitions, bundle_bytes, inputs, spread) in drawn {
            shapes.push(Shape {
                row_limit: None,
                growth,
                partitions,
                bundle_bytes,
                spread,
                ..shape
            });
            all_inputs.push(inputs);
        }
        let mut graph = Scenario::chain(rows.clone(), shapes);
        graph.edges.clear();
        graph.sinks = sinks;
        for (to, inputs) in all_inputs.iter().enumerate().skip(1) {
            let edges = edges(&graph.stages, to, inputs);
            if edges.is_empty() {
                graph.splits[to].clone_from(&rows);
            }
            graph.edges.extend(edges);
        }
        for stage in 0..graph.stages.len() {
            if graph.rows()[stage].len() > 2000 {
                graph.stages[stage].growth = Growth::Keeps(2);
            }
        }
        let least = i64::try_from(graph.stages.len()).expect("few stages");
        let more = scenario.nodes[1..].iter().copied();
        Scenario {
            nodes: [least].into_iter().chain(more).collect(),
            splits: graph.splits,
            stages: graph.stages,
            edges: graph.edges,
            sinks: graph.sinks,
            ..scenario
        }
    })
}
