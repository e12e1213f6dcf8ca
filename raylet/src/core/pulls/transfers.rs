//! What the store reports, and what transfers are told.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{InvalidId, NodeId, ObjectId};
use aktis_proto::v1::{Failure, Lost, StoreFree, StoreGet, store_get_reply};
use bytes::Bytes;

use super::{PullEvent, PullStep, PullTable};
use crate::core::effect::{Effect, NodeStoreEffect, PeerMessage};
use crate::core::event::{PullFailure, StoreEvent};
use crate::core::keys::{ConnectionId, ReplyTo};
use crate::core::out::Out;

impl PullTable {
    /// The store, or a transfer into it, reports.
    pub fn on_store(&mut self, news: StoreEvent, out: &mut Out) {
        match news {
            StoreEvent::Missing { reply_to, get } => {
                if let Err(error) = self.on_missing(reply_to, get, out) {
                    let failure = Failure::of(ErrorCode::InvalidArgument, error.to_string());
                    end_get(reply_to, store_get_reply::Outcome::Failure(failure), out);
                }
            }
            StoreEvent::Pulled { object_id } => {
                if let Ok(object) = ObjectId::from_bytes(&object_id) {
                    self.end(object);
                    out.tell(PullEvent::Arrived);
                }
            }
            StoreEvent::PullFailed {
                object_id,
                node,
                cause,
                has_given,
            } => {
                let Ok(object) = ObjectId::from_bytes(&object_id) else {
                    return;
                };
                let unreadable = match cause {
                    PullFailure::Source(_) => None,
                    PullFailure::Unreadable(failure) => Some(failure),
                    PullFailure::Here(failure) => {
                        return end_gets(self.end(object), &failure, out);
                    }
                };
                let step = self.failed(object, node, unreadable, has_given);
                self.take_pull_step(object, step, out);
            }
            StoreEvent::PullPauseEnded { object_id, number } => {
                if let Ok(object) = ObjectId::from_bytes(&object_id) {
                    let step = self.pause_ended(object, number);
                    self.take_pull_step(object, step, out);
                }
            }
            StoreEvent::Gone { waiters } => {
                for waiter in waiters {
                    let tried_nodes = vec![self.here.to_wire()];
                    let outcome = store_get_reply::Outcome::Lost(Lost {
                        tried_nodes,
                        ..Lost::default()
                    });
                    end_get(waiter, outcome, out);
                }
            }
        }
    }

    fn on_missing(
        &mut self,
        reply_to: ReplyTo,
        get: StoreGet,
        out: &mut Out,
    ) -> Result<(), InvalidId> {
        let object = ObjectId::from_bytes(&get.object_id)?;
        let here = self.here;
        let mut sources = Vec::with_capacity(get.locations.len());
        for location in &get.locations {
            let node = NodeId::from_bytes(location)?;
            if node != here {
                sources.push(node);
            }
        }
        let owner = get.owner.unwrap_or_default();
        let step = self.want(object, owner, sources, reply_to);
        self.take_pull_step(object, step, out);
        Ok(())
    }

    fn take_pull_step(&mut self, object: ObjectId, step: PullStep, out: &mut Out) {
        let object_id = object.to_wire();
        match step {
            PullStep::Wait => {}
            PullStep::From(node) => {
                let owner = self.owner_of(object).cloned().unwrap_or_default();
                out.push(Effect::Store(NodeStoreEffect::Pull {
                    object_id,
                    owner,
                    node,
                }));
            }
            PullStep::Pause {
                pause,
                given_up,
                failure,
            } => {
                end_gets(given_up, &failure, out);
                out.push(Effect::Store(NodeStoreEffect::PausePull {
                    object_id,
                    number: pause.number,
                    pause: pause.time,
                }));
            }
            PullStep::Lost { waiters, tried } => {
                out.push(Effect::Store(NodeStoreEffect::AbandonPull { object_id }));
                let tried_nodes: Vec<_> = tried.into_iter().map(NodeId::to_wire).collect();
                for waiter in waiters {
                    let lost = Lost {
                        tried_nodes: tried_nodes.clone(),
                        ..Lost::default()
                    };
                    end_get(waiter, store_get_reply::Outcome::Lost(lost), out);
                }
            }
            PullStep::Unreadable { waiters, failure } => {
                out.push(Effect::Store(NodeStoreEffect::AbandonPull { object_id }));
                end_gets(waiters, &failure, out);
            }
        }
    }

    /// A get is given up by whoever made it.
    pub fn cancel(&mut self, reply_to: ReplyTo, out: &mut Out) {
        let cancelled = Failure::of(ErrorCode::Cancelled, "the wait for the object was given up");
        end_get(reply_to, store_get_reply::Outcome::Failure(cancelled), out);
        self.abandon_pulls_of(|waiter| waiter == reply_to, out);
    }

    /// A process is gone, and waits for nothing any more.
    pub fn forget_reader(&mut self, connection: ConnectionId, out: &mut Out) {
        self.abandon_pulls_of(|waiter| waiter.connection() == Some(connection), out);
    }

    /// Objects that nobody references any more go, here and on the nodes that are named.
    pub fn free(&self, free: StoreFree, out: &mut Out) {
        for node in &free.node_ids {
            let Ok(node) = NodeId::from_bytes(node) else {
                continue;
            };
            if node != self.here {
                let message = PeerMessage::FreeObjects(free.object_ids.clone());
                out.push(Effect::Tell { node, message });
            }
        }
        self.free_here(free.object_ids, out);
    }

    /// Objects that nobody references any more go.
    pub fn free_here(&self, object_ids: Vec<Bytes>, out: &mut Out) {
        out.push(Effect::Store(NodeStoreEffect::Free { object_ids }));
    }

    fn abandon_pulls_of(&mut self, is_gone: impl Fn(ReplyTo) -> bool, out: &mut Out) {
        for object in self.forget(is_gone) {
            let object_id = object.to_wire();
            out.push(Effect::Store(NodeStoreEffect::AbandonPull { object_id }));
        }
    }
}

/// A get that ends without the object.
fn end_get(reply_to: ReplyTo, outcome: store_get_reply::Outcome, out: &mut Out) {
    out.push(Effect::Store(NodeStoreEffect::EndGet { reply_to, outcome }));
}

/// Gets that end for the same reason.
fn end_gets(waiters: Vec<ReplyTo>, failure: &Failure, out: &mut Out) {
    for waiter in waiters {
        let outcome = store_get_reply::Outcome::Failure(failure.clone());
        end_get(waiter, outcome, out);
    }
}
