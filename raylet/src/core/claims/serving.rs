//! Claims are decided on, and get their workers.

use std::time::Instant;

use aktis_common::gpu::cuda_visible_devices;
use aktis_common::ids::NodeId;
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{
    AcceleratorAssignment, Address, CreateActorRequest, ForwardedLeaseRequest, Infeasible,
    LeaseGrant, LeaseReclaim, LeaseReply, lease_reply,
};
use bytes::Bytes;
use prost::Message;

use super::requests::cancel_forward;
use super::{Claim, ClaimEvent, Decision, Grant, LeaseTable, Owner, Purpose};
use crate::core::effect::{Effect, PeerMessage};
use crate::core::keys::{LeaseId, ReplyTo};
use crate::core::out::Out;
use crate::core::pool::{Devices, DevicesInUse, Guest, Seat, Wish};

impl LeaseTable {
    /// Decides on the claims that wait, and asks leases back for those that go on waiting.
    pub fn serve(&mut self, out: &mut Out) {
        for (reply_to, sent) in self.take_back_forwarded(out.now()) {
            cancel_forward(reply_to, sent, out);
        }
        for decision in self.pump(out.now()) {
            match decision {
                Decision::Placed(ReplyTo::Call(call)) => out.tell(ClaimEvent::HasRoom(call)),
                Decision::Placed(ReplyTo::Process { .. }) => {}
                Decision::Forward(reply_to, node) => self.forward(reply_to, node, out),
                Decision::Infeasible(reply_to, missing) => {
                    self.call_infeasible(reply_to, &missing, out);
                }
            }
        }
        self.ask_all_back(out);
    }

    fn call_infeasible(&mut self, reply_to: ReplyTo, missing: &str, out: &mut Out) {
        let claim = self.queue.get(&reply_to);
        let is_of_owner = claim.is_some_and(|claim| claim.owner().is_some());
        if let ReplyTo::Call(call) = reply_to {
            // Whoever called decides anew; here nobody waits any more.
            self.withdraw(reply_to);
            if !is_of_owner {
                return out.tell(ClaimEvent::Infeasible(call));
            }
        }
        let message = format!("no node of the cluster can run it: {missing}");
        let outcome = Some(lease_reply::Outcome::Infeasible(Infeasible { message }));
        out.answer_claim(reply_to, LeaseReply { outcome });
    }

    /// Asks leases back for the claims that wait.
    pub fn ask_all_back(&mut self, out: &mut Out) {
        for (lease, owner) in self.take_reclaims() {
            self.ask_back(lease, owner, out);
        }
    }

    fn forward(&self, reply_to: ReplyTo, node: NodeId, out: &mut Out) {
        let Some((
            Claim {
                purpose: Purpose::Tasks { owner, request },
                ..
            },
            sent,
        )) = self.forwarded(reply_to)
        else {
            return;
        };
        let mut request = request.clone();
        request.is_forwarded = true;
        let request = Box::new(ForwardedLeaseRequest {
            request: Some(*request),
            owner: Some(Address::of(owner.node, owner.worker)),
            claim_id: sent.claim_id,
        });
        out.push(Effect::ForwardLease {
            reply_to,
            node,
            request,
        });
    }

    /// An actor waits at the gcs, which knows nothing of leases that are only kept warm: those are asked back as soon as
    /// the actor is made, and the gcs sees the room with the next report.
    pub fn make_room_for_actor(&mut self, request: Bytes, out: &mut Out) {
        let request = CreateActorRequest::decode(request).ok();
        let wanted = request.and_then(|request| request.spec?.resources);
        let Some(Ok(wanted)) = wanted.map(|wanted| ResourceRequest::try_from(&wanted)) else {
            return;
        };
        for (lease, owner) in self.take_reclaims_for(&wanted) {
            self.ask_back(lease, owner, out);
        }
    }

    fn ask_back(&self, lease: LeaseId, owner: Owner, out: &mut Out) {
        let reclaim = LeaseReclaim {
            lease_id: lease.0,
            node_id: self.here.to_wire(),
        };
        if owner.node == self.here {
            let owner = owner.worker;
            return out.tell(ClaimEvent::AskedBack { owner, reclaim });
        }
        let message = PeerMessage::ReclaimLease {
            owner: Address::of(owner.node, owner.worker),
            reclaim,
        };
        out.push(Effect::Tell {
            node: owner.node,
            message,
        });
    }

    /// What the claim at `position` of [`Self::placed`] wants of a worker.
    pub fn wish(&self, position: usize) -> Option<Wish> {
        let placed = self.placed.get(position)?;
        let grant = self.get(placed.lease);
        let devices = grant.map(|grant| Devices::from(&grant.allocation));
        Some(Wish {
            job: placed.claim.job,
            devices: devices.unwrap_or_default(),
            modules: placed.claim.shared_modules().to_vec(),
            guest: match &placed.claim.purpose {
                Purpose::Actor { .. } => Guest::Actor,
                Purpose::Tasks { owner, .. } => Guest::TasksOf(owner.worker),
            },
            memory_limit: grant.and_then(Grant::memory_limit),
        })
    }

    /// For how long the lease has had its resources.
    pub fn held_nanos(&self, lease: LeaseId, now: Instant) -> u64 {
        let held = self
            .get(lease)
            .map(|grant| now.saturating_duration_since(grant.since));
        u64::try_from(held.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What leases leave of these devices.
    pub fn devices_in_use(&self, devices: &Devices) -> DevicesInUse {
        if devices.ids().is_empty() {
            return DevicesInUse::default();
        }
        let gpus = self.resources().gpus().iter();
        DevicesInUse {
            free: gpus
                .filter(|gpu| devices.ids().contains(&gpu.id))
                .map(|gpu| (gpu.id, gpu.free))
                .collect(),
            leased: self
                .grants()
                .filter_map(|(_, grant)| grant.worker)
                .collect(),
        }
    }

    /// What leases that have a worker leave of all devices.
    pub fn devices_seated(&self) -> DevicesInUse {
        let mut after = self.resources().clone();
        for placed in &self.placed {
            if let Some(grant) = self.get(placed.lease) {
                grant.release_into(&mut after);
            }
        }
        DevicesInUse {
            free: after.gpus().iter().map(|gpu| (gpu.id, gpu.free)).collect(),
            leased: self
                .grants()
                .filter_map(|(_, grant)| grant.worker)
                .collect(),
        }
    }

    /// What a worker under this lease is told of its GPUs.
    pub fn accelerators(&self, lease: LeaseId) -> AcceleratorAssignment {
        let grant = self
            .get(lease)
            .expect("LEASE-3: a placed claim has a grant");
        AcceleratorAssignment {
            visible_devices: cuda_visible_devices(grant.allocation.gpu_ids(), &self.gpu_names),
            ..AcceleratorAssignment::from(&grant.allocation)
        }
    }

    /// Tells the owner which worker it has.
    pub fn answer_grant(&self, reply_to: ReplyTo, lease: LeaseId, seat: &Seat, out: &mut Out) {
        let grant = LeaseGrant {
            lease_id: lease.0,
            worker: Some(Address::of(self.here, seat.worker)),
            accelerators: Some(self.accelerators(lease)),
            pid: seat.pid,
        };
        let outcome = Some(lease_reply::Outcome::Grant(grant));
        out.answer_claim(reply_to, LeaseReply { outcome });
    }
}
