//! Claims meet workers.

use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::gpu::cuda_visible_devices;
use aktis_common::ids::{ActorId, NodeId, WorkerId};
use aktis_common::resources::{Quantity, ResourceRequest};
use aktis_proto::v1::{
    AcceleratorAssignment, Address, CreateActorRequest, Failure, ForwardedLeaseRequest, Infeasible,
    LeaseGrant, LeaseReclaim, LeaseReply, StartActor, StartActorReply, lease_reply, node_frame,
    start_actor_reply,
};
use bytes::Bytes;
use prost::Message;
use rustc_hash::FxHashSet;

use super::claims::{Claim, Decision, Owner, Placed, Purpose};
use super::effect::{Effect, PeerMessage};
use super::event::CallAnswer;
use super::frames::cancel_forward;
use super::hosting::Hosted;
use super::keys::{CallId, LeaseId, ReplyTo};
use super::pool::{Devices, Duty, Guest};
use super::{Effects, RayletCore, answer_claim, notify};

impl RayletCore {
    /// Decides on the claims that wait, and asks leases back for those that go on waiting.
    pub(super) fn serve_claims(&mut self, now: Instant, effects: &mut Effects) {
        for (reply_to, sent) in self.leases.take_back_forwarded(now) {
            cancel_forward(reply_to, sent, effects);
        }
        for decision in self.leases.pump(now) {
            match decision {
                Decision::Placed(reply_to) => self.note_room(reply_to, now),
                Decision::Forward(reply_to, node) => self.forward(reply_to, node, effects),
                Decision::Infeasible(reply_to, missing) => {
                    let message = format!("no node of the cluster can run it: {missing}");
                    let outcome = lease_reply::Outcome::Infeasible(Infeasible { message });
                    answer_claim(
                        reply_to,
                        LeaseReply {
                            outcome: Some(outcome),
                        },
                        effects,
                    );
                    // The other raylet decides anew; here nobody waits any more.
                    if let ReplyTo::Call(_) = reply_to {
                        self.leases.withdraw(reply_to);
                    }
                }
            }
        }
        self.ask_leases_back(effects);
        self.report.want();
    }

    /// Asks leases back for the claims that wait.
    pub(super) fn ask_leases_back(&mut self, effects: &mut Effects) {
        for (lease, owner) in self.leases.take_reclaims() {
            self.reclaim(lease, owner, effects);
        }
    }

    /// An actor's start has its resources: from now on only the worker's start limits it.
    fn note_room(&mut self, reply_to: ReplyTo, now: Instant) {
        if let ReplyTo::Call(call) = reply_to {
            // Twice the time of a start: a worker that is overdue fails the claim before.
            self.actors
                .has_room(call, now + self.settings.pool.start_timeout * 2);
        }
    }

    fn forward(&mut self, reply_to: ReplyTo, node: NodeId, effects: &mut Effects) {
        let Some((
            Claim {
                purpose: Purpose::Tasks { owner, request },
                ..
            },
            sent,
        )) = self.leases.forwarded(reply_to)
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
        effects.push(Effect::ForwardLease {
            reply_to,
            node,
            request,
        });
    }

    /// An actor waits at the gcs, which knows nothing of leases that are only kept warm: those are asked back as soon as
    /// the actor is made, and the gcs sees the room with the next report.
    pub(super) fn make_room_for_actor(&mut self, request: Bytes, effects: &mut Effects) {
        let request = CreateActorRequest::decode(request).ok();
        let wanted = request.and_then(|request| request.spec?.resources);
        let Some(Ok(wanted)) = wanted.map(|wanted| ResourceRequest::try_from(&wanted)) else {
            return;
        };
        for (lease, owner) in self.leases.take_reclaims_for(&wanted) {
            self.reclaim(lease, owner, effects);
        }
    }

    fn reclaim(&mut self, lease: LeaseId, owner: Owner, effects: &mut Effects) {
        let here = self.settings.node_id;
        let reclaim = LeaseReclaim {
            lease_id: lease.0,
            node_id: here.to_wire(),
        };
        if owner.node != here {
            let message = PeerMessage::ReclaimLease {
                owner: Address::of(owner.node, owner.worker),
                reclaim,
            };
            effects.push(Effect::Tell {
                node: owner.node,
                message,
            });
        } else if let Some(connection) = self.processes.connection_of(owner.worker) {
            notify(connection, node_frame::Kind::LeaseReclaim(reclaim), effects);
        }
    }

    /// Gives idle workers to the claims that hold resources. Gives how many of these still need a worker to be forked; the
    /// others have one, and wait for their GPUs.
    pub(super) fn seat_claims(&mut self, now: Instant, effects: &mut Effects) -> usize {
        let mut position = 0;
        let mut without_worker = 0;
        while let Some(placed) = self.leases.placed().get(position) {
            let grant = self.leases.get(placed.lease);
            let devices = grant.map(|grant| Devices::from(&grant.allocation));
            let devices = devices.unwrap_or_default();
            let guest = match &placed.claim.purpose {
                Purpose::Actor { .. } => Guest::Actor,
                Purpose::Tasks { owner, .. } => Guest::TasksOf(owner.worker),
            };
            let idle = self.pool.find_idle(
                placed.claim.job,
                &devices,
                placed.claim.shared_modules(),
                guest,
            );
            // Also when no worker is ready: it may take as long to start as the others to go.
            let is_vacated = self.vacate(devices.ids(), idle, now, effects);
            match idle {
                Some(worker) if is_vacated => {
                    let placed = self.leases.attach(position, worker);
                    self.seat(placed, worker, effects);
                }
                found => {
                    without_worker += usize::from(found.is_none());
                    position += 1;
                }
            }
        }
        without_worker
    }

