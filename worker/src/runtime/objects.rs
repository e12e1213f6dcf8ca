//! Reading and writing the node's object store.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::fork::Kept;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_lane::{AlignedBuffer, Urgency};
use aktis_object_store::{ArenaError, ArenaMap, CreatingRange, SealedRange, SpilledObject};
use aktis_proto::v1 as wire;
use bytes::Bytes;
use parking_lot::Mutex;
use wire::node_frame::Kind;

use super::at_work::Subject;
use super::waiting::Waiting;
use super::{GetError, Runtime};
use crate::error::TaskFailure;
use crate::node_link::Answer;
use crate::reference::ProcessAddress;
use crate::store::layout::{StoredLayout, read_stored};
use crate::value::Value;
use aktis_common::marks::{Point, mark};

/// How long the raylet may take to find room for an object: longer than it takes to spill what is in the way.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);

/// Keeps an object where it is in the arena.
struct StorePin {
    runtime: Runtime,
    object: ObjectId,
}

impl Drop for StorePin {
    fn drop(&mut self) {
        self.runtime.unpin(self.object);
    }
}

/// The answer of the raylet, on its way from the thread that reads it to the one that waits.
#[allow(
    clippy::large_enum_variant,
    reason = "one for each wait, taken apart at once"
)]
enum Awaited {
    Pending,
    Answered(Answer),
    /// Nobody waits any more. An object that was pinned nevertheless is let go.
    GivenUp,
}

/// Why an object could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// No copy that the reader was told of is there any more.
    Lost(Missed),
    Failed(TaskFailure),
}

/// Copies that a reader did not find.
#[derive(Debug)]
pub(super) struct Missed {
    nodes: Vec<NodeId>,
    making: u64,
}

/// Where to look for an object.
pub(super) struct Place {
    pub(super) object: ObjectId,
    pub(super) owner: ProcessAddress,
    pub(super) nodes: Vec<NodeId>,
    pub(super) size_bytes: u64,
    /// See [`crate::core::objects::Stored`].
    pub(super) making: u64,
}

/// A question to the raylet for an object. One that is dropped unanswered is withdrawn.
pub(super) struct BegunRead {
    runtime: Runtime,
    place: Place,
    awaited: Arc<Mutex<Awaited>>,
    waiter: Arc<aktis_lane::Waiter>,
    request_id: u64,
}

impl BegunRead {
    /// Waits for the object, looking for signals.
    pub(super) fn finish(
        self,
        waiting: &mut Waiting<'_>,
    ) -> Result<Bytes, Result<ReadError, GetError>> {
        let subject = Subject::object(self.place.object);
        waiting.wait_for(&self.waiter, subject).map_err(Err)?;
        let awaited = std::mem::replace(&mut *self.awaited.lock(), Awaited::GivenUp);
        let Awaited::Answered(answer) = awaited else {
            return Err(Ok(ReadError::Failed(unexpected("StoreGet"))));
        };
        let bytes = self.runtime.read_answer(&self.place, answer).map_err(Ok)?;
        self.runtime.keep_read(self.place.object, bytes.clone());
        Ok(bytes)
    }
}

impl Drop for BegunRead {
    fn drop(&mut self) {
        let awaited = std::mem::replace(&mut *self.awaited.lock(), Awaited::GivenUp);
        match awaited {
            Awaited::Pending => {
                let request_id = self.request_id;
                let cancel = wire::StoreGetCancel { request_id };
                self.runtime
                    .0
                    .node
                    .tell(Kind::StoreGetCancel(cancel), Urgency::Now);
            }
            Awaited::Answered(answer) => self.runtime.unpin_late(self.place.object, &answer),
            Awaited::GivenUp => {}
        }
    }
}

impl Runtime {
    fn arena(&self) -> Result<&ArenaMap, TaskFailure> {
        self.0
            .arena
            .as_ref()
            .ok_or_else(|| TaskFailure::new(ErrorCode::Internal, "this node has no object store"))
    }

