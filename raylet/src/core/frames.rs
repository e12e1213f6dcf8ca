//! What processes of this node say.

use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, InvalidId, JobId, NodeId, WorkerId};
use aktis_proto::VERSION;
use aktis_proto::convert::placement_request;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    ActorStarted, AddJobRequest, Address, ClusterReply, Failure, GcsCall, Hello, LeaseCancel,
    LeaseRequest, LeaseReturn, ProcessKind, ReportActorStartedRequest, StoreFree,
};
use bytes::Bytes;

use super::claims::{Claim, Holder, Owner, Purpose, Sent, Withdrawn};
use super::effect::{Effect, GcsReport, PeerMessage, StoreEffect};
use super::keys::{ConnectionId, LeaseId, ReplyTo, StartupToken};
use super::pool::{Duty, WorkerState};
use super::processes::{Process, Role};
use super::watches::WatchAnswer;
use super::{Effects, RayletCore, notify, reply};

impl RayletCore {
    pub(super) fn on_frame(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        kind: Kind,
        payload: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) {
        if let Kind::Hello(hello) = kind {
            return self.on_hello(connection, request_id, hello, effects);
        }
        if self.processes.get(connection).is_none() {
            let message = "the first frame of a process must be its hello";
            return refuse(connection, request_id, message, effects);
        }
        let reply_to = ReplyTo::Process {
            connection,
            request_id,
        };
        match kind {
            Kind::LeaseRequest(request) => self.on_lease_request(reply_to, request, now, effects),
            Kind::LeaseCancel(cancel) => self.on_lease_cancel(connection, cancel, effects),
            Kind::LeaseReturn(lease) => self.on_lease_return(connection, lease, now, effects),
            Kind::Blocked(_) => self.set_blocked(connection, true),
            Kind::Unblocked(_) => self.set_blocked(connection, false),
            Kind::GcsCall(call) => self.on_gcs_call(connection, request_id, call, effects),
            Kind::ActorStarted(started) => self.on_actor_started(connection, started, now, effects),
            Kind::WatchActor(watch) => {
                self.on_watch(connection, request_id, &watch.actor_id, effects);
            }
            Kind::Lingering(lingering) => self.on_lingering(connection, &lingering, now, effects),
            Kind::Lending(lending) => {
                if let Some(process) = self.processes.get(connection) {
                    self.pool.note_lending(process.worker, lending.is_lending);
                }
            }
            Kind::Goodbye(goodbye) if !goodbye.cause.is_empty() => {
                if let Some(process) = self.processes.get(connection) {
                    self.pool.note_kill(process.worker, &goodbye.cause);
                }
            }
            Kind::Goodbye(_) => self.processes.note_leaving(connection),
            Kind::ClusterQuery(_) => {
                let mut nodes = vec![self.node_info()];
                nodes.extend(self.cluster.iter().map(|(_, node)| node.clone()));
                reply(
                    connection,
                    request_id,
                    Kind::ClusterReply(ClusterReply {
                        nodes,
                        lost: self.lost_nodes(now),
                    }),
                    effects,
                );
            }
            Kind::StoreFree(free) => self.on_store_free(free, effects),
            Kind::StoreGetCancel(cancel) => {
                let request_id = cancel.request_id;
                self.cancel_get(
                    ReplyTo::Process {
                        connection,
                        request_id,
                    },
                    effects,
                );
            }
            _ => {
                let message = format!(
                    "a raylet does not take this frame (payload {})",
                    payload.len()
                );
                let failure = Failure::of(ErrorCode::InvalidArgument, message);
                reply(connection, request_id, Kind::Failure(failure), effects);
            }
        }
    }

    fn on_hello(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        hello: Hello,
        effects: &mut Effects,
    ) {
        if hello.version != VERSION {
            let message = aktis_proto::refusal_of_version("node", &hello.version);
            return refuse(connection, request_id, &message, effects);
        }
        let process = match self.process_of(connection, &hello) {
            Ok(process) => process,
            Err(error) => return refuse(connection, request_id, &error.to_string(), effects),
        };
        if process.role == Role::Worker {
            let token = StartupToken(hello.startup_token);
            if !self
                .pool
                .hello(process.worker, token, process.pid, connection)
            {
                let message = "this raylet does not await such a worker";
                return refuse(connection, request_id, message, effects);
            }
        }
        let (job, worker, role) = (process.job, process.worker, process.role);
        if !self.processes.insert(process) {
            let message = "a process with this id is connected already";
            return refuse(connection, request_id, message, effects);
        }
        if role == Role::Driver {
            effects.push(Effect::WatchProcess { connection });
            if !hello.likely_modules.is_empty() {
                effects.push(Effect::Preload {
                    modules: hello.likely_modules,
                });
            }
            effects.push(Effect::Report(GcsReport::AddJob(AddJobRequest {
                job_id: hello.job_id,
                driver: Some(Address::of(self.settings.node_id, worker)),
                entrypoint: hello.entrypoint,
                namespace: hello.namespace.clone(),
                driver_pid: hello.pid,
            })));
        }
        effects.push(Effect::Welcome {
            connection,
            request_id,
            job_id: job.map(JobId::to_wire).unwrap_or_default(),
            namespace: hello.namespace,
        });
        if role == Role::Worker {
            effects.push(Effect::AwaitLane { worker });
        }
    }

