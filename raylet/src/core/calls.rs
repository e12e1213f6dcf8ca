//! What other raylets, the gcs and the command line ask.

use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, InvalidId, JobId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::convert::{ConvertError, placement_request};
use aktis_proto::v1::{
    Address, Failure, KillWorkerRequest, LeaseReclaim, LeaseReply, LeaseRequest, LeaseReturn,
    StartActorReply, StartActorRequest, lease_reply, node_frame, start_actor_reply,
};

use super::claims::{Claim, Owner, Purpose};
use super::effect::{Effect, PeerMessage, StoreEffect};
use super::event::{CallAnswer, CallRequest};
use super::keys::{CallId, LeaseId, ReplyTo};
use super::pool::Worker;
use super::{Effects, RayletCore, answer_claim, notify};

impl RayletCore {
    pub(super) fn on_call(
        &mut self,
        call: CallId,
        request: CallRequest,
        now: Instant,
        effects: &mut Effects,
    ) {
        match request {
            CallRequest::Lease {
                request,
                owner,
                claim_id,
            } => {
                return self.on_forwarded_lease(call, request, &owner, claim_id, now, effects);
            }
            CallRequest::WithdrawClaim { claim_id } => {
                self.on_withdraw_claim(claim_id, now, effects);
            }
            CallRequest::StartActor(request) => {
                return self.on_start_actor(call, *request, now, effects);
            }
            CallRequest::Status => {
                let answer = CallAnswer::Status(Box::new(self.node_info()));
                return effects.push(Effect::Answer { call, answer });
            }
            CallRequest::ReturnLease(LeaseReturn {
                lease_id,
                is_worker_unusable,
                ..
            }) => {
                self.return_lease(LeaseId(lease_id), is_worker_unusable, now, effects);
            }
            CallRequest::ReclaimLease { owner, reclaim } => {
                self.on_reclaim(&owner, reclaim, effects);
            }
            CallRequest::KillWorker(request) => self.on_kill_worker(&request, now, effects),
            CallRequest::FreeObjects(request) => {
                let object_ids = request.object_ids;
                effects.push(Effect::Store(StoreEffect::Free { object_ids }));
            }
        }
        effects.push(Effect::Answer {
            call,
            answer: CallAnswer::Done,
        });
    }

    /// Whoever made the call is gone: what it waits for is withdrawn.
    pub(super) fn on_call_dropped(&mut self, call: CallId, effects: &mut Effects) {
        self.actors.leave(call);
        self.withdraw_claim(ReplyTo::Call(call), effects);
    }

    fn on_forwarded_lease(
        &mut self,
        call: CallId,
        mut request: LeaseRequest,
        owner: &Address,
        claim_id: u64,
        now: Instant,
        effects: &mut Effects,
    ) {
        request.is_forwarded = true;
        let reply_to = ReplyTo::Call(call);
        match (owner.node(), owner.worker()) {
            (Ok(node), Ok(worker)) => {
                let owner = Owner { node, worker };
                self.claim_for_owner(reply_to, owner, request, claim_id, now, effects);
            }
            (Err(error), _) | (_, Err(error)) => {
                let message = format!("owner of a forwarded request: {error}");
                Self::fail_claim(reply_to, ErrorCode::InvalidArgument, &message, effects);
            }
        }
    }

    /// Another node answered a lease request that was forwarded to it.
    pub(super) fn on_forward_ended(
        &mut self,
        reply_to: ReplyTo,
        claim_id: u64,
        outcome: Result<LeaseReply, String>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let sent = self
            .leases
            .forwarded(reply_to)
            .map(|(_, sent)| sent.claim_id);
        let is_awaited = sent == Some(claim_id);
        match outcome {
            Ok(reply) if !is_awaited => give_back(reply, effects),
            Ok(reply) if serves_nobody(&reply) => self.leases.forward_failed(reply_to, now),
            Ok(reply) => {
                self.leases.forward_answered(reply_to);
                answer_claim(reply_to, reply, effects);
            }
            // Not reachable: the claim is decided anew.
            Err(_) if is_awaited => self.leases.forward_failed(reply_to, now),
            Err(_) => {}
        }
    }

    /// Another raylet withdraws a claim; a grant for it may have crossed that.
    fn on_withdraw_claim(&mut self, claim_id: u64, now: Instant, effects: &mut Effects) {
        let is_meant = |claim: &Claim| claim.claim_id == claim_id;
        for reply_to in self.leases.claims_where(|_, claim| is_meant(claim)) {
            self.withdraw_claim(reply_to, effects);
            Self::fail_claim(reply_to, ErrorCode::Cancelled, "it was withdrawn", effects);
        }
        for lease in self.leases.leases_where(|grant| grant.claim_id == claim_id) {
            self.return_lease(lease, false, now, effects);
        }
    }

    fn on_reclaim(&mut self, owner: &Address, reclaim: LeaseReclaim, effects: &mut Effects) {
        let connection = owner
            .worker()
            .ok()
            .and_then(|id| self.processes.connection_of(id));
        if let Some(connection) = connection {
            notify(connection, node_frame::Kind::LeaseReclaim(reclaim), effects);
        }
    }

