//! Nodes of the simulated world: they come and go, and workers wait for room on them. Others take memory, and give it back.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::NodeId;
use aktis_common::resources::{NodeResources, ResourceSet};
use aktis_common::scheduling::{ClusterView, NodeView};

use super::super::event::*;
use super::super::*;
use super::world::World;

/// A cluster of nodes with so many processors.
pub(super) fn view(nodes: &[i64]) -> ClusterView {
    let node = |(id, &cpus): (u8, &i64)| NodeView {
        id: NodeId::new([id; 16]),
        resources: NodeResources::new(ResourceSet::of_cpus(cpus), Vec::new(), [].into()),
    };
    ClusterView::new((1..).zip(nodes).map(node).collect())
}

impl World {
    /// A worker is no more, and another may have its room.
    pub(super) fn end(&mut self, worker: WorkerKey) {
        self.work.remove(&worker);
        self.live_workers.remove(&worker);
        self.roomless.retain(|other| *other != worker);
        self.give_room();
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
            self.answers.push(Event::WorkerReady(worker));
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
