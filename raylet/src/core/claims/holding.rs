//! What is kept for claims that have waited for long (ADR 132).
//!
//! A claim that wants more than is ever free at once beside a flood of small ones would wait for ever. So the queue has it hold
//! what it is short of (`SCH-4`): what frees is kept, until it is enough. A claim holds on one node, the one where it waits, and
//! only if the tasks of that node have what it lacks: what actors have may never come. Claims that another one holds up here
//! are served by other nodes, if these have room.

use aktis_common::resources::{GPU, NodeResources};
use aktis_common::scheduling::{ClusterView, NodeView, Placement, solve};

use super::{Claim, Holder, LeaseTable};
use crate::core::keys::ReplyTo;

impl LeaseTable {
    /// What would be free here if all tasks and all starts of actors had ended.
    fn without_tasks(&self) -> NodeResources {
        let mut after = self.resources().clone();
        for (_, grant) in self.grants() {
            match (grant.holder, &grant.startup_extra) {
                (Holder::Owner(_), _) => grant.release_into(&mut after),
                (Holder::Actor(_), Some(extra)) => after.release(extra),
                (Holder::Actor(_), None) => {}
            }
        }
        after
    }

    /// Whether the end of tasks can serve the claim here.
    pub(super) fn is_worth_holding(&self, claim: &Claim) -> bool {
        claim.is_wanted_on(self.here) && self.without_tasks().fits(claim.resources())
    }

    /// Whether the claim of an actor had better go on waiting here: what tasks have is enough for it and for the actors before it,
    /// and no other node has room.
    pub fn is_collecting_for(&self, reply_to: ReplyTo) -> bool {
        let mut after = self.without_tasks();
        for (waiter, claim) in self.queue.iter() {
            let has_room = claim.owner().is_none() && after.allocate(claim.resources()).is_some();
            if *waiter == reply_to {
                let others = solve(&self.others(), &claim.placement);
                return has_room && !matches!(others, Placement::Node(_));
            }
        }
        false
    }

    /// The nodes without this one.
    pub(super) fn others(&self) -> ClusterView {
        let mut others = self.view.clone();
        others.remove(self.here);
        others
    }

    /// Whether what is free here may serve a claim that came just now.
    pub(super) fn is_open_to(&self, claim: &Claim) -> bool {
        !self.held.iter().any(|name| claim.needs(name))
    }

    /// What others may count on here: without what is kept.
    pub fn open_resources(&self) -> NodeResources {
        let here = self.resources();
        if self.held.is_empty() {
            return here.clone();
        }
        let held = self.held.iter();
        let available = held.fold(here.available(), |free, name| free.without(name));
        let mut gpus = here.gpus().to_vec();
        if self.held.iter().any(|name| name == GPU) {
            gpus.iter_mut()
                .for_each(|gpu| gpu.free = Default::default());
        }
        NodeResources::reported(here.total(), available, gpus, here.labels().clone())
    }

    /// This node alone.
    pub(super) fn only_here(&self) -> ClusterView {
        ClusterView::new(vec![NodeView {
            id: self.here,
            resources: self.resources().clone(),
        }])
    }
}
