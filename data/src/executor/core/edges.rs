//! How stages hang together, and how blocks and ends go from one to the next.

use std::collections::BTreeSet;

use super::Executor;
use super::event::{BlockSlice, Effect};
use super::lineage::Account;
use super::stage::{Stage, Target};
use crate::graph::{Edge, EdgeKind};

/// Connects the stages.
pub(super) fn connect(stages: &mut [Stage], edges: &[Edge]) {
    for edge in edges {
        debug_assert!(edge.from < edge.to, "stages come after what they read from");
        let feed = stages[edge.to].feeds.add(edge.from, edge.kind);
        let to = edge.to;
        let target = Target { stage: to, feed };
        stages[edge.from].next.push(target);
        stages[edge.from].gives_in_order |= edge.kind == EdgeKind::Forward;
    }
    for stage in &mut *stages {
        // Whoever gets a partition puts it in order.
        stage.gives_in_order |= stage.next.is_empty() || stage.setup.row_limit.is_some();
        stage.gives_in_order &= stage.setup.keep_order;
    }
    set_apart(stages);
}

/// A feed that is closed until others are over.
struct Wait {
    stage: usize,
    feed: usize,
    /// Stages that may have to stop, because what they give waits in the feed.
    stopped: BTreeSet<usize>,
    /// Stages that must come to their end before the feed opens.
    needed: BTreeSet<usize>,
}

/// Where stages that have to stop could be needed by what they wait for, one way or another, the blocks that wait are set apart:
/// so nobody has to stop for them. Every other feed that waits holds up those who give, and nothing is kept without need.
fn set_apart(stages: &mut [Stage]) {
    let mut waits = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let givers: Vec<usize> = stage.feeds.givers().map(|(from, _)| from).collect();
        for (feed, &giver) in givers.iter().enumerate() {
            let needed = stage.feeds.waited_for(feed).into_iter();
            waits.push(Wait {
                stage: index,
                feed,
                stopped: before(stages, giver, |kind| kind == EdgeKind::Forward),
                needed: needed
                    .flat_map(|other| before(stages, givers[other], |_| true))
                    .collect(),
            });
        }
    }
    waits.retain(|wait| !wait.needed.is_empty());
    let mut index = 0;
    while index < waits.len() {
        if waits_for_itself(&waits, index) {
            let Wait { stage, feed, .. } = waits.remove(index);
            stages[stage].feeds.set_apart(feed);
        } else {
            index += 1;
        }
    }
}

/// Whether the feed opens only when stages come to their end that may stop for it, or for a feed that waits for such.
fn waits_for_itself(waits: &[Wait], first: usize) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![first]);
    while let Some(one) = open.pop() {
        for (other, wait) in waits.iter().enumerate() {
            if waits[one].needed.is_disjoint(&wait.stopped) {
                continue;
            }
            if other == first {
                return true;
            }
            if seen.insert(other) {
                open.push(other);
            }
        }
    }
    false
}

/// A stage and all that its rows come from along edges that count.
fn before(stages: &[Stage], last: usize, counts: fn(EdgeKind) -> bool) -> BTreeSet<usize> {
    let (mut all, mut open) = (BTreeSet::new(), vec![last]);
    while let Some(stage) = open.pop() {
        if all.insert(stage) {
            let givers = stages[stage].feeds.givers();
            open.extend(
                givers
                    .filter(|&(_, kind)| counts(kind))
                    .map(|(from, _)| from),
            );
        }
    }
    all
}

impl Executor {
    /// Gives rows to every stage that they go to, or to the consumer.
    pub(super) fn hand_on(&mut self, from: usize, part: BlockSlice) {
        if self.stages[from].next.is_empty() {
            self.delivered.insert(part.block);
            self.effects.push(Effect::Deliver(part));
            return;
        }
        let partition = self
            .blocks
            .recipe(part.block)
            .map_or(0, |recipe| recipe.partition);
        // The first that counts against the budget takes the place of having been held here.
        let mut is_held = true;
        for others in 0..self.stages[from].next.len() {
            let Target { stage, feed } = self.stages[from].next[others];
            if self.stages[stage].is_done {
                continue;
            }
            let feeds = &mut self.stages[stage].feeds;
            let account = feeds.account(feed);
            feeds.push(feed, part, partition);
            if account == Account::Exchange || !std::mem::replace(&mut is_held, false) {
                self.blocks.share(part.block, account);
            }
        }
        if is_held {
            self.free_block(part.block, Account::Budget);
        }
    }

    /// A stage gives nothing more.
    pub(super) fn end_edges_from(&mut self, index: usize) {
        let mut opens = false;
        for others in 0..self.stages[index].next.len() {
            let Target { stage, feed } = self.stages[index].next[others];
            let feeds = &mut self.stages[stage].feeds;
            let was_closed = feeds.are_closed();
            feeds.end(feed, &mut self.blocks);
            opens |= was_closed && !feeds.are_closed();
        }
        if opens {
            self.size_pools();
        }
    }

    /// Whether everything that leaves the stage leaves the budget with that.
    pub(super) fn leaves_the_budget(&self, stage: &Stage) -> bool {
        let mut next = stage.next.iter();
        !stage.next.is_empty()
            && next.all(|&Target { stage, feed }| {
                self.stages[stage].feeds.account(feed) == Account::Exchange
            })
    }

    /// Of each stage: whether what leaves it can go on, and does not only wait for what others give.
    pub(super) fn leading_on(&self) -> Vec<bool> {
        let mut leading = vec![true; self.stages.len()];
        for index in (0..self.stages.len()).rev() {
            leading[index] = self.stages[index]
                .next
                .iter()
                .all(|&Target { stage, feed }| {
                    let next = &self.stages[stage];
                    let is_taken = next.is_done || next.feeds.account(feed) == Account::Exchange;
                    is_taken || (next.feeds.is_open(feed) && leading[stage])
                });
        }
        leading
    }
}
