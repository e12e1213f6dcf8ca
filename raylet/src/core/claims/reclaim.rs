//! Which leases to ask back when requests wait.
//!
//! Owners keep leases warm. As soon as somebody else waits for what such a lease holds, its owner is asked to return it
//! after the task that runs; it may ask again and is then served in turn. So owners share a full node task by task.

use std::collections::HashSet;

use aktis_common::resources::{CPU, GPU, NodeResources, ResourceRequest};

use super::{Claim, Grant, Holder, LeaseTable, Owner};
use crate::core::keys::LeaseId;

/// Resources that somebody waits for.
struct Want<'a> {
    resources: &'a ResourceRequest,
    /// Who waits; `None` for an actor.
    owner: Option<Owner>,
}

impl Want<'_> {
    fn of(claim: &Claim) -> Want<'_> {
        Want {
            resources: claim.resources(),
            owner: claim.owner(),
        }
    }

    /// An owner that asks for more of what it has need not return any of it.
    fn is_of_class(&self, grant: &Grant) -> bool {
        let holder = match grant.holder {
            Holder::Owner(owner) => Some(owner),
            Holder::Actor(_) => None,
        };
        self.owner.is_some() && self.owner == holder && grant.request == *self.resources
    }
}

impl LeaseTable {
    /// Whether claims wait, and leases have got workers or their CPUs back since they were looked at.
    pub fn are_reclaims_due(&self) -> bool {
        self.are_reclaims_due && !self.queue.is_empty()
    }

    /// Leases whose owners are to be asked for them now, each at most once.
    pub(super) fn take_reclaims(&mut self) -> Vec<(LeaseId, Owner)> {
        self.are_reclaims_due = false;
        let mut chosen = Vec::new();
        let mut taken = HashSet::new();
        for (_, claim) in self.queue.iter() {
            self.choose(&Want::of(claim), &mut taken, &mut chosen);
        }
        self.mark_reclaimed(&chosen);
        chosen
    }

    /// The same for somebody who waits elsewhere for room on this node.
    pub(super) fn take_reclaims_for(
        &mut self,
        resources: &ResourceRequest,
    ) -> Vec<(LeaseId, Owner)> {
        let mut chosen = Vec::new();
        self.choose(
            &Want {
                resources,
                owner: None,
            },
            &mut HashSet::new(),
            &mut chosen,
        );
        self.mark_reclaimed(&chosen);
        chosen
    }

    fn mark_reclaimed(&mut self, chosen: &[(LeaseId, Owner)]) {
        for (lease, _) in chosen {
            if let Some(grant) = self.grants.get_mut(lease) {
                grant.is_reclaimed = true;
            }
        }
    }

    fn choose(
        &self,
        want: &Want<'_>,
        taken: &mut HashSet<LeaseId>,
        chosen: &mut Vec<(LeaseId, Owner)>,
    ) {
        let short = self.resources().short_of(want.resources);
        if short.is_empty() || !self.resources().could_ever_fit(want.resources) {
            return;
        }
        let mut after = self.resources().clone();
        self.count_on_reclaimed(&mut after, want, taken);
        for (lease, owner) in self.candidates(want, &short) {
            if after.fits(want.resources) {
                return;
            }
            if taken.insert(lease) {
                self.grants[&lease].release_into(&mut after);
                chosen.push((lease, owner));
            }
        }
    }

    /// Leases that were asked back before will come: no more than needed is asked.
    fn count_on_reclaimed(
        &self,
        after: &mut NodeResources,
        want: &Want<'_>,
        taken: &HashSet<LeaseId>,
    ) {
        for (lease, grant) in self.grants() {
            if grant.is_reclaimed && !taken.contains(&lease) && !want.is_of_class(grant) {
                grant.release_into(after);
            }
        }
    }

    /// Leases that hold something of which too little is free, the oldest first.
    fn candidates(&self, want: &Want<'_>, short: &[String]) -> Vec<(LeaseId, Owner)> {
        let mut found: Vec<_> = self
            .grants()
            .filter(|(_, grant)| !grant.is_reclaimed && grant.worker.is_some())
            .filter(|(_, grant)| !want.is_of_class(grant) && holds_any(grant, short))
            .filter_map(|(lease, grant)| match grant.holder {
                Holder::Owner(owner) => Some((grant.since, lease, owner)),
                Holder::Actor(_) => None,
            })
            .collect();
        found.sort_by_key(|(since, lease, _)| (*since, *lease));
        found
            .into_iter()
            .map(|(_, lease, owner)| (lease, owner))
            .collect()
    }
}

fn holds_any(grant: &Grant, names: &[String]) -> bool {
    names.iter().any(|name| match name.as_str() {
        GPU => !grant.allocation.gpu_ids().is_empty(),
        CPU if grant.allocation.is_cpu_lent() => false,
        name => !grant.allocation.resources().get(name).is_zero(),
    })
}
