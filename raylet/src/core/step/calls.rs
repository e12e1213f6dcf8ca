//! Which table takes a call of another raylet, the gcs or the command line.

use aktis_common::ids::{ActorId, WorkerId};
use aktis_proto::v1::{KillWorkerRequest, LeaseReturn, StartActorRequest};

use crate::core::RayletCore;
use crate::core::event::{CallAnswer, CallRequest};
use crate::core::keys::{CallId, LeaseId, ReplyTo};
use crate::core::out::Out;
use crate::core::pool::Worker;

impl RayletCore {
    pub(super) fn on_call(&mut self, call: CallId, request: CallRequest, out: &mut Out) {
        match request {
            CallRequest::Lease {
                request,
                owner,
                claim_id,
            } => {
                let reply_to = ReplyTo::Call(call);
                return self
                    .claims
                    .claim_for_peer(reply_to, request, &owner, claim_id, out);
            }
            CallRequest::StartActor(request) => return self.start_actor(call, *request, out),
            CallRequest::Status => {
                let status = CallAnswer::Status(Box::new(self.node_info()));
                return out.answer(call, status);
            }
            CallRequest::WithdrawClaim { claim_id } => self.claims.cancel_for_peer(claim_id, out),
            CallRequest::ReturnLease(LeaseReturn {
                lease_id,
                is_worker_unusable,
                ..
            }) => {
                self.claims
                    .give_back(LeaseId(lease_id), is_worker_unusable, out);
            }
            CallRequest::ReclaimLease { owner, reclaim } => {
                if let Ok(owner) = owner.worker() {
                    self.processes.ask_back(owner, reclaim, out);
                }
            }
            CallRequest::KillWorker(request) => self.on_kill_worker(&request, out),
            CallRequest::FreeObjects(request) => self.pulls.free_here(request.object_ids, out),
        }
        out.answer(call, CallAnswer::Done);
    }

    fn on_kill_worker(&mut self, request: &KillWorkerRequest, out: &mut Out) {
        let Ok(worker) = WorkerId::from_bytes(&request.worker_id) else {
            if let Ok(actor) = ActorId::from_bytes(&request.actor_id) {
                self.hosting.withdraw(actor, out);
            }
            return;
        };
        if self.hosting.is_meant(worker, &request.actor_id) {
            if request.is_final {
                self.pool.note_final(worker);
            }
            self.pool
                .end(worker, &request.cause, request.is_graceful, out);
        }
    }

    fn start_actor(&mut self, call: CallId, request: StartActorRequest, out: &mut Out) {
        let host = self.hosting.host_of(&request);
        let host = host.and_then(|worker| self.pool.get(worker));
        let is_ending = host.is_some_and(Worker::is_doomed);
        self.hosting
            .start(call, request, self.node.generation(), is_ending, out);
    }

    /// This node knows more, or a worker is gone: what could not be decided on is tried again.
    pub(super) fn start_held(&mut self, out: &mut Out) {
        for (call, request) in self.hosting.take_held_starts() {
            self.start_actor(call, request, out);
        }
    }
}
