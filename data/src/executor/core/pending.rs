//! Inputs that wait for a worker, by their place in the order and by the node that their rows lie on.
//!
//! A worker gets what lies on its node, as long as there is such: what lies elsewhere would cross the network, and what another worker
//! has beside it would cross it, too, when this one takes it. Where there is none it takes what is next, so that no worker is idle for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use aktis_common::ids::NodeId;

use super::event::WorkerKey;
use super::stage::{Input, Stage};

/// Where rows leave in order, so many inputs for each worker may be passed over for one whose rows lie on its node.
const INPUTS_AHEAD: u64 = 2;

/// Inputs without a worker.
#[derive(Debug, Default)]
pub(crate) struct PendingInputs {
    inputs: BTreeMap<u64, Input>,
    /// Of those whose rows lie on one node: by that.
    by_node: BTreeMap<NodeId, BTreeSet<u64>>,
    /// Those that only some kinds of workers may have.
    bound: BTreeSet<u64>,
}

/// For whom an input is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NextInput {
    /// The first place in the order that will do.
    pub(crate) from: u64,
    /// The worker's node, if it is known.
    pub(crate) node: Option<NodeId>,
    /// How far behind the first one it may be for the sake of the node.
    pub(crate) most_ahead: u64,
}

impl Stage {
    /// What to give the worker next, at this place in the order or behind it. Where rows leave in order they wait for those before
    /// them, so there it is not far behind what is next.
    pub(crate) fn wanted_by(&self, worker: WorkerKey, from: u64) -> NextInput {
        let most_ahead = match self.gives_in_order {
            true => INPUTS_AHEAD * self.workers.count() as u64,
            false => u64::MAX,
        };
        NextInput {
            from,
            node: self.workers.node(worker),
            most_ahead,
        }
    }
}

impl PendingInputs {
    /// One more, or one again.
    pub(crate) fn insert(&mut self, sequence: u64, input: Input) {
        if let Some(node) = input.node {
            self.by_node.entry(node).or_default().insert(sequence);
        }
        if !input.kinds.is_empty() {
            self.bound.insert(sequence);
        }
        self.inputs.insert(sequence, input);
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Input> {
        let input = self.inputs.remove(&sequence)?;
        self.bound.remove(&sequence);
        if let Some(node) = input.node
            && let Some(beside) = self.by_node.get_mut(&node)
        {
            beside.remove(&sequence);
            if beside.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(input)
    }

    /// Takes all out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Input> {
        self.bound.clear();
        std::mem::take(self).inputs.into_values()
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Input> {
        self.inputs.get(&sequence)
    }

    pub(crate) fn get_mut(&mut self, sequence: u64) -> Option<&mut Input> {
        self.inputs.get_mut(&sequence)
    }

    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether there is one that any worker may have.
    pub(crate) fn has_unbound(&self) -> bool {
        self.inputs.len() > self.bound.len()
    }

    /// Those that only some kinds of workers may have, by their places.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (u64, &Input)> {
        let bound = self.bound.iter();
        bound.filter_map(|&sequence| Some((sequence, self.inputs.get(&sequence)?)))
    }

    /// If it is here, only workers of these kinds may have it; none: any.
    pub(crate) fn bind(&mut self, sequence: u64, kinds: &[usize]) {
        let Some(input) = self.inputs.get_mut(&sequence) else {
            return;
        };
        input.kinds = kinds.into();
        if kinds.is_empty() {
            self.bound.remove(&sequence);
        } else {
            self.bound.insert(sequence);
        }
    }

    /// Of those that any worker may have: the first that will do on the worker's node, or else the first that will do.
    pub(crate) fn first(&self, wanted: NextInput, will_do: impl Fn(&Input) -> bool) -> Option<u64> {
        let will_do = |input: &Input| input.kinds.is_empty() && will_do(input);
        let mut next = self.inputs.range(wanted.from..);
        let (&first, _) = next.find(|(_, input)| will_do(input))?;
        let beside = wanted.node.and_then(|node| self.by_node.get(&node));
        let last = Bound::Included(first.saturating_add(wanted.most_ahead));
        let mut beside = beside
            .into_iter()
            .flat_map(|beside| beside.range((Bound::Included(first), last)));
        let own = beside.find(|sequence| self.inputs.get(sequence).is_some_and(&will_do));
        Some(own.copied().unwrap_or(first))
    }

    /// What is told of nodes is true.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let told = self.by_node.iter();
        let told: BTreeSet<(u64, NodeId)> = told
            .flat_map(|(&node, beside)| beside.iter().map(move |&sequence| (sequence, node)))
            .collect();
        let inputs = self.inputs.iter();
        let is_so: BTreeSet<(u64, NodeId)> = inputs
            .filter_map(|(&sequence, input)| Some((sequence, input.node?)))
            .collect();
        assert_eq!(told, is_so);
        let bound = self
            .inputs
            .iter()
            .filter(|(_, input)| !input.kinds.is_empty());
        assert!(bound.map(|(sequence, _)| sequence).eq(&self.bound));
    }
}
