//! What holds in every state of a raylet: in each table, and between them.
//!
//! - `LEASE-5 (a-worker-per-lease)`: the worker of a lease is in the pool, and busy with it unless it is ending or lingers; what a
//!   worker is busy with is a lease that names it.
//! - `HOST-3 (a-start-has-its-claim)`: an actor that waits to be hosted has a claim.
//! - `NODE-5 (nobody-unknown)`: nothing is sent to a node that the directory does not list.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::RayletCore;
use super::claims::Holder;
use super::keys::ReplyTo;
use super::pool::{Duty, WorkerState};

impl RayletCore {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.processes.check()?;
        self.pool.check()?;
        self.claims.check()?;
        self.hosting.check()?;
        self.watches.check()?;
        self.pulls.check()?;
        self.deaths.check()?;
        self.node.check()?;
        self.check_leases()?;
        self.check_devices()?;
        self.check_actors()?;
        self.check_connections()?;
        self.check_waiting()?;
        self.check_nodes()
    }

    /// LEASE-5 (a-worker-per-lease).
    fn check_leases(&self) -> Result<(), Broken> {
        for (lease, grant) in self.claims.grants() {
            let Some(worker) = grant.worker else { continue };
            let worker = self.pool.get(worker);
            let is_right = worker.is_some_and(|worker| match worker.state {
                WorkerState::Busy(duty) => duty.lease() == lease,
                WorkerState::Retiring { .. } | WorkerState::Lingering => true,
                WorkerState::Starting { .. } | WorkerState::Idle { .. } => false,
            });
            holds!(is_right, "LEASE-5", "{lease}: {grant:?} names {worker:?}");
        }
        for worker in self.pool.iter() {
            let lease = worker.duty().map(Duty::lease);
            let grant = lease.map(|lease| self.claims.get(lease));
            let is_named =
                |grant: Option<&super::claims::Grant>| grant.and_then(|grant| grant.worker);
            holds!(
                grant.is_none_or(|grant| is_named(grant) == Some(worker.id)),
                "LEASE-5",
                "{worker:?} is busy with {grant:?}"
            );
        }
        Ok(())
    }

    /// POOL-5 (vacated-first).
    fn check_devices(&self) -> Result<(), Broken> {
        self.pool.check_devices(&self.claims.devices_seated())
    }

    /// HOST-1 (one-incarnation), HOST-3 (a-start-has-its-claim).
    fn check_actors(&self) -> Result<(), Broken> {
        for (actor, hosted) in self.hosting.iter() {
            let worker = self.pool.get(hosted.worker);
            holds!(
                worker.is_some_and(|worker| worker.state != WorkerState::Lingering),
                "HOST-1",
                "actor {actor} is {hosted:?}, which is {worker:?}"
            );
        }
        for call in self.hosting.waiting_calls() {
            let claims = self
                .claims
                .claims_where(|reply_to, _| reply_to == ReplyTo::Call(call));
            holds!(
                claims.len() == 1,
                "HOST-3",
                "the start of call {call} has {} claims",
                claims.len()
            );
        }
        Ok(())
    }

    /// POOL-1 (idle-is-connected), and that of all others.
    fn check_connections(&self) -> Result<(), Broken> {
        for worker in self.pool.iter().filter(|worker| !worker.is_cut_off) {
            let Some(connection) = worker.connection else {
                continue;
            };
            let process = self.processes.get(connection);
            holds!(
                process.is_some_and(|process| process.worker == worker.id),
                "POOL-1",
                "{worker:?} is connected as {process:?}"
            );
        }
        Ok(())
    }

    /// NODE-1 (owner-takes-all).
    fn check_waiting(&self) -> Result<(), Broken> {
        let claims = self.claims.claims_where(|_, _| true);
        let waiting = claims.iter().filter_map(|reply_to| reply_to.connection());
        let waiting = waiting
            .chain(self.watches.watchers())
            .chain(self.pulls.readers());
        for connection in waiting {
            holds!(
                self.processes.get(connection).is_some(),
                "NODE-1",
                "connection {connection} waits for something, and is gone"
            );
        }
        let here = self.node.id();
        for (lease, grant) in self.claims.grants() {
            let (Holder::Owner(owner), Some(worker)) = (grant.holder, grant.worker) else {
                continue;
            };
            let is_there = owner.node != here || self.processes.is_connected(owner.worker);
            let worker = self.pool.get(worker);
            let is_ending = worker
                .is_none_or(|worker| worker.is_doomed() || worker.state == WorkerState::Lingering);
            holds!(
                is_there || is_ending,
                "NODE-1",
                "the owner of {lease} is gone, and its worker serves on: {grant:?}, {worker:?}"
            );
        }
        Ok(())
    }

    /// NODE-5 (nobody-unknown).
    fn check_nodes(&self) -> Result<(), Broken> {
        for node in self.claims.other_nodes() {
            holds!(
                self.node.lists(node),
                "NODE-5",
                "claims may be sent to {node}, which is not listed"
            );
        }
        Ok(())
    }
}