    /// Asks idle workers to end that hold memory which was granted, as far as the `guest` that is to have it does not hold it
    /// itself. True once no process holds any of it (`POOL-5`).
    fn vacate(
        &mut self,
        gpu_ids: &[u32],
        guest: Option<WorkerId>,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        if gpu_ids.is_empty() {
            return true;
        }
        let leased: FxHashSet<WorkerId> = self
            .leases
            .grants()
            .filter_map(|(_, grant)| grant.worker)
            .collect();
        let gpus = self.leases.resources().gpus().iter();
        let devices: Vec<(u32, Quantity)> = gpus
            .filter(|gpu| gpu_ids.contains(&gpu.id))
            .map(|gpu| (gpu.id, gpu.free))
            .collect();
        let mut is_vacated = true;
        for (device, free) in devices {
            let held = self
                .pool
                .held_of(device, guest, |worker| leased.contains(&worker));
            let Some(rivals) = held.too_much(free) else {
                continue;
            };
            is_vacated = false;
            for rival in rivals {
                self.retire(rival, "its GPUs were given to another worker", now, effects);
            }
        }
        is_vacated
    }

    fn seat(&mut self, placed: Placed, worker: WorkerId, effects: &mut Effects) {
        let Placed {
            reply_to,
            claim,
            lease,
        } = placed;
        let grant = self
            .leases
            .get(lease)
            .expect("LEASE-3: a placed claim has a grant");
        let devices = Devices::from(&grant.allocation);
        let accelerators = AcceleratorAssignment {
            visible_devices: cuda_visible_devices(devices.ids(), &self.settings.gpu_names),
            ..AcceleratorAssignment::from(&grant.allocation)
        };
        match claim.purpose {
            Purpose::Tasks { .. } => {
                self.pool
                    .assign(worker, Duty::Lease(lease), claim.job, &devices);
                let grant = LeaseGrant {
                    lease_id: lease.0,
                    worker: Some(Address::of(self.settings.node_id, worker)),
                    accelerators: Some(accelerators),
                    pid: self
                        .pool
                        .get(worker)
                        .and_then(|worker| worker.pid)
                        .unwrap_or(0),
                };
                let outcome = Some(lease_reply::Outcome::Grant(grant));
                answer_claim(reply_to, LeaseReply { outcome }, effects);
            }
            Purpose::Actor {
                mut start,
                args_payload,
                ..
            } => {
                let actor = actor_of(&start);
                self.pool
                    .assign(worker, Duty::Actor(actor, lease), claim.job, &devices);
                let class_name = start
                    .options
                    .as_ref()
                    .map(|options| options.class_name.as_str());
                self.pool.set_label(worker, class_name.unwrap_or_default());
                start.accelerators = Some(accelerators);
                self.begin_actor(reply_to, worker, lease, *start, args_payload, effects);
            }
        }
    }

    fn begin_actor(
        &mut self,
        reply_to: ReplyTo,
        worker: WorkerId,
        lease: LeaseId,
        start: StartActor,
        args_payload: Bytes,
        effects: &mut Effects,
    ) {
        let hosted = Hosted {
            worker,
            lease,
            restarts: start.restarts,
        };
        self.actors.host(actor_of(&start), hosted);
        let seated = self
            .pool
            .get(worker)
            .expect("a seated worker is in the pool");
        let pid = seated.pid.unwrap_or(0);
        if let Some(connection) = seated.connection {
            effects.push(Effect::Send {
                connection,
                request_id: 0,
                kind: node_frame::Kind::StartActor(start),
                payload: args_payload,
            });
        }
        if let ReplyTo::Call(call) = reply_to {
            self.actors.leave(call);
            let place = Address::of(self.settings.node_id, worker);
            let outcome = Some(start_actor_reply::Outcome::Address(place));
            let answer = CallAnswer::ActorStart(StartActorReply { outcome, pid });
            effects.push(Effect::Answer { call, answer });
        }
    }

    /// Actor starts for which nothing became free in time: the gcs is to place them anew.
    pub(super) fn give_up_overdue_starts(&mut self, now: Instant, effects: &mut Effects) {
        for call in self.actors.overdue(now) {
            self.give_up_start(call, effects);
        }
    }

    /// A start that waits is withdrawn, and answered: the gcs is to place the actor anew.
    pub(super) fn give_up_start(&mut self, call: CallId, effects: &mut Effects) {
        self.actors.leave(call);
        self.leases.withdraw(ReplyTo::Call(call));
        let outcome = Some(start_actor_reply::Outcome::NoRoom(true));
        let answer = CallAnswer::ActorStart(StartActorReply { outcome, pid: 0 });
        effects.push(Effect::Answer { call, answer });
    }

    /// A lease request that ends without a grant.
    pub(super) fn fail_claim(
        reply_to: ReplyTo,
        code: ErrorCode,
        message: &str,
        effects: &mut Effects,
    ) {
        let outcome = Some(lease_reply::Outcome::Failure(Failure::of(code, message)));
        answer_claim(reply_to, LeaseReply { outcome }, effects);
    }
}

/// The actor that a start is for. Checked where the start came in.
pub(super) fn actor_of(start: &StartActor) -> ActorId {
    let spec = start.spec.as_ref();
    spec.and_then(|spec| ActorId::from_bytes(&spec.actor_id).ok())
        .unwrap_or(ActorId::NIL)
}
