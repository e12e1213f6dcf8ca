//! Answers that come later.

use std::collections::VecDeque;

use aktis_common::ids::ObjectId;
use aktis_object_store::{GoneReason, StoreReply};

use super::{PULLER, StoreOutput, StorePort};
use crate::core::event::StoreEvent;
use crate::core::keys::{ConnectionId, ReplyTo};

impl StorePort {
    /// What has come of everything since the last call.
    pub(crate) fn take_outputs(&mut self) -> Vec<StoreOutput> {
        let late = std::mem::take(&mut *self.late.lock());
        for reply in late {
            self.on_late(reply);
        }
        std::mem::take(&mut self.outputs)
    }

    fn on_late(&mut self, reply: StoreReply) {
        match reply {
            StoreReply::Created {
                client: PULLER,
                oid,
                result,
            } => self.on_pull_placed(oid, result),
            StoreReply::Created {
                client,
                oid,
                result,
            } => {
                let Some(request_id) = self.creating.remove(&(client, oid)) else {
                    return;
                };
                let connection = ConnectionId(client.0);
                match result {
                    Ok(at) => self.put_created(connection, request_id, at),
                    Err(error) => self.put_create_error(connection, request_id, &error),
                }
            }
            StoreReply::Got {
                client,
                oid,
                result,
            } => {
                let waiters = self.getting.get_mut(&(client, oid));
                let Some(reply_to) = waiters.and_then(VecDeque::pop_front) else {
                    return;
                };
                if self
                    .getting
                    .get(&(client, oid))
                    .is_some_and(VecDeque::is_empty)
                {
                    self.getting.remove(&(client, oid));
                }
                match reply_to {
                    ReplyTo::Process {
                        connection,
                        request_id,
                    } => {
                        self.put_got(connection, request_id, result);
                    }
                    ReplyTo::Call(_) => {
                        let place = result;
                        self.outputs.push(StoreOutput::ReadReady {
                            reply_to,
                            object: oid,
                            place,
                        });
                    }
                }
            }
            StoreReply::ObjectGone {
                oid,
                reason,
                waiting_gets,
            } => {
                if waiting_gets > 0 && !matches!(reason, GoneReason::Lost(_)) {
                    self.on_gone(oid);
                }
            }
        }
    }

    /// An object went before it was sealed, while others wait for it.
    fn on_gone(&mut self, object: ObjectId) {
        if self.pulling.contains(&object) {
            return;
        }
        let waiting = self
            .getting
            .iter()
            .filter(|((_, awaited), _)| *awaited == object);
        let waiters: Vec<ReplyTo> = waiting.flat_map(|(_, waiters)| waiters).copied().collect();
        if !waiters.is_empty() {
            self.outputs
                .push(StoreOutput::Event(StoreEvent::Gone { waiters }));
        }
    }
}
