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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use aktis_common::ids::WorkerId;
    use aktis_common::resources::GPU;

    use super::*;
    use crate::core::claims::tests::{claim, cpus, key, lease, request, table};
    use crate::core::keys::LeaseId;

    /// The label of what is broken once `spoil` has changed a table with one lease of a CPU and half a GPU.
    fn broken(spoil: impl FnOnce(&mut LeaseTable, LeaseId)) -> &'static str {
        let now = Instant::now();
        let mut table = table(2, 1, now);
        let wanted = request(&[(CPU, 1.0), (GPU, 0.5)]);
        let lease = lease(&mut table, 1, claim(1, wanted, now), now);
        assert_eq!(table.check(), Ok(()));
        spoil(&mut table, lease);
        table.check().unwrap_err().label
    }

    #[test]
    fn device_of_which_more_is_free_than_there_is_is_seen() {
        let label = broken(|table, lease| {
            let grant = table.grants[&lease].clone();
            for _ in 0..2 {
                grant.release_into(table.resources_mut());
            }
        });
        assert_eq!(label, "LEASE-1");
    }

    #[test]
    fn lease_that_ends_without_giving_back_is_seen() {
        let label = broken(|table, lease| {
            table.grants.remove(&lease);
        });
        assert_eq!(label, "LEASE-2");
    }

    #[test]
    fn claim_in_two_places_or_without_its_lease_is_seen() {
        let now = Instant::now();
        let twice = broken(|table, _| {
            table.submit(key(2), cpus(1, 1.0, now));
            table.pump(now);
            table.submit(key(2), cpus(1, 1.0, now));
        });
        assert_eq!(twice, "LEASE-3");
        let without_lease = broken(|table, _| {
            table.submit(key(2), cpus(1, 1.0, now));
            table.pump(now);
            table.placed.clear();
        });
        assert_eq!(without_lease, "LEASE-3");
        let seated = broken(|table, _| {
            table.submit(key(2), cpus(1, 1.0, now));
            table.pump(now);
            let lease = table.placed[0].lease;
            table.grants.get_mut(&lease).unwrap().worker = Some(WorkerId::NIL);
        });
        assert_eq!(seated, "LEASE-3");
    }
}