    /// Writes a value into the store of this node and seals it. Returns its size there, in bytes.
    pub(super) fn write_stored(
        &self,
        object: ObjectId,
        owner: ProcessAddress,
        value: &Value,
    ) -> Result<u64, TaskFailure> {
        let layout = StoredLayout::of(value);
        let size_bytes = layout.len_bytes() as u64;
        let create = wire::StoreCreate {
            object_id: object.to_wire(),
            size_bytes,
            owner: Some(owner.to_wire()),
        };
        let deadline = Some(Instant::now() + CREATE_TIMEOUT);
        let created = self.0.node.request(
            self.reactor(),
            Kind::StoreCreate(create),
            deadline,
            self.0.interrupt,
        );
        let is_given_up = |failure: &TaskFailure| {
            matches!(failure.code, ErrorCode::Timeout | ErrorCode::Cancelled)
        };
        if created.as_ref().is_err_and(is_given_up) {
            // If the room is found after all, nobody would give it back.
            self.abort_create(object);
        }
        let (reply, _) = created?;
        let Kind::StoreCreateReply(reply) = reply else {
            return Err(unexpected("StoreCreate"));
        };
        mark(Point::StoreCreated);
        if reply.already_exists {
            return Ok(size_bytes);
        }
        let written = write_object(self.arena()?, &reply, &layout);
        if let Err(error) = written {
            self.abort_create(object);
            let message = format!("cannot write {size_bytes} bytes into the object store: {error}");
            return Err(TaskFailure::new(ErrorCode::Internal, message));
        }
        mark(Point::StoreWritten);
        let seal = wire::StoreSeal {
            object_id: object.to_wire(),
        };
        self.0.node.tell(Kind::StoreSeal(seal), Urgency::Now);
        Ok(size_bytes)
    }

    fn abort_create(&self, object: ObjectId) {
        let abort = wire::StoreAbort {
            object_id: object.to_wire(),
        };
        self.0.node.tell(Kind::StoreAbort(abort), Urgency::Now);
    }

    /// An object of the stores, pinned in the one of this node; brought here if need be.
    pub(super) fn read_from_store(
        &self,
        place: Place,
        waiting: &mut Waiting<'_>,
    ) -> Result<Bytes, Result<ReadError, GetError>> {
        match self.read_again(place.object) {
            Some(bytes) => Ok(bytes),
            None => self.begin_read(place).finish(waiting),
        }
    }

    /// An object that was read a moment ago.
    pub(super) fn read_again(&self, object: ObjectId) -> Option<Bytes> {
        self.0.recent_reads.lock().again(object, Instant::now())
    }

    fn keep_read(&self, object: ObjectId, bytes: Bytes) {
        mark(Point::StorePinned);
        let mut recent = self.0.recent_reads.lock();
        let is_first = recent.keep(object, bytes, Instant::now());
        drop(recent);
        if is_first {
            // The lane thread lets go of it in time.
            self.reactor().call_lane(super::recent::LINGER);
        }
    }

    /// Lets go of what was not read for a while. Says when to come again.
    pub(super) fn expire_reads(&self, now: Instant) -> Option<Duration> {
        let (over, next) = self.0.recent_reads.lock().expire(now);
        drop(over);
        next
    }

    /// The object is freed, or lost.
    pub(super) fn forget_read(&self, object: ObjectId) {
        let freed = self.0.recent_reads.lock().forget(object);
        drop(freed);
    }

    fn read_answer(&self, place: &Place, answer: Answer) -> Result<Bytes, ReadError> {
        use wire::store_get_reply::Outcome;
        let Kind::StoreGetReply(reply) = answer.map_err(ReadError::Failed)?.0 else {
            return Err(ReadError::Failed(unexpected("StoreGet")));
        };
        match reply.outcome {
            Some(Outcome::View(view)) => self.pin(place.object, &view).map_err(ReadError::Failed),
            Some(Outcome::File(file)) => read_file(&file).map_err(ReadError::Failed),
            Some(Outcome::Lost(lost)) => {
                let tried = lost
                    .tried_nodes
                    .iter()
                    .filter_map(|node| NodeId::from_bytes(node).ok());
                let mut nodes: Vec<_> = place.nodes.clone();
                nodes.extend(tried);
                if !lost.reason.is_empty() {
                    self.0
                        .core
                        .note(|core| core.objects.note_loss(place.object, lost.reason));
                }
                let making = place.making;
                Err(ReadError::Lost(Missed { nodes, making }))
            }
            Some(Outcome::Failure(failure)) => {
                Err(ReadError::Failed(TaskFailure::from_wire(failure)))
            }
            None => Err(ReadError::Failed(unexpected("StoreGet"))),
        }
    }

