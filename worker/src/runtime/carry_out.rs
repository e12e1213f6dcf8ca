//! Carries out what the core wants done.

use std::sync::Arc;

use aktis_common::ids::ActorId;
use aktis_lane::{Connection, Urgency};
use aktis_proto::v1 as wire;
use prost::Message;
use wire::node_frame::Kind;

use super::Runtime;
use super::postponed::Said;
use crate::core::{Effect, Effects};
use crate::reference::ProcessAddress;

impl Runtime {
    /// Appends frames to outboxes. Returns the lanes that are to be flushed.
    pub(super) fn enqueue_sends(&self, effects: &mut Effects) -> Vec<Arc<Connection>> {
        let mut due = Vec::new();
        if effects.list.is_empty() {
            return due;
        }
        let mut rest = Vec::new();
        let lanes = self.0.lanes.lock();
        for effect in std::mem::take(&mut effects.list) {
            let Effect::Send {
                connection,
                frame,
                payload,
                urgency,
            } = effect
            else {
                rest.push(effect);
                continue;
            };
            // A lane that is closed reports its end to the core, which knows what was sent on it.
            let Some(lane) = lanes.get(connection) else {
                continue;
            };
            if lane.connection.enqueue(&frame, &payload, urgency) == Ok(true)
                && !due
                    .iter()
                    .any(|open: &Arc<Connection>| open.id == connection)
            {
                due.push(Arc::clone(&lane.connection));
            }
        }
        effects.list = rest;
        due
    }

    pub(super) fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Send { .. } => unreachable!("sent while the core was locked"),
            Effect::RequestLease { key, request } => {
                if !self.0.node.request_lease(key, request) {
                    let failure = crate::node_link::raylet_gone();
                    self.with_core(|core, effects| core.lease_refused(key, &failure, effects));
                }
            }
            Effect::CancelLease { key } => self.0.node.cancel_lease(key),
            Effect::ReturnLease { returned } => {
                self.0.node.tell(Kind::LeaseReturn(returned), Urgency::Now)
            }
            Effect::AskOwner { owner, object } => self.say(owner, Said::Question(object)),
            Effect::BorrowDelta {
                owner,
                object,
                borrower,
                delta,
            } => {
                let delta = wire::BorrowDelta {
                    object_id: object.to_wire(),
                    borrower: Some(borrower.to_wire()),
                    delta,
                };
                self.tell_peer(owner, wire::lane_frame::Kind::BorrowDelta(delta));
            }
            Effect::FreeStored { object, nodes } => {
                self.0.store.forget_read(object);
                let free = wire::StoreFree {
                    object_ids: vec![object.to_wire()],
                    node_ids: nodes.into_iter().map(|node| node.to_wire()).collect(),
                };
                self.0.node.tell(Kind::StoreFree(free), Urgency::Soon);
            }
            Effect::TellLending { is_lending } => {
                if let super::ProcessRole::Worker { .. } = self.0.role {
                    let lending = wire::Lending { is_lending };
                    self.0.node.tell(Kind::Lending(lending), Urgency::Now);
                }
            }
            Effect::CloseLane { connection } => self.close_lane(connection),
            Effect::EndActor { actor } => {
                self.with_core(|core, effects| core.actors.end(actor, effects))
            }
            Effect::WatchActor { actor } => self.watch_actor(actor),
            Effect::KillActor { actor } => self.kill_unreferenced(actor),
        }
    }

    /// Sends a frame to another process without an answer. A peer that is gone needs to know nothing.
    pub(super) fn tell_peer(&self, peer: ProcessAddress, kind: wire::lane_frame::Kind) {
        self.say(peer, Said::News(kind));
    }

    fn kill_unreferenced(&self, actor: ActorId) {
        let request = wire::KillActorRequest {
            actor_id: actor.to_wire(),
            no_restart: true,
            cause: "all its handles went out of scope".to_owned(),
            is_graceful: true,
        };
        let call = wire::GcsCall {
            method: "KillActor".to_owned(),
            body: request.encode_to_vec().into(),
        };
        let runtime = self.clone();
        let kill = move || {
            let node = &runtime.0.node;
            node.request_async(Kind::GcsCall(call), Box::new(|_| {}));
        };
        self.0.births.after(actor, Box::new(kill));
    }
}