    fn process_of(&self, connection: ConnectionId, hello: &Hello) -> Result<Process, InvalidId> {
        let (role, job) = match hello.kind() {
            ProcessKind::Driver => (Role::Driver, Some(JobId::from_bytes(&hello.job_id)?)),
            ProcessKind::Worker | ProcessKind::Unspecified => (Role::Worker, None),
        };
        Ok(Process {
            connection,
            worker: WorkerId::from_bytes(&hello.worker_id)?,
            role,
            job,
            pid: hello.pid,
            is_leaving: false,
            has_ended: false,
        })
    }

    fn on_lease_request(
        &mut self,
        reply_to: ReplyTo,
        request: LeaseRequest,
        now: Instant,
        effects: &mut Effects,
    ) {
        let connection = reply_to.connection().expect("frames come from connections");
        let process = self
            .processes
            .get(connection)
            .expect("checked for every frame");
        let owner = Owner {
            node: self.settings.node_id,
            worker: process.worker,
        };
        self.claim_for_owner(reply_to, owner, request, 0, now, effects);
    }

    /// Enters the request of an owner of this or another node.
    pub(super) fn claim_for_owner(
        &mut self,
        reply_to: ReplyTo,
        owner: Owner,
        request: LeaseRequest,
        claim_id: u64,
        now: Instant,
        effects: &mut Effects,
    ) {
        let wanted = request.resources.clone().unwrap_or_default();
        let mut placement = match placement_request(&wanted) {
            Ok(placement) => placement,
            Err(error) => {
                let message = error.to_string();
                return Self::fail_claim(reply_to, ErrorCode::InvalidArgument, &message, effects);
            }
        };
        let job = match JobId::from_bytes(&request.job_id) {
            Ok(job) => job,
            Err(error) => {
                let message = error.to_string();
                return Self::fail_claim(reply_to, ErrorCode::InvalidArgument, &message, effects);
            }
        };
        placement.locality = request
            .locality
            .iter()
            .filter_map(|at| Some((NodeId::from_bytes(&at.node_id).ok()?, at.bytes)))
            .collect();
        self.pool.note_demand();
        let claim = Claim {
            job,
            placement,
            is_here_only: request.is_forwarded,
            claim_id,
            since: now,
            is_told_infeasible: false,
            is_hopeless: false,
            waits_for: String::new(),
            purpose: Purpose::Tasks {
                owner,
                request: Box::new(request),
            },
        };
        self.leases.submit(reply_to, claim);
    }

    fn on_lease_cancel(
        &mut self,
        connection: ConnectionId,
        cancel: LeaseCancel,
        effects: &mut Effects,
    ) {
        let request_id = cancel.request_id;
        self.withdraw_claim(
            ReplyTo::Process {
                connection,
                request_id,
            },
            effects,
        );
    }

    /// Withdraws a claim wherever it is.
    pub(super) fn withdraw_claim(&mut self, reply_to: ReplyTo, effects: &mut Effects) {
        if let Some(Withdrawn::Forwarded(sent)) = self.leases.withdraw(reply_to) {
            cancel_forward(reply_to, sent, effects);
        }
    }

    fn on_lease_return(
        &mut self,
        connection: ConnectionId,
        lease: LeaseReturn,
        now: Instant,
        effects: &mut Effects,
    ) {
        let here = self.settings.node_id;
        match NodeId::from_bytes(&lease.node_id) {
            Ok(node) if node != here => {
                effects.push(Effect::Tell {
                    node,
                    message: PeerMessage::ReturnLease(lease),
                });
            }
            _ => {
                let holder = self
                    .leases
                    .get(LeaseId(lease.lease_id))
                    .map(|grant| grant.holder);
                let sender = self.processes.get(connection).map(|process| process.worker);
                let is_holder = matches!(
                    holder, Some(Holder::Owner(owner)) if Some(owner.worker) == sender);
                if is_holder {
                    self.return_lease(
                        LeaseId(lease.lease_id),
                        lease.is_worker_unusable,
                        now,
                        effects,
                    );
                }
            }
        }
    }

