//! Objects that are wanted here and are somewhere else.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{InvalidId, NodeId, ObjectId};
use aktis_proto::v1::{Failure, Lost, StoreGet, store_get_reply};

use super::effect::{Effect, StoreEffect};
use super::event::{PullFailure, StoreEvent};
use super::keys::{ConnectionId, ReplyTo};
use super::pulls::PullStep;
use super::{Effects, RayletCore};

impl RayletCore {
    pub(super) fn on_store(&mut self, news: StoreEvent, effects: &mut Effects) {
        match news {
            StoreEvent::Missing { reply_to, get } => {
                if let Err(error) = self.on_missing(reply_to, get, effects) {
                    let failure = Failure::of(ErrorCode::InvalidArgument, error.to_string());
                    end_get(
                        reply_to,
                        store_get_reply::Outcome::Failure(failure),
                        effects,
                    );
                }
            }
            StoreEvent::Pulled { object_id } => {
                if let Ok(object) = ObjectId::from_bytes(&object_id) {
                    self.pulls.end(object);
                    self.report.want();
                }
            }
            StoreEvent::PullFailed {
                object_id,
                node,
                cause,
            } => {
                let Ok(object) = ObjectId::from_bytes(&object_id) else {
                    return;
                };
                match cause {
                    PullFailure::Source(_) => {
                        let step = self.pulls.failed(object, node);
                        self.take_pull_step(object, step, effects);
                    }
                    PullFailure::Here(failure) => {
                        for waiter in self.pulls.end(object) {
                            let outcome = store_get_reply::Outcome::Failure(failure.clone());
                            end_get(waiter, outcome, effects);
                        }
                    }
                }
            }
            StoreEvent::Gone { waiters } => {
                for waiter in waiters {
                    let tried_nodes = vec![self.settings.node_id.to_wire()];
                    let outcome = store_get_reply::Outcome::Lost(Lost {
                        tried_nodes,
                        ..Lost::default()
                    });
                    end_get(waiter, outcome, effects);
                }
            }
        }
    }

    fn on_missing(
        &mut self,
        reply_to: ReplyTo,
        get: StoreGet,
        effects: &mut Effects,
    ) -> Result<(), InvalidId> {
        let object = ObjectId::from_bytes(&get.object_id)?;
        let here = self.settings.node_id;
        let mut sources = Vec::with_capacity(get.locations.len());
        for location in &get.locations {
            let node = NodeId::from_bytes(location)?;
            if node != here {
                sources.push(node);
            }
        }
        let owner = get.owner.unwrap_or_default();
        let step = self.pulls.want(object, owner, sources, reply_to);
        self.take_pull_step(object, step, effects);
        Ok(())
    }

    fn take_pull_step(&mut self, object: ObjectId, step: PullStep, effects: &mut Effects) {
        let object_id = object.to_wire();
        match step {
            PullStep::Wait => {}
            PullStep::From(node) => {
                let owner = self.pulls.owner_of(object).cloned().unwrap_or_default();
                effects.push(Effect::Store(StoreEffect::Pull {
                    object_id,
                    owner,
                    node,
                }));
            }
            PullStep::Lost { waiters, tried } => {
                effects.push(Effect::Store(StoreEffect::AbandonPull { object_id }));
                let tried_nodes: Vec<_> = tried.into_iter().map(NodeId::to_wire).collect();
                for waiter in waiters {
                    let lost = Lost {
                        tried_nodes: tried_nodes.clone(),
                        ..Lost::default()
                    };
                    end_get(waiter, store_get_reply::Outcome::Lost(lost), effects);
                }
            }
        }
    }

    pub(super) fn cancel_get(&mut self, reply_to: ReplyTo, effects: &mut Effects) {
        let cancelled = Failure::of(ErrorCode::Cancelled, "the wait for the object was given up");
        end_get(
            reply_to,
            store_get_reply::Outcome::Failure(cancelled),
            effects,
        );
        self.abandon_pulls_of(|waiter| waiter == reply_to, effects);
    }

    pub(super) fn forget_waiting_gets(&mut self, connection: ConnectionId, effects: &mut Effects) {
        self.abandon_pulls_of(|waiter| waiter.connection() == Some(connection), effects);
    }

    fn abandon_pulls_of(&mut self, is_gone: impl Fn(ReplyTo) -> bool, effects: &mut Effects) {
        for object in self.pulls.forget(is_gone) {
            let object_id = object.to_wire();
            effects.push(Effect::Store(StoreEffect::AbandonPull { object_id }));
        }
    }
}

/// A get that ends without the object.
fn end_get(reply_to: ReplyTo, outcome: store_get_reply::Outcome, effects: &mut Effects) {
    effects.push(Effect::Store(StoreEffect::EndGet { reply_to, outcome }));
}
