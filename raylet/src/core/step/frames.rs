//! Which table takes a frame of a process.

use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{GcsCall, Hello, Preload};
use bytes::Bytes;

use crate::core::RayletCore;
use crate::core::claims::Owner;
use crate::core::effect::Effect;
use crate::core::keys::{ConnectionId, ReplyTo, StartupToken};
use crate::core::out::Out;
use crate::core::pool::Duty;
use crate::core::processes::{Process, Role};

impl RayletCore {
    pub(super) fn on_frame(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        kind: Kind,
        payload: Bytes,
        out: &mut Out,
    ) {
        if let Kind::Hello(hello) = kind {
            return self.greet(connection, request_id, hello, out);
        }
        let Some(sender) = self.processes.get(connection).copied() else {
            let message = "the first frame of a process must be its hello";
            return out.refuse(connection, request_id, message);
        };
        let Some(kind) = self.on_request(&sender, request_id, kind, out) else {
            return;
        };
        match kind {
            Kind::Lingering(lingering) => {
                let holds_devices = lingering.holds_devices;
                let is_leaving = sender.is_leaving;
                self.pool
                    .on_lingering(sender.worker, holds_devices, is_leaving, out);
            }
            Kind::Lending(lending) => self.pool.note_lending(sender.worker, lending.is_lending),
            Kind::Preload(Preload { modules }) if sender.role == Role::Driver => {
                out.push(Effect::Preload { modules });
            }
            Kind::Goodbye(goodbye) if !goodbye.cause.is_empty() => {
                self.pool.note_kill(sender.worker, &goodbye.cause);
            }
            Kind::Goodbye(_) => self.processes.note_leaving(connection),
            Kind::Blocked(_) => self.set_blocked(&sender, true),
            Kind::Unblocked(_) => self.set_blocked(&sender, false),
            Kind::ActorStarted(started) => {
                let duty = self
                    .pool
                    .get(sender.worker)
                    .and_then(|worker| worker.duty());
                if let Some(Duty::Actor(actor, lease)) = duty {
                    self.hosting
                        .constructed(actor, lease, &sender, started, out);
                }
            }
            _ => out.reply_invalid(
                connection,
                request_id,
                format!(
                    "a raylet does not take this frame (payload {})",
                    payload.len()
                ),
            ),
        }
    }

    /// What a process asks for; gives back what is none of that.
    fn on_request(
        &mut self,
        sender: &Process,
        request_id: u64,
        kind: Kind,
        out: &mut Out,
    ) -> Option<Kind> {
        let connection = sender.connection;
        let request = |request_id| ReplyTo::Process {
            connection,
            request_id,
        };
        match kind {
            Kind::LeaseRequest(wanted) => {
                let owner = Owner {
                    node: self.node.id(),
                    worker: sender.worker,
                };
                self.claims
                    .claim(request(request_id), owner, wanted, 0, out);
            }
            Kind::LeaseCancel(cancel) => self.claims.cancel(request(cancel.request_id), out),
            Kind::LeaseReturn(lease) => self.claims.give_back_from(sender.worker, lease, out),
            Kind::GcsCall(GcsCall { method, body }) => {
                if method == "CreateActor" {
                    self.claims.make_room_for_actor(body.clone(), out);
                }
                out.push(Effect::CallGcs {
                    connection,
                    request_id,
                    method,
                    body,
                });
            }
            Kind::WatchActor(watch) => {
                self.watches
                    .begin_watch(connection, request_id, &watch.actor_id, out);
            }
            Kind::ClusterQuery(_) => {
                let (this, lost) = (self.node_info(), self.claims.lost_nodes(out.now()));
                self.node
                    .describe((connection, request_id), this, lost, out);
            }
            Kind::StoreFree(free) => self.pulls.free(free, out),
            Kind::StoreGetCancel(cancel) => self.pulls.cancel(request(cancel.request_id), out),
            other => return Some(other),
        }
        None
    }

    fn greet(&mut self, connection: ConnectionId, request_id: u64, hello: Hello, out: &mut Out) {
        let introduced = self
            .processes
            .introduce(connection, request_id, &hello, out);
        let Some(process) = introduced else {
            return;
        };
        let token = StartupToken(hello.startup_token);
        let is_awaited = process.role == Role::Driver
            || self
                .pool
                .hello(process.worker, token, process.pid, connection);
        if !is_awaited {
            let message = "this raylet does not await such a worker";
            return out.refuse(connection, request_id, message);
        }
        self.processes.take_in(process, request_id, hello, out);
    }

    fn set_blocked(&mut self, sender: &Process, is_blocked: bool) {
        if let Some(lease) = self.pool.lease_of(sender.worker) {
            self.claims.set_blocked(lease, is_blocked);
        }
    }
}
