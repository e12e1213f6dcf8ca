//! Nodes of the simulated world: they come and go, and workers wait for room on them. Others take memory, and give it back.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::NodeId;
use aktis_common::resources::{NodeResources, ResourceSet};
use aktis_common::scheduling::{ClusterView, NodeView};

use super::super::event::*;
use super::super::*;
use super::scenario::{Scenario, Shape};
use super::world::World;

/// A cluster of nodes with so many processors.
pub(super) fn view(nodes: &[i64]) -> ClusterView {
    let node = |(id, &cpus): (u8, &i64)| NodeView {
        id: NodeId::new([id; 16]),
        resources: NodeResources::new(ResourceSet::of_cpus(cpus), Vec::new(), [].into()),
    };
    ClusterView::new((1..).zip(nodes).map(node).collect())
}

/// One worker on each of two nodes, and splits of which every fifth lies nowhere in particular: what each worker was given, in its
/// order, by the node that it lies on.
fn given_on_two_nodes(splits: usize, keep_order: bool) -> [Vec<Option<NodeId>>; 2] {
    let shape = Shape {
        workers: 2,
        ..Shape::default()
    };
    let mut world = World::new(Scenario {
        told_nodes: 2,
        keep_order,
        budget_bytes: 1 << 20,
        ..Scenario::chain(vec![5; splits], vec![shape])
    });
    let nodes = world.scenario.nodes_of_splits(0);
    let mut given = [Vec::new(), Vec::new()];
    let mut effects = world.executor.start();
    loop {
        for effect in &effects {
            if let Effect::StartInput(StartInput {
                worker,
                content: InputContent::Split(split),
                ..
            }) = effect
            {
                given[usize::try_from(worker.0).expect("of two")].push(nodes[*split]);
            }
        }
        world.carry_out(effects);
        if world.outcome.is_some() {
            return given;
        }
        let event = match world.answers.is_empty() {
            true => world.consume(),
            false => world.answers.remove(0),
        };
        effects = world.executor.handle(event);
    }
}

#[test]
fn workers_get_what_lies_on_their_node_before_what_lies_elsewhere() {
    for (worker, given) in (1..).zip(given_on_two_nodes(40, false)) {
        let own = Some(NodeId::new([worker; 16]));
        let own = given.iter().take_while(|&&node| node == own).count();
        assert_eq!(own, 16, "all that lies on node {worker}: {given:?}");
    }
}

/// Rows that leave in order wait for those before them.
#[test]
fn order_is_left_only_by_a_little_for_the_sake_of_a_node() {
    for (worker, given) in (1..).zip(given_on_two_nodes(40, true)) {
        let other = Some(NodeId::new([3 - worker; 16]));
        let own = given.iter().filter(|&&node| node != other).count();
        assert!(own * 10 >= given.len() * 9, "node {worker}: {given:?}");
    }
}

impl World {
    /// A worker is no more, and another may have its room.
    pub(super) fn end(&mut self, worker: WorkerKey) {
        self.work.remove(&worker);
        self.live_workers.remove(&worker);
        self.roomless.retain(|other| *other != worker);
        self.give_room();
    }

    /// Where the worker or the rows with this number are, if that is told.
    pub(super) fn node_of(&self, number: u64) -> Option<NodeId> {
        self.scenario.node_of(number)
    }

    fn with_room(&self) -> usize {
        self.live_workers.len() - self.roomless.len()
    }

    fn room(&self) -> usize {
        usize::try_from(self.nodes.iter().sum::<i64>()).expect("some processors")
    }

    pub(super) fn give_room(&mut self) {
        while self.with_room() < self.room()
            && let Some(worker) = self.roomless.pop_front()
        {
            let node = self.node_of(worker.0);
            self.answers.push(Event::WorkerReady(worker, node));
        }
    }

    /// A node may come, or go with those of the workers that had room there; there is always room for one worker of each stage. Or
    /// other executions may hold more or less.
    pub(super) fn maybe_move(&mut self) {
        if self.moves_left == 0 || self.choose(3) > 0 {
            return;
        }
        self.moves_left -= 1;
        if self.choose(3) == 0 {
            let parts = u64::try_from(1 + self.choose(8)).expect("small");
            let left = self.scenario.budget_bytes / parts;
            return self.answers.push(Event::BudgetChanged(left.max(1)));
        }
        let extra = i64::try_from(self.choose(4)).expect("small");
        if self.nodes.len() > 1 && self.choose(2) == 0 {
            self.lose_node();
        } else {
            self.add_node(1 + extra);
        }
    }

    pub(super) fn add_node(&mut self, cpus: i64) {
        self.nodes.push(cpus);
        self.tell_nodes();
        self.give_room();
    }

    pub(super) fn lose_node(&mut self) {
        self.nodes.pop();
        while self.with_room() > self.room() {
            let has_room = |worker: &WorkerKey| !self.roomless.contains(worker);
            let placed: Vec<WorkerKey> =
                self.live_workers.iter().copied().filter(has_room).collect();
            let worker = placed[self.choose(placed.len())];
            self.kill(worker);
        }
        self.tell_nodes();
    }

    /// Who asks later hears what is newer.
    fn tell_nodes(&mut self) {
        let is_news = |event: &Event| matches!(event, Event::NodesChanged(_));
        self.answers.retain(|event| !is_news(event));
        self.answers.push(Event::NodesChanged(view(&self.nodes)));
    }

    /// Ends a worker whatever it does. What it was about to answer is lost.
    fn kill(&mut self, worker: WorkerKey) {
        self.drop_answers(worker);
        self.end(worker);
        self.answers.push(Event::WorkerLost {
            is_explained: false,
            at: Duration::ZERO,
            worker,
            failure: TaskFailure::new(ErrorCode::NodeDied, "its node is gone"),
        });
    }
}