    pub(super) fn on_start_actor(
        &mut self,
        call: CallId,
        request: StartActorRequest,
        now: Instant,
        effects: &mut Effects,
    ) {
        if request.generation < self.generation {
            // It is for an incarnation of this node that the gcs has given up: to be placed anew.
            return answer_start(call, start_actor_reply::Outcome::NoRoom(true), effects);
        }
        if request.generation > self.generation || self.is_ending_here(&request) {
            // The gcs has taken this node in again, but this node does not know yet what it is to keep; or the worker that was
            // the actor is killed but not gone, and must not be taken for the new one (`HOST-1`).
            return self.actors.hold(call, request);
        }
        let (actor, claim) = match actor_claim(request, now) {
            Ok(claim) => claim,
            Err(error) => {
                let failure = Failure::of(ErrorCode::InvalidArgument, error.to_string());
                let outcome = start_actor_reply::Outcome::Failure(failure);
                return answer_start(call, outcome, effects);
            }
        };
        // The gcs asks again when it did not get the first answer.
        if let Some(hosted) = self.actors.get(actor) {
            let place = Address::of(self.settings.node_id, hosted.worker);
            let pid = self
                .pool
                .get(hosted.worker)
                .and_then(|worker| worker.pid)
                .unwrap_or(0);
            let outcome = Some(start_actor_reply::Outcome::Address(place));
            let answer = CallAnswer::ActorStart(StartActorReply { outcome, pid });
            return effects.push(Effect::Answer { call, answer });
        }
        if let Some(earlier) = self.actors.waiting_start(actor) {
            self.give_up_start(earlier, effects);
        }
        self.pool.note_demand();
        self.pool.share_modules(claim.shared_modules());
        self.actors
            .await_room(call, actor, now + self.settings.actor_patience);
        self.leases.submit(ReplyTo::Call(call), claim);
    }

    /// Whether the worker that is the actor is about to end.
    fn is_ending_here(&self, request: &StartActorRequest) -> bool {
        let spec = request.start.as_ref().and_then(|start| start.spec.as_ref());
        let hosted = spec
            .and_then(|spec| ActorId::from_bytes(&spec.actor_id).ok())
            .and_then(|actor| self.actors.get(actor));
        hosted
            .and_then(|hosted| self.pool.get(hosted.worker))
            .is_some_and(Worker::is_doomed)
    }

    fn on_kill_worker(&mut self, request: &KillWorkerRequest, now: Instant, effects: &mut Effects) {
        let Ok(worker) = WorkerId::from_bytes(&request.worker_id) else {
            return;
        };
        let meant = ActorId::from_bytes(&request.actor_id).ok();
        let hosts_it = |actor| {
            self.actors
                .get(actor)
                .is_some_and(|hosted| hosted.worker == worker)
        };
        if meant.is_some_and(|actor| !hosts_it(actor)) {
            return;
        }
        self.pool.note_kill(worker, &request.cause);
        if request.is_final {
            self.pool.note_final(worker);
        }
        if request.is_graceful {
            self.retire(worker, &request.cause, now, effects);
        } else {
            self.kill(worker, &request.cause, effects);
        }
    }
}

/// A grant that nobody waits for any more goes back to the node that made it.
fn give_back(reply: LeaseReply, effects: &mut Effects) {
    let Some(lease_reply::Outcome::Grant(grant)) = reply.outcome else {
        return;
    };
    let Some(Ok(node)) = grant.worker.as_ref().map(Address::node) else {
        return;
    };
    let lease = LeaseReturn {
        lease_id: grant.lease_id,
        node_id: node.to_wire(),
        is_worker_unusable: false,
    };
    effects.push(Effect::Tell {
        node,
        message: PeerMessage::ReturnLease(lease),
    });
}

fn answer_start(call: CallId, outcome: start_actor_reply::Outcome, effects: &mut Effects) {
    let outcome = Some(outcome);
    let answer = CallAnswer::ActorStart(StartActorReply { outcome, pid: 0 });
    effects.push(Effect::Answer { call, answer });
}

/// Whether the other node will not serve the claim, though another one may.
fn serves_nobody(reply: &LeaseReply) -> bool {
    match &reply.outcome {
        Some(lease_reply::Outcome::Infeasible(_)) | None => true,
        Some(lease_reply::Outcome::Failure(failure)) => {
            failure.error_code() == ErrorCode::Cancelled
        }
        Some(lease_reply::Outcome::Grant(_)) => false,
    }
}

/// The claim that the start of an actor makes.
fn actor_claim(request: StartActorRequest, now: Instant) -> Result<(ActorId, Claim), ConvertError> {
    let start = request.start.unwrap_or_default();
    let spec = start.spec.as_ref();
    let id = |bytes: Option<&bytes::Bytes>| bytes.map_or(&[][..], |bytes| &bytes[..]).to_vec();
    let actor = ActorId::from_bytes(&id(spec.map(|spec| &spec.actor_id))).map_err(wrong_id)?;
    let job = JobId::from_bytes(&id(spec.map(|spec| &spec.job_id))).map_err(wrong_id)?;
    let wanted = spec
        .and_then(|spec| spec.resources.clone())
        .unwrap_or_default();
    let mut placement = placement_request(&wanted)?;
    // The gcs has chosen this node.
    placement.strategy = aktis_common::scheduling::Strategy::Default;
    let running = start
        .options
        .as_ref()
        .and_then(|options| options.running_resources.as_ref())
        .map(ResourceRequest::try_from)
        .transpose()
        .map_err(ConvertError::Request)?;
    let claim = Claim {
        job,
        placement,
        is_here_only: true,
        claim_id: 0,
        since: now,
        is_told_infeasible: false,
        is_hopeless: false,
        waits_for: String::new(),
        purpose: Purpose::Actor {
            start: Box::new(start),
            args_payload: request.args_payload,
            running,
        },
    };
    Ok((actor, claim))
}

fn wrong_id(error: InvalidId) -> ConvertError {
    ConvertError::Id(error)
}