    /// Takes over the reference that the raylet holds for this process; it is given back with the bytes, or the error.
    #[allow(unsafe_code, reason = "vouches for the answer of the raylet")]
    fn pin(&self, object: ObjectId, view: &wire::StoreView) -> Result<Bytes, TaskFailure> {
        let pin = Kept::new(StorePin {
            runtime: self.clone(),
            object,
        });
        let arena = self.arena()?.clone();
        // SAFETY: RANGE-2 (unchanged-while-read): the raylet answered a get of this process with the range, and holds a
        // reference for it until the pin is dropped; nothing else releases that.
        let object = unsafe { SealedRange::new(arena, view.offset, view.size_bytes, pin) };
        object.map(Bytes::from_owner).map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("the raylet named a bad range: {error}"),
            )
        })
    }

    fn unpin(&self, object: ObjectId) {
        if self.is_closed() {
            return;
        }
        let release = wire::StoreRelease {
            object_id: object.to_wire(),
        };
        self.0.node.tell(Kind::StoreRelease(release), Urgency::Soon);
    }

    /// Asks the raylet for an object that is not at hand. The answer is waited for with [`BegunRead::finish`].
    pub(super) fn begin_read(&self, place: Place) -> BegunRead {
        let get = wire::StoreGet {
            object_id: place.object.to_wire(),
            owner: Some(place.owner.to_wire()),
            locations: place.nodes.iter().map(|node| node.to_wire()).collect(),
            size_bytes: place.size_bytes,
        };
        let awaited = Arc::new(Mutex::new(Awaited::Pending));
        let waiter = aktis_lane::Waiter::new(1);
        let (runtime, told, done) = (self.clone(), Arc::clone(&awaited), Arc::clone(&waiter));
        let object = place.object;
        let request_id = self.0.node.request_async(
            Kind::StoreGet(get),
            Box::new(move |answer| {
                let mut told = told.lock();
                if matches!(*told, Awaited::GivenUp) {
                    runtime.unpin_late(object, &answer);
                } else {
                    *told = Awaited::Answered(answer);
                    done.count_down();
                }
            }),
        );
        BegunRead {
            runtime: self.clone(),
            place,
            awaited,
            waiter,
            request_id,
        }
    }

    /// The raylet answered before it read that nobody waits any more, and holds the object for this process.
    fn unpin_late(&self, object: ObjectId, answer: &Answer) {
        use wire::store_get_reply::Outcome;
        if let Ok((Kind::StoreGetReply(reply), _)) = answer
            && let Some(Outcome::View(_)) = reply.outcome
        {
            self.unpin(object);
        }
    }

    /// Reads a stored object's value; references in it count as held by this process.
    pub(super) fn value_of(&self, object: &Bytes) -> Result<Value, TaskFailure> {
        let broken = |error: String| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("an object in the store is broken: {error}"),
            )
        };
        let (mut value, refs) = read_stored(object).map_err(|error| broken(error.to_string()))?;
        value.contained = self.import_refs(&refs, false).map_err(broken)?;
        Ok(value)
    }

    /// None of these nodes has a copy: the owner is to make another, if no other reader has seen to that meanwhile.
    pub(super) fn report_lost(&self, object: ObjectId, owner: ProcessAddress, missed: &Missed) {
        let Missed { nodes, making } = missed;
        if owner.worker != self.0.me.worker {
            for node in nodes {
                let lost = wire::ObjectLost {
                    object_id: object.to_wire(),
                    node_id: node.to_wire(),
                    making: *making,
                };
                self.tell_peer(owner, wire::lane_frame::Kind::ObjectLost(lost));
            }
        }
        self.with_core(|core, effects| {
            for node in nodes {
                core.objects.copy_lost(object, *node, *making, effects);
            }
        });
    }
}

/// Copies a value to where the raylet made room for it.
#[allow(unsafe_code, reason = "vouches for the answer of the raylet")]
fn write_object(
    arena: &ArenaMap,
    reply: &wire::StoreCreateReply,
    layout: &StoredLayout,
) -> Result<(), ArenaError> {
    // SAFETY: RANGE-1 (alone-while-written): the raylet answered a create of this process with the offset, this is the only
    // range that is made of it, and the object is sealed or aborted after it is used up.
    let range = unsafe { CreatingRange::new(arena, reply.offset, layout.len_bytes() as u64) };
    range?.write(&layout.slices())
}

/// Reads an object from its spill file: the store has no room for it.
fn read_file(file: &wire::StoreFile) -> Result<Bytes, TaskFailure> {
    let failed = |error: String| {
        let message = format!(
            "the object store has no room for this object, and its file cannot be read: {error}"
        );
        TaskFailure::new(ErrorCode::ObjectLost, message)
    };
    let object = SpilledObject::open(Path::new(&file.path), file.offset, file.size_bytes);
    let object = object.map_err(|error| failed(error.to_string()))?;
    let mut buffer = AlignedBuffer::new(object.len_bytes());
    object
        .read(file.checksum, buffer.as_mut_slice())
        .map_err(|error| failed(error.to_string()))?;
    Ok(Bytes::from_owner(buffer))
}

fn unexpected(request: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("the raylet answered {request} with a frame of another kind"),
    )
}

#[cfg(test)]
mod tests;
