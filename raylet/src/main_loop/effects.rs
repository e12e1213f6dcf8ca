//! Effects of the core, carried out.

use aktis_common::error::ErrorCode;
use aktis_common::ids::WorkerId;
use aktis_common::limits::{descriptor_advice, is_out_of_descriptors};
use aktis_common::zygote::{WorkerStart, ZygoteRequest};
use aktis_object_store::{ArenaError, ArenaHandle};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    ArenaInfo, ArenaKind, Failure, LeaseReply, NodeInfo, StartActorReply, lease_reply,
    start_actor_reply,
};
use bytes::Bytes;

use super::RayletLoop;
use crate::core::effect::{Effect, NodeStoreEffect};
use crate::core::event::{CallAnswer, Event};
use crate::core::keys::{CallId, ConnectionId, LeaseId, ReplyTo, StartupToken};
use crate::inbox::Message;
use crate::io::lane_proxy::await_lane;
use crate::io::logs::Quoted;

impl RayletLoop {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                connection,
                request_id,
                kind,
                payload,
            } => {
                self.ports
                    .links
                    .send(connection, request_id, kind, &payload);
            }
            Effect::Welcome {
                connection,
                request_id,
                job_id,
                namespace,
            } => {
                self.welcome(connection, request_id, job_id, namespace);
            }
            Effect::AwaitLane { worker } => {
                let lane = self.surroundings.lane_dir.join(worker.to_string());
                let waiting = await_lane(lane, worker, self.mailbox.clone());
                self.surroundings.beside.spawn(waiting);
            }
            Effect::Close { connection } => self.ports.links.close(connection),
            Effect::Answer { call, answer } => self.answer(call, answer),
            Effect::FailWithLog {
                reply_to,
                is_actor_start,
                worker,
                cause,
            } => {
                self.fail_with_log(reply_to, is_actor_start, worker, &cause);
            }
            Effect::Fork {
                token,
                worker,
                shared_modules,
            } => self.fork(token, worker, shared_modules),
            Effect::Preload { modules } => {
                self.ports.zygote.send(ZygoteRequest::Preload { modules });
            }
            Effect::Kill { pid } => self.surroundings.processes.kill_group(pid),
            Effect::EndLog { worker, epitaph } => {
                let job = epitaph.as_ref().map(|epitaph| epitaph.job);
                self.ports.logs.end(worker, job);
                if let Some(epitaph) = epitaph {
                    self.epitaphs.insert(worker, epitaph);
                }
            }
            Effect::WatchProcess { connection } => self.watch_process(connection),
            Effect::AwaitEnd { pid } => {
                let end = self.surroundings.processes.ended(pid);
                let mailbox = self.mailbox.clone();
                tokio::spawn(async move {
                    end.await;
                    mailbox.event(Event::ProcessEnded { pid });
                });
            }
            Effect::LookAtDead { worker, pid } => {
                let has_ended = self.surroundings.processes.has_ended(pid);
                let looked_at = Event::DeadLookedAt { worker, has_ended };
                self.backlog.push_back(looked_at);
            }
            Effect::Store(effect) => self.change_store(effect),
            other => self.carry_abroad(other),
        }
    }

    /// Effects on the gcs and other nodes.
    fn carry_abroad(&mut self, effect: Effect) {
        match effect {
            Effect::Report(report) => self.ports.gcs.report(report),
            Effect::Describe {
                connection,
                request_id,
                mut this,
                mut others,
            } => {
                self.fill_store_figures(&mut this);
                others.nodes.insert(0, *this);
                let reply = Kind::ClusterReply(others);
                self.ports
                    .links
                    .send(connection, request_id, reply, &Bytes::new());
            }
            Effect::ReportNode(mut info) => {
                self.fill_store_figures(&mut info);
                self.reported_store_bytes = [info.store_used_bytes, info.store_disk_bytes];
                self.ports.gcs.report_node(*info);
            }
            Effect::CallGcs {
                connection,
                request_id,
                method,
                body,
            } => {
                let mailbox = self.mailbox.clone();
                self.ports
                    .gcs
                    .call(connection, request_id, method, body, mailbox);
            }
            Effect::FetchActor { actor_id } => {
                self.ports.gcs.fetch_actor(actor_id, self.mailbox.clone());
            }
            Effect::NoteNode {
                node,
                raylet_address,
            } => {
                if raylet_address.is_none() {
                    self.end_reads_of(node);
                }
                self.ports.peers.note(node, raylet_address);
            }
            Effect::ForwardLease {
                reply_to,
                node,
                request,
            } => {
                let mailbox = self.mailbox.clone();
                let task = self
                    .ports
                    .peers
                    .forward_lease(reply_to, node, *request, mailbox);
                self.forwards.insert(reply_to, task);
            }
            Effect::CancelForward { reply_to } => {
                if let Some(task) = self.forwards.remove(&reply_to) {
                    task.abort();
                }
            }
            Effect::Tell { node, message } => self.ports.peers.tell(node, message),
            other => unreachable!("carried out here, in this node: {other:?}"),
        }
    }

    fn change_store(&mut self, effect: NodeStoreEffect) {
        match effect {
            NodeStoreEffect::ClientGone { connection } => self.ports.store.client_gone(connection),
            NodeStoreEffect::OwnerGone { owner } => self.ports.store.owner_gone(owner),
            NodeStoreEffect::OwnersOfNodeGone { node } => {
                self.ports.store.owners_of_node_gone(node)
            }
            NodeStoreEffect::ForeignOwnersGone => self.ports.store.foreign_owners_gone(),
            NodeStoreEffect::Free { object_ids } => self.ports.store.free(&object_ids),
            NodeStoreEffect::Pull {
                object_id,
                owner,
                node,
            } => {
                self.begin_pull(&object_id, owner, node);
            }
            NodeStoreEffect::PausePull {
                object_id,
                number,
                pause,
            } => {
                self.pause_pull(&object_id, number, pause);
            }
            NodeStoreEffect::AbandonPull { object_id } => self.abandon_pull(&object_id),
            NodeStoreEffect::EndGet { reply_to, outcome } => {
                self.ports.store.end_get(reply_to, outcome);
            }
        }
    }

    fn welcome(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        job_id: Bytes,
        namespace: String,
    ) {
        let mut reply = self.surroundings.welcome.clone();
        reply.job_id = job_id;
        reply.namespace = namespace;
        let handle = match self.ports.store.arena_handle() {
            Ok(handle) => handle,
            Err(error) => {
                let cause = why_not_welcomed(&error);
                let failure = Failure::of(ErrorCode::Internal, cause.clone());
                self.ports
                    .links
                    .send(connection, request_id, Kind::Failure(failure), &[]);
                return self.mailbox.event(Event::NotWelcomed { connection, cause });
            }
        };
        let mut arena = ArenaInfo::default();
        match handle {
            ArenaHandle::Memfd { fd, len_bytes } => {
                arena.set_kind(ArenaKind::Memfd);
                arena.len_bytes = len_bytes;
                reply.arena = Some(arena);
                let kind = Kind::HelloReply(reply);
                self.ports
                    .links
                    .send_descriptor(connection, request_id, kind, &fd);
                return;
            }
            ArenaHandle::Named { name, len_bytes } => {
                arena.set_kind(ArenaKind::Named);
                (arena.name, arena.len_bytes) = (name, len_bytes);
            }
            // Memory of this process: nobody else can map it.
            ArenaHandle::ProcessLocal(memory) => arena.len_bytes = memory.len_bytes(),
        }
        reply.arena = Some(arena);
        self.ports
            .links
            .send(connection, request_id, Kind::HelloReply(reply), &[]);
    }

    /// Tells when the process behind a connection has ended. One that cannot be watched counts as ended: then the end of
    /// its connection is all there is. So it is with this process itself, which ends with all of this.
    fn watch_process(&mut self, connection: ConnectionId) {
        let pid = self.ports.links.peer_pid(connection);
        let pid = pid.filter(|pid| *pid != std::process::id());
        let end = pid.map(|pid| self.surroundings.processes.ended(pid));
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            if let Some(end) = end {
                end.await;
            }
            mailbox.event(Event::ClientEnded { connection });
        });
    }

    fn answer(&mut self, call: CallId, answer: CallAnswer) {
        let Some(waiting) = self.calls.remove(&call) else {
            return;
        };
        let answer = match answer {
            CallAnswer::Status(mut info) => {
                self.fill_store_figures(&mut info);
                CallAnswer::Status(info)
            }
            other => other,
        };
        if let Err(CallAnswer::Lease(LeaseReply {
            outcome: Some(lease_reply::Outcome::Grant(grant)),
        })) = waiting.send(answer)
        {
            // The caller went meanwhile.
            let lease = LeaseId(grant.lease_id);
            self.backlog.push_back(Event::GrantUntaken { lease });
        }
    }

    pub(super) fn fill_store_figures(&self, info: &mut NodeInfo) {
        let stats = self.ports.store.stats();
        info.store_capacity_bytes = stats.capacity_bytes;
        info.store_used_bytes = stats.used_bytes;
        info.store_disk_bytes = stats.spill_file_bytes;
    }

    fn fail_with_log(
        &mut self,
        reply_to: ReplyTo,
        is_actor_start: bool,
        worker: Option<WorkerId>,
        cause: &str,
    ) {
        let quoted = match worker {
            Some(worker) => Quoted::Worker {
                stdout: self.ports.logs.stdout_path(worker),
            },
            None => Quoted::Zygote {
                log: self.surroundings.zygote_log.clone(),
            },
        };
        let (cause, mailbox) = (cause.to_owned(), self.mailbox.clone());
        let beside = &self.surroundings.beside;
        beside.spawn(async move {
            let reading = tokio::task::spawn_blocking(move || quoted.read()).await;
            let quoted = reading.unwrap_or_else(|error| error.to_string());
            mailbox.send(Message::NotStarted {
                reply_to,
                is_actor_start,
                failure: Failure::of(ErrorCode::RuntimeEnv, format!("{cause}; {quoted}")),
            });
        });
    }

    /// A worker could not be started for somebody.
    pub(super) fn not_started(
        &mut self,
        reply_to: ReplyTo,
        is_actor_start: bool,
        failure: Failure,
    ) {
        match reply_to {
            ReplyTo::Process {
                connection,
                request_id,
            } => {
                let outcome = Some(lease_reply::Outcome::Failure(failure));
                let kind = Kind::LeaseReply(LeaseReply { outcome });
                self.ports.links.send(connection, request_id, kind, &[]);
            }
            ReplyTo::Call(call) if is_actor_start => {
                let outcome = Some(start_actor_reply::Outcome::Failure(failure));
                self.answer(
                    call,
                    CallAnswer::ActorStart(StartActorReply { outcome, pid: 0 }),
                );
            }
            ReplyTo::Call(call) => {
                let outcome = Some(lease_reply::Outcome::Failure(failure));
                self.answer(call, CallAnswer::Lease(LeaseReply { outcome }));
            }
        }
    }

    fn fork(&mut self, token: StartupToken, worker: WorkerId, shared_modules: Vec<String>) {
        self.ports.logs.follow(worker);
        self.ports.zygote.send(ZygoteRequest::Fork(WorkerStart {
            startup_token: token.0,
            worker_id: worker.to_string(),
            raylet_socket: self.surroundings.node_socket.clone(),
            env: self.surroundings.worker_env.clone(),
            shared_modules,
            stdout_path: self.ports.logs.stdout_path(worker),
        }));
    }
}

/// Why a process cannot join the node, and what helps.
fn why_not_welcomed(error: &ArenaError) -> String {
    let source = std::error::Error::source(error);
    let system = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    match system {
        Some(system) if is_out_of_descriptors(system) => {
            format!(
                "the raylet cannot share the arena: {system}; {}",
                descriptor_advice()
            )
        }
        Some(system) => format!("the raylet cannot share the arena: {error}: {system}"),
        None => format!("the raylet cannot share the arena: {error}"),
    }
}
