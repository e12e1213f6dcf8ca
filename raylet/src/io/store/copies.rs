//! Copies that come from, and go to, other nodes.

use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::{BytesAt, CreateAnswer, CreateError, GetAnswer, GetError, StoreFull};
use aktis_proto::v1::Address;

use super::{PULLER, SERVER, StoreOutput, StorePort};
use crate::core::keys::ReplyTo;

/// A copy that waits for room may see nothing move for this long.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);

/// A copy that waits for room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RoomWanted {
    owner: WorkerId,
    size_bytes: u64,
    /// When something last moved.
    since: Instant,
    /// What was held in the store at the last refusal: being read, being created, spillable, spilled.
    held: Option<[u64; 4]>,
}

impl RoomWanted {
    /// How it waits on after a refusal; `None` when nothing has moved for too long.
    fn again(self, full: &StoreFull, now: Instant) -> Option<Self> {
        let held = Some([
            full.pinned_by_readers_bytes,
            full.creating_bytes,
            full.spillable_bytes,
            full.spilled_bytes,
        ]);
        let since = if held == self.held { self.since } else { now };
        (now < since + ROOM_PATIENCE).then_some(Self {
            since,
            held,
            ..self
        })
    }
}

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
        self.ask_for_room(object, owner, size_bytes);
    }

    fn ask_for_room(&mut self, object: ObjectId, owner: WorkerId, size_bytes: u64) {
        match self.store.create(PULLER, object, owner, size_bytes, false) {
            Ok(CreateAnswer::Created(place)) => {
                self.on_pull_placed(object, Ok(BytesAt::Arena(place)));
            }
            Ok(CreateAnswer::Pending) => {
                self.room_wanted.entry(object).or_insert(RoomWanted {
                    owner,
                    size_bytes,
                    since: Instant::now(),
                    held: None,
                });
            }
            Err(error) => self.on_pull_placed(object, Err(error)),
        }
    }

    /// A copy has its place, or there is no room for it. Then it queues again: what other tasks read or write now will be let
    /// go, and one argument that does not fit beside them is no reason to fail. Only when nothing has moved for long does it
    /// fail.
    pub(super) fn on_pull_placed(&mut self, object: ObjectId, place: Result<BytesAt, CreateError>) {
        let wanted = self.room_wanted.remove(&object);
        if let (Err(CreateError::Full(full)), Some(wanted)) = (&place, wanted)
            && let Some(wanted) = wanted.again(full, Instant::now())
            && self.pulling.contains(&object)
        {
            let RoomWanted {
                owner, size_bytes, ..
            } = wanted;
            self.room_wanted.insert(object, wanted);
            return self.ask_for_room(object, owner, size_bytes);
        }
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
        self.room_wanted.remove(&object);
        if self.pulling.remove(&object) {
            // Not there if the transfer never learnt its size.
            let _ = self.store.abort(PULLER, object);
        }
    }

    /// Holds an object for a transfer to another node, in memory or in its file; the answer is a [`StoreOutput::ReadReady`].
    pub(crate) fn read(&mut self, reply_to: ReplyTo, object: ObjectId) {
        let place = if self.store.contains(object) {
            match self.store.get(SERVER, object) {
                Ok(GetAnswer::Ready(at)) => Ok(at),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn full(creating_bytes: u64) -> StoreFull {
        StoreFull {
            oid: ObjectId::new([1; 20]),
            requested_bytes: 40,
            capacity_bytes: 80,
            used_bytes: 80,
            largest_free_bytes: 0,
            pinned_by_readers_bytes: 0,
            creating_bytes,
            spillable_bytes: 0,
            spilled_bytes: 0,
            spill_limit_bytes: None,
            spill_error: None,
        }
    }

    #[test]
    fn copy_waits_for_room_as_long_as_something_moves() {
        let begin = Instant::now();
        let mut wanted = RoomWanted {
            owner: WorkerId::NIL,
            size_bytes: 40,
            since: begin,
            held: None,
        };
        let mut now = begin;
        for round in 0..100 {
            now += Duration::from_secs(5);
            wanted = wanted
                .again(&full(80 - round % 2), now)
                .expect("it goes on");
        }
        now += ROOM_PATIENCE - Duration::from_secs(1);
        wanted = wanted.again(&full(79), now).expect("not for long enough");
        now += Duration::from_secs(2);
        assert_eq!(wanted.again(&full(79), now), None);
    }
}
