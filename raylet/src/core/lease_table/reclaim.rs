//! Which leases to ask back when requests wait.
//!
//! Owners keep leases warm. As soon as somebody else waits for what such a lease holds, its owner is asked to return it
//! after the task that runs; it may ask again and is then served in turn. So owners share a full node task by task.

use std::collections::HashSet;

use super::{Claim, Grant, Holder, LeaseTable, Owner};
use crate::core::keys::LeaseId;

impl LeaseTable {
    /// Leases whose owners are to be asked for them now, each at most once.
    pub fn take_reclaims(&mut self) -> Vec<(LeaseId, Owner)> {
        let mut chosen: Vec<(LeaseId, Owner)> = Vec::new();
        let mut taken: HashSet<LeaseId> = HashSet::new();
        for (_, claim) in self.queue.iter() {
            let short = self.resources().short_of(claim.resources());
            if short.is_empty() || !self.resources().could_ever_fit(claim.resources()) {
                continue;
            }
            let mut after = self.resources().clone();
            self.count_on_reclaimed(&mut after, claim, &taken);
            for (lease, owner) in self.candidates(claim, &short) {
                if after.fits(claim.resources()) {
                    break;
                }
                if taken.insert(lease) {
                    self.grants[&lease].release_into(&mut after);
                    chosen.push((lease, owner));
                }
            }
        }
        for (lease, _) in &chosen {
            if let Some(grant) = self.grants.get_mut(lease) {
                grant.is_reclaimed = true;
            }
        }
        chosen
    }

    /// Leases that were asked back before will come: no more than needed is asked.
    fn count_on_reclaimed(
        &self,
        after: &mut aktis_common::resources::NodeResources,
        claim: &Claim,
        taken: &HashSet<LeaseId>,
    ) {
        for (lease, grant) in self.grants() {
            if grant.is_reclaimed && !taken.contains(&lease) && !is_same_class(grant, claim) {
                grant.release_into(after);
            }
        }
    }

    /// Leases that hold something the claim is short of, the oldest first.
    fn candidates(&self, claim: &Claim, short: &[String]) -> Vec<(LeaseId, Owner)> {
        let mut found: Vec<_> = self
            .grants()
            .filter(|(_, grant)| !grant.is_reclaimed && grant.worker.is_some())
            .filter(|(_, grant)| !is_same_class(grant, claim) && holds_any(grant, short))
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

/// An owner that asks for more of what it has need not return any of it.
fn is_same_class(grant: &Grant, claim: &Claim) -> bool {
    let holder = match grant.holder {
        Holder::Owner(owner) => Some(owner),
        Holder::Actor(_) => None,
    };
    claim.owner().is_some() && claim.owner() == holder && grant.request == *claim.resources()
}

fn holds_any(grant: &Grant, names: &[String]) -> bool {
    use aktis_common::resources::{CPU, GPU};
    names.iter().any(|name| match name.as_str() {
        GPU => !grant.allocation.gpu_ids().is_empty(),
        CPU if grant.allocation.is_cpu_lent() => false,
        name => !grant.allocation.resources().get(name).is_zero(),
    })
}
