//! Whoever claims or serves is gone: claims and leases go with them.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{JobId, WorkerId};

use super::{ClaimEvent, Holder, LeaseTable, Owner, Placed, Purpose};
use crate::core::effect::Effect;
use crate::core::keys::{ConnectionId, ReplyTo};
use crate::core::out::Out;

impl LeaseTable {
    /// Owners are gone: what they asked for goes with them, and what they leased (`NODE-1`).
    pub fn owners_gone(&mut self, is_gone: impl Fn(Owner) -> bool, cause: &str, out: &mut Out) {
        for reply_to in self.claims_where(|_, claim| claim.owner().is_some_and(&is_gone)) {
            self.cancel(reply_to, out);
            // The raylet that forwarded it may live, and decides anew.
            if let ReplyTo::Call(_) = reply_to {
                out.fail_claim(reply_to, ErrorCode::Cancelled, cause);
            }
        }
        let leases = self
            .leases_where(|grant| matches!(grant.holder, Holder::Owner(owner) if is_gone(owner)));
        for lease in leases {
            match self.get(lease).and_then(|grant| grant.worker) {
                // The worker may be running the owner's tasks: it ends, and its lease with it.
                Some(worker) => out.tell(ClaimEvent::Orphaned {
                    worker,
                    cause: cause.to_owned(),
                }),
                None => {
                    self.end(lease);
                }
            }
        }
    }

    /// A process is gone, and waits for nothing any more.
    pub fn waiter_gone(&mut self, connection: ConnectionId, out: &mut Out) {
        for reply_to in self.claims_where(|waiter, _| waiter.connection() == Some(connection)) {
            self.cancel(reply_to, out);
        }
    }

    /// A job is over, and its owners claim nothing any more.
    pub fn job_over(&mut self, job: JobId, out: &mut Out) {
        for reply_to in self.claims_where(|_, claim| claim.job == job && claim.owner().is_some()) {
            self.cancel(reply_to, out);
        }
    }

    /// The process of a worker has ended: what it held is free (`NODE-2`).
    pub fn worker_ended(&mut self, worker: WorkerId) {
        for lease in self.leases_where(|grant| grant.worker == Some(worker)) {
            self.end(lease);
        }
    }

    /// A worker runs nothing any more. What it held is free, but for GPUs whose memory it may still use.
    pub fn worker_lingers(&mut self, worker: WorkerId, holds_devices: bool) {
        for lease in self.leases_where(|grant| grant.worker == Some(worker)) {
            let grant = self.get(lease);
            let has_gpus = grant.is_some_and(|grant| !grant.allocation.gpu_ids().is_empty());
            if !(has_gpus && holds_devices) {
                self.end(lease);
            }
        }
    }

    /// No worker could be started: the claim that has waited longest for one fails. False if there is none.
    pub fn fail_first(&mut self, worker: Option<WorkerId>, cause: &str, out: &mut Out) -> bool {
        let Some(Placed {
            reply_to, claim, ..
        }) = self.drop_placed(0)
        else {
            return false;
        };
        if let ReplyTo::Call(call) = reply_to {
            out.tell(ClaimEvent::Failed(call));
        }
        out.push(Effect::FailWithLog {
            reply_to,
            is_actor_start: matches!(claim.purpose, Purpose::Actor { .. }),
            worker,
            cause: cause.to_owned(),
        });
        true
    }

    /// No worker can be started: all claims fail that wait for one.
    pub fn fail_all(&mut self, cause: &str, out: &mut Out) {
        while self.fail_first(None, cause, out) {}
    }
}
