//! What holds in every state of claims and leases.

use aktis_common::checks::Broken;
use aktis_common::holds;
use aktis_common::resources::{CPU, Quantity};
use rustc_hash::FxHashSet;

use super::LeaseTable;

impl LeaseTable {
    /// `LEASE-4` is about what is answered, which no state shows.
    ///
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_resources()?;
        self.check_places()
    }

    /// LEASE-1 (never-over-commits), LEASE-2 (end-gives-back).
    fn check_resources(&self) -> Result<(), Broken> {
        let here = self.resources();
        for (name, quantity) in here.available().iter() {
            holds!(
                name == CPU || quantity >= Quantity::ZERO,
                "LEASE-1",
                "of {name} {quantity} is free: {here:?}"
            );
        }
        for gpu in here.gpus() {
            holds!(
                gpu.free >= Quantity::ZERO && gpu.free <= Quantity::ONE,
                "LEASE-1",
                "{gpu:?}"
            );
        }
        let mut after = here.clone();
        for grant in self.grants.values() {
            grant.release_into(&mut after);
        }
        holds!(
            after == here.emptied(),
            "LEASE-2",
            "once all leases have ended, {after:?} would be left of {here:?}; {:?}",
            self.grants
        );
        Ok(())
    }

    /// LEASE-3 (one-place).
    fn check_places(&self) -> Result<(), Broken> {
        let mut places = FxHashSet::default();
        for reply_to in self.claims_where(|_, _| true) {
            holds!(
                places.insert(reply_to),
                "LEASE-3",
                "the claim of {reply_to:?} is in two places"
            );
        }
        for placed in &self.placed {
            let grant = self.grants.get(&placed.lease);
            holds!(
                grant.is_some_and(|grant| grant.worker.is_none()),
                "LEASE-3",
                "{placed:?} waits for a worker with {grant:?}"
            );
        }
        let without_worker = self.grants.values().filter(|it| it.worker.is_none());
        let (leases, claims) = (without_worker.count(), self.placed.len());
        holds!(
            leases == claims,
            "LEASE-3",
            "{leases} leases without a worker, {claims} claims that hold one"
        );
        Ok(())
    }
}
