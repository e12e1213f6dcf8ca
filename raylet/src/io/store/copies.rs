//! Copies that come from, and go to, other nodes.

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::{CreateAnswer, GetAnswer, GetError};
use aktis_proto::v1::Address;

use super::{PULLER, SERVER, StoreOutput, StorePort};
use crate::core::keys::ReplyTo;

impl StorePort {
    /// An object is being copied here from now on.
    pub(crate) fn begin_pull(&mut self, object: ObjectId) {
        self.pulling.insert(object);
    }

    /// Makes room for a copy from another node; the place comes as [`StoreOutput::PullPlaced`].
    pub(crate) fn place_pull(
        &mut self,
        object: ObjectId,
        owner: Option<&Address>,
        size_bytes: u64,
    ) {
        let owner = self.owner_of(owner).unwrap_or(WorkerId::NIL);
        let place = match self.store.create(PULLER, object, owner, size_bytes, false) {
            Ok(CreateAnswer::Created(place)) => Ok(place),
            Ok(CreateAnswer::Pending) => return,
            Err(error) => Err(error),
        };
        self.outputs.push(StoreOutput::PullPlaced { object, place });
    }

    /// A copy from another node is complete: readers get it.
    pub(crate) fn seal_pull(&mut self, object: ObjectId) {
        self.pulling.remove(&object);
        if let Err(error) = self.store.seal(PULLER, object) {
            tracing::debug!(%object, %error, "a copy was freed while it came in");
        }
    }

    /// A copy from another node will not be completed.
    pub(crate) fn abort_pull(&mut self, object: ObjectId) {
        if self.pulling.remove(&object) {
            // Not there if the transfer never learnt its size.
            let _ = self.store.abort(PULLER, object);
        }
    }

    /// Holds an object in memory for a transfer to another node; the answer is a [`StoreOutput::ReadReady`].
    pub(crate) fn read(&mut self, reply_to: ReplyTo, object: ObjectId) {
        let place = if self.store.contains(object) {
            match self.store.get(SERVER, object) {
                Ok(GetAnswer::Ready(place)) => Ok(place),
                Ok(GetAnswer::Restoring | GetAnswer::Pending) => {
                    return self.await_get(SERVER, object, reply_to);
                }
                Err(error) => Err(error),
            }
        } else {
            Err(GetError::Lost {
                oid: object,
                reason: "this node has no copy".to_owned(),
            })
        };
        self.outputs.push(StoreOutput::ReadReady {
            reply_to,
            object,
            place,
        });
    }

    /// A transfer to another node has ended.
    pub(crate) fn end_read(&mut self, reply_to: ReplyTo, object: ObjectId) {
        if self.forget_get(SERVER, object, reply_to) {
            self.store.cancel_get(SERVER, object);
        } else if let Err(error) = self.store.release(SERVER, object) {
            tracing::debug!(%object, %error, "a transfer ended that held nothing");
        }
    }
}