    /// An owner gives a lease of this node back.
    pub(super) fn return_lease(
        &mut self,
        lease: LeaseId,
        is_worker_unusable: bool,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(worker) = self.leases.get(lease).and_then(|grant| grant.worker) else {
            return;
        };
        if self
            .pool
            .get(worker)
            .is_some_and(|worker| worker.is_cut_off || worker.state == WorkerState::Lingering)
        {
            // NODE-2: its process may still hold them; they are free when it has ended.
            return;
        }
        if is_worker_unusable {
            // Its resources are free when the process is gone. Said once more, its owner has waited for that in vain.
            let is_ending = self
                .pool
                .get(worker)
                .is_some_and(|worker| matches!(worker.state, WorkerState::Retiring { .. }));
            if is_ending {
                return self.kill(
                    worker,
                    "it did not end when its owner wanted it to",
                    effects,
                );
            }
            return self.retire(worker, "its owner cannot use it any more", now, effects);
        }
        self.leases.end(lease);
        self.pool.release(worker, now);
        self.report.want();
    }

    fn set_blocked(&mut self, connection: ConnectionId, is_blocked: bool) {
        let worker = self.processes.get(connection).map(|process| process.worker);
        let duty = worker.and_then(|worker| self.pool.get(worker)?.duty());
        match duty.map(Duty::lease) {
            Some(lease) if is_blocked => self.leases.block(lease),
            Some(lease) => self.leases.unblock(lease),
            None => {}
        }
    }

    fn on_actor_started(
        &mut self,
        connection: ConnectionId,
        started: ActorStarted,
        now: Instant,
        effects: &mut Effects,
    ) {
        let process = self
            .processes
            .get(connection)
            .expect("checked for every frame");
        let (worker, pid) = (process.worker, process.pid);
        let duty = self.pool.get(worker).and_then(|worker| worker.duty());
        let Some(Duty::Actor(actor, lease)) = duty else {
            return;
        };
        if started.actor_id != actor.as_bytes()[..] {
            return;
        }
        let restarts = self.actors.get(actor).map_or(0, |hosted| hosted.restarts);
        if started.failure.is_some() {
            self.actors.remove(actor, worker);
            self.retire(worker, "the actor's constructor failed", now, effects);
        } else {
            self.leases.end_startup(lease);
        }
        self.report.want();
        effects.push(Effect::Report(GcsReport::ActorStarted(
            ReportActorStartedRequest {
                actor_id: started.actor_id,
                address: Some(Address::of(self.settings.node_id, worker)),
                pid,
                failure: started.failure,
                restarts,
            },
        )));
    }

    fn on_gcs_call(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        call: GcsCall,
        effects: &mut Effects,
    ) {
        let GcsCall { method, body } = call;
        if method == "CreateActor" {
            self.make_room_for_actor(body.clone(), effects);
        }
        effects.push(Effect::CallGcs {
            connection,
            request_id,
            method,
            body,
        });
    }

    fn on_watch(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        actor_id: &Bytes,
        effects: &mut Effects,
    ) {
        let actor = match ActorId::from_bytes(actor_id) {
            Ok(actor) => actor,
            Err(error) => {
                let failure = Failure::of(ErrorCode::InvalidArgument, error.to_string());
                return reply(connection, request_id, Kind::Failure(failure), effects);
            }
        };
        match self.board.watch(actor, connection) {
            WatchAnswer::Known(update) => notify(connection, Kind::ActorUpdate(*update), effects),
            WatchAnswer::Fetch => effects.push(Effect::FetchActor {
                actor_id: actor_id.clone(),
            }),
            WatchAnswer::Wait => {}
        }
    }

    fn on_store_free(&mut self, free: StoreFree, effects: &mut Effects) {
        let here = self.settings.node_id;
        for node in &free.node_ids {
            let Ok(node) = NodeId::from_bytes(node) else {
                continue;
            };
            if node != here {
                let message = PeerMessage::FreeObjects(free.object_ids.clone());
                effects.push(Effect::Tell { node, message });
            }
        }
        effects.push(Effect::Store(StoreEffect::Free {
            object_ids: free.object_ids,
        }));
    }
}

/// Ends a forwarded request. A grant for it may be on its way: the other node takes that back.
pub(super) fn cancel_forward(reply_to: ReplyTo, sent: Sent, effects: &mut Effects) {
    effects.push(Effect::CancelForward { reply_to });
    let message = PeerMessage::WithdrawClaim {
        claim_id: sent.claim_id,
    };
    effects.push(Effect::Tell {
        node: sent.node,
        message,
    });
}

/// Answers a process that is not what it should be, and closes its connection.
fn refuse(connection: ConnectionId, request_id: u64, message: &str, effects: &mut Effects) {
    let failure = Failure::of(ErrorCode::InvalidArgument, message);
    reply(connection, request_id, Kind::Failure(failure), effects);
    effects.push(Effect::Close { connection });
}
