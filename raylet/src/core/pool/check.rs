//! What holds in every state of the pool.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::{DevicesInUse, Worker, WorkerPool, WorkerState};

impl WorkerPool {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_idle()?;
        self.check_names()?;
        for worker in self.workers.values() {
            self.check_worker(worker)?;
        }
        Ok(())
    }

    /// POOL-1 (idle-is-connected).
    fn check_idle(&self) -> Result<(), Broken> {
        let is_idle = |worker: &&Worker| matches!(worker.state, WorkerState::Idle { .. });
        let idle = self.workers.values().filter(is_idle).count();
        holds!(
            idle == self.idle.len(),
            "POOL-1",
            "{idle} workers are idle, {} on the stack",
            self.idle.len()
        );
        for (position, id) in self.idle.iter().enumerate() {
            let worker = self.workers.get(id);
            let may_serve = worker.is_some_and(|worker| {
                is_idle(&worker)
                    && worker.connection.is_some()
                    && worker.exit.is_none()
                    && !worker.is_cut_off
            });
            let is_there_once = !self.idle[..position].contains(id);
            holds!(
                may_serve && is_there_once,
                "POOL-1",
                "{id} is on the idle stack as {worker:?}"
            );
        }
        Ok(())
    }

    /// POOL-6 (one-under-each-name).
    fn check_names(&self) -> Result<(), Broken> {
        let starting = self
            .workers
            .values()
            .filter(|worker| matches!(worker.state, WorkerState::Starting { .. }))
            .count();
        holds!(
            starting == self.starting,
            "POOL-6",
            "{starting} workers are starting, counted {}",
            self.starting
        );
        let known = self.workers.values().filter(|it| it.pid.is_some()).count();
        let sizes = (self.workers.len(), self.by_token.len(), self.by_pid.len());
        holds!(
            sizes.0 == sizes.1 && known == sizes.2,
            "POOL-6",
            "(workers, tokens, process ids) {sizes:?}, of {known} workers the process is known"
        );
        for (id, worker) in &self.workers {
            let by_token = self.by_token.get(&worker.token);
            let by_pid = worker.pid.map(|pid| self.by_pid.get(&pid));
            holds!(
                worker.id == *id && by_token == Some(id) && by_pid.is_none_or(|by| by == Some(id)),
                "POOL-6",
                "{id} is {worker:?}; its token leads to {by_token:?}, its process to {by_pid:?}"
            );
        }
        Ok(())
    }

    /// POOL-5 (vacated-first): of no device more is held than there is. `seated`: what leases with a worker leave.
    ///
    /// # Errors
    /// Which device is held by too many.
    pub fn check_devices(&self, seated: &DevicesInUse) -> Result<(), Broken> {
        for (device, free) in &seated.free {
            let held = self.held_of(*device, None, |worker| seated.leased.contains(&worker));
            holds!(
                held.too_much(*free).is_none(),
                "POOL-5",
                "leases leave {free} of GPU {device}, and more is held: {held:?}"
            );
        }
        Ok(())
    }

    /// POOL-2 (one-job), POOL-3 (gpus-for-life), POOL-4 (modules-only-grow), as far as one state shows it.
    fn check_worker(&self, worker: &Worker) -> Result<(), Broken> {
        holds!(
            worker.has_served == worker.job.is_some(),
            "POOL-2",
            "{worker:?}"
        );
        holds!(
            worker.duty().is_none() || worker.has_served,
            "POOL-2",
            "{worker:?}"
        );
        holds!(
            worker.has_served || worker.devices.ids().is_empty(),
            "POOL-3",
            "{worker:?}"
        );
        holds!(
            worker.shared_modules <= self.shared_modules.len(),
            "POOL-4",
            "{worker:?} shares more than {:?}",
            self.shared_modules
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use aktis_common::ids::WorkerId;
    use aktis_common::resources::Quantity;

    use super::*;
    use crate::core::keys::LeaseId;
    use crate::core::pool::Duty;
    use crate::core::pool::Guest;
    use crate::core::pool::tests::{JOB, connect, pool, whole, wish};

    /// The label of what is broken once `spoil` has changed the pool and its one idle worker.
    fn broken(spoil: impl FnOnce(&mut WorkerPool, WorkerId)) -> &'static str {
        let mut pool = pool();
        let worker = connect(&mut pool, Instant::now());
        assert_eq!(pool.check(), Ok(()));
        spoil(&mut pool, worker);
        pool.check().unwrap_err().label
    }

    fn with_worker(spoil: impl FnOnce(&mut Worker)) -> &'static str {
        broken(|pool, worker| spoil(pool.workers.get_mut(&worker).unwrap()))
    }

    #[test]
    fn idle_worker_that_cannot_serve_is_seen() {
        assert_eq!(with_worker(|worker| worker.connection = None), "POOL-1");
        assert_eq!(with_worker(|worker| worker.is_cut_off = true), "POOL-1");
        assert_eq!(broken(|pool, _| pool.idle.clear()), "POOL-1");
    }

    #[test]
    fn worker_that_serves_nobody_s_job_is_seen() {
        assert_eq!(with_worker(|worker| worker.job = Some(JOB)), "POOL-2");
    }

    #[test]
    fn fresh_worker_with_devices_is_seen() {
        assert_eq!(with_worker(|worker| worker.devices = whole(&[1])), "POOL-3");
    }

    #[test]
    fn worker_that_shares_more_than_there_is_is_seen() {
        assert_eq!(with_worker(|worker| worker.shared_modules = 1), "POOL-4");
    }

    #[test]
    fn worker_that_is_not_found_or_not_counted_is_seen() {
        assert_eq!(broken(|pool, _| pool.by_token.clear()), "POOL-6");
        assert_eq!(broken(|pool, _| pool.by_pid.clear()), "POOL-6");
        assert_eq!(broken(|pool, _| pool.starting = 1), "POOL-6");
    }

    #[test]
    fn device_that_is_held_by_too_many_is_seen() {
        let (mut pool, now) = (pool(), Instant::now());
        let worker = connect(&mut pool, now);
        pool.assign(
            worker,
            Duty::Lease(LeaseId(1)),
            &wish(JOB, &whole(&[1]), &[], Guest::Actor),
        );
        pool.release(worker, now);
        let mut seated = DevicesInUse {
            free: vec![(1, Quantity::ONE)],
            ..DevicesInUse::default()
        };
        assert_eq!(pool.check_devices(&seated), Ok(()));
        // Somebody has a lease for it as well.
        seated.free = vec![(1, Quantity::ZERO)];
        assert_eq!(pool.check_devices(&seated).unwrap_err().label, "POOL-5");
    }
}
