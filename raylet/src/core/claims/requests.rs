//! Owners ask for leases, withdraw what they asked for, and give leases back.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{InvalidId, JobId, NodeId, WorkerId};
use aktis_proto::convert::{ConvertError, placement_request};
use aktis_proto::v1::{Address, LeaseReply, LeaseRequest, LeaseReturn, lease_reply};

use super::{Claim, ClaimEvent, Holder, LeaseTable, Owner, Purpose, Sent, Withdrawn};
use crate::core::effect::{Effect, PeerMessage};
use crate::core::keys::{LeaseId, ReplyTo};
use crate::core::out::Out;

impl LeaseTable {
    /// Enters the request of an owner of this node, or of another one that forwarded it under `claim_id`.
    pub fn claim(
        &mut self,
        reply_to: ReplyTo,
        owner: Owner,
        request: LeaseRequest,
        claim_id: u64,
        out: &mut Out,
    ) {
        match task_claim(owner, request, claim_id, out) {
            Ok(claim) => {
                out.tell(ClaimEvent::Demand);
                self.submit(reply_to, claim);
            }
            Err(error) => {
                out.fail_claim(reply_to, ErrorCode::InvalidArgument, error.to_string());
            }
        }
    }

    /// Another raylet forwards the request of an owner.
    pub fn claim_for_peer(
        &mut self,
        reply_to: ReplyTo,
        mut request: LeaseRequest,
        owner: &Address,
        claim_id: u64,
        out: &mut Out,
    ) {
        request.is_forwarded = true;
        match (owner.node(), owner.worker()) {
            (Ok(node), Ok(worker)) => {
                let owner = Owner { node, worker };
                self.claim(reply_to, owner, request, claim_id, out);
            }
            (Err(error), _) | (_, Err(error)) => {
                let message = format!("owner of a forwarded request: {error}");
                out.fail_claim(reply_to, ErrorCode::InvalidArgument, message);
            }
        }
    }

    /// Withdraws a claim wherever it is.
    pub fn cancel(&mut self, reply_to: ReplyTo, out: &mut Out) {
        if let Some(Withdrawn::Forwarded(sent)) = self.withdraw(reply_to) {
            cancel_forward(reply_to, sent, out);
        }
    }

    /// Another raylet withdraws a claim; a grant for it may have crossed that.
    pub fn cancel_for_peer(&mut self, claim_id: u64, out: &mut Out) {
        for reply_to in self.claims_where(|_, claim| claim.claim_id == claim_id) {
            self.cancel(reply_to, out);
            out.fail_claim(reply_to, ErrorCode::Cancelled, "it was withdrawn");
        }
        for lease in self.leases_where(|grant| grant.claim_id == claim_id) {
            self.give_back(lease, false, out);
        }
    }

    /// Another node answered a claim that was forwarded to it.
    pub fn forward_ended(
        &mut self,
        reply_to: ReplyTo,
        claim_id: u64,
        outcome: Result<LeaseReply, String>,
        out: &mut Out,
    ) {
        let sent = self.forwarded(reply_to).map(|(_, sent)| sent.claim_id);
        let is_awaited = sent == Some(claim_id);
        match outcome {
            Ok(reply) if !is_awaited => return_grant(reply, out),
            Ok(reply) if serves_nobody(&reply) => self.forward_failed(reply_to, out.now()),
            Ok(reply) => {
                self.forward_answered(reply_to);
                out.answer_claim(reply_to, reply);
            }
            // Not reachable: the claim is decided anew.
            Err(_) if is_awaited => self.forward_failed(reply_to, out.now()),
            Err(_) => {}
        }
    }

    /// A process of this node gives a lease back, which may be one of another node.
    pub fn give_back_from(&mut self, sender: WorkerId, lease: LeaseReturn, out: &mut Out) {
        match NodeId::from_bytes(&lease.node_id) {
            Ok(node) if node != self.here => out.push(Effect::Tell {
                node,
                message: PeerMessage::ReturnLease(lease),
            }),
            _ => {
                let holder = self.get(LeaseId(lease.lease_id)).map(|grant| grant.holder);
                if matches!(holder, Some(Holder::Owner(owner)) if owner.worker == sender) {
                    self.give_back(LeaseId(lease.lease_id), lease.is_worker_unusable, out);
                }
            }
        }
    }

    /// An owner gives a lease of this node back.
    pub fn give_back(&mut self, lease: LeaseId, is_unusable: bool, out: &mut Out) {
        if let Some(worker) = self.get(lease).and_then(|grant| grant.worker) {
            out.tell(ClaimEvent::GivenBack {
                lease,
                worker,
                is_unusable,
            });
        }
    }

    /// The worker of a lease waits for others, or goes on.
    pub fn set_blocked(&mut self, lease: LeaseId, is_blocked: bool) {
        if is_blocked {
            self.block(lease);
        } else {
            self.unblock(lease);
        }
    }
}

/// The claim that a request of an owner makes.
fn task_claim(
    owner: Owner,
    request: LeaseRequest,
    claim_id: u64,
    out: &Out,
) -> Result<Claim, ConvertError> {
    let wanted = request.resources.clone().unwrap_or_default();
    let mut placement = placement_request(&wanted)?;
    let job = JobId::from_bytes(&request.job_id).map_err(wrong_id)?;
    placement.locality = request
        .locality
        .iter()
        .filter_map(|at| Some((NodeId::from_bytes(&at.node_id).ok()?, at.bytes)))
        .collect();
    Ok(Claim {
        job,
        placement,
        is_here_only: request.is_forwarded,
        claim_id,
        since: out.now(),
        is_told_infeasible: false,
        is_hopeless: false,
        waits_for: String::new(),
        purpose: Purpose::Tasks {
            owner,
            request: Box::new(request),
        },
    })
}

fn wrong_id(error: InvalidId) -> ConvertError {
    ConvertError::Id(error)
}

/// Ends a forwarded request. A grant for it may be on its way: the other node takes that back.
pub(super) fn cancel_forward(reply_to: ReplyTo, sent: Sent, out: &mut Out) {
    let Sent { node, claim_id, .. } = sent;
    out.push(Effect::CancelForward { reply_to });
    let message = PeerMessage::WithdrawClaim { claim_id };
    out.push(Effect::Tell { node, message });
}

/// A grant that nobody waits for any more goes back to the node that made it.
fn return_grant(reply: LeaseReply, out: &mut Out) {
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
    out.push(Effect::Tell {
        node,
        message: PeerMessage::ReturnLease(lease),
    });
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
