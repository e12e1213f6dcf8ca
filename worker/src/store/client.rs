//! The way of this process into the object store of its node.
//!
//! ```text
//!  write ─► room? ─────► raylet         begin_read ─► where? ─► raylet
//!    │ copied into the arena               │ pinned by the raylet, for this process
//!    └─► sealed                            └─► BegunRead::finish ─► bytes in the arena
//! ```
//! An object for which the arena has no room is written and read in a file, which is mapped as if it were another arena.
//!
//! Owns: the mapped arena, what was read a moment ago ([`recent`](super::recent)), the questions that are on their way. Does not
//! own: which objects there are and who needs them (the core), references inside of values (the runtime).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::fork::DroppedUnseen;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_common::marks::{Point, mark};
use aktis_lane::{Reactor, Urgency, Waiter};
use aktis_object_store::{ArenaError, ArenaMap, CreatingRange, SealedRange, with_patience};
use aktis_proto::v1 as wire;
use bytes::Bytes;
use parking_lot::Mutex;
use wire::node_frame::Kind;

use super::layout::{StoredLayout, stream_head};
use super::recent::{LINGER, RecentReads};
use crate::error::TaskFailure;
use crate::life::Life;
use crate::node_link::{Answer, NodeLink};
use crate::reference::ProcessAddress;
use crate::value::{MadeBytes, Value};

/// How long the raylet may take to find room for an object: longer than it takes to spill what is in the way.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);

/// Keeps an object where it is in the arena.
struct StorePin {
    store: StoreClient,
    object: ObjectId,
}

impl Drop for StorePin {
    fn drop(&mut self) {
        self.store.unpin(self.object);
    }
}

/// The answer of the raylet, on its way from the thread that reads it to the one that waits.
#[allow(
    clippy::large_enum_variant,
    reason = "one for each wait, taken apart at once"
)]
enum Awaited {
    /// Who is to be told of it.
    Pending(Option<Arc<Waiter>>),
    Answered(Answer),
    /// Nobody waits any more. An object that was pinned nevertheless is let go.
    GivenUp,
}

/// Why an object could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// No copy that the reader was told of is there any more.
    Lost(Missed),
    Failed(TaskFailure),
}

/// Copies that a reader did not find.
#[derive(Debug)]
pub(crate) struct Missed {
    /// Where they were thought to be.
    pub(crate) nodes: Vec<NodeId>,
    /// See [`ObjectPlace::making`].
    pub(crate) making: u64,
    /// What the store knows of their end, if anything.
    pub(crate) reason: String,
}

/// Where to look for an object.
pub(crate) struct ObjectPlace {
    pub(crate) object: ObjectId,
    pub(crate) owner: ProcessAddress,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) size_bytes: u64,
    /// See [`crate::core::objects::Stored`].
    pub(crate) making: u64,
}

/// A question to the raylet for an object. One that is dropped unanswered is withdrawn.
pub(crate) struct BegunRead {
    store: StoreClient,
    place: ObjectPlace,
    awaited: Arc<Mutex<Awaited>>,
    request_id: u64,
}

impl BegunRead {
    pub(crate) fn is_answered(&self) -> bool {
        matches!(*self.awaited.lock(), Awaited::Answered(_))
    }

    /// Tells `waiter`, and no other any more, when the answer is there.
    pub(crate) fn tell(&self, waiter: &Arc<Waiter>) {
        match &mut *self.awaited.lock() {
            Awaited::Pending(told) => *told = Some(Arc::clone(waiter)),
            Awaited::Answered(_) | Awaited::GivenUp => waiter.count_down(),
        }
    }

    /// Waits for the object by `wait`, which may give up.
    pub(crate) fn finish<E>(
        self,
        wait: impl FnOnce(&Arc<Waiter>) -> Result<(), E>,
    ) -> Result<Bytes, Result<ReadError, E>> {
        let waiter = Waiter::new(1);
        self.tell(&waiter);
        wait(&waiter).map_err(Err)?;
        self.take().map_err(Ok)
    }

    /// The object, if the answer is there.
    pub(crate) fn take(self) -> Result<Bytes, ReadError> {
        let awaited = std::mem::replace(&mut *self.awaited.lock(), Awaited::GivenUp);
        let Awaited::Answered(answer) = awaited else {
            return Err(ReadError::Failed(unexpected("StoreGet")));
        };
        let bytes = self.store.read_answer(&self.place, answer)?;
        self.store.keep_read(self.place.object, bytes.clone());
        Ok(bytes)
    }
}

impl Drop for BegunRead {
    fn drop(&mut self) {
        let awaited = std::mem::replace(&mut *self.awaited.lock(), Awaited::GivenUp);
        match awaited {
            Awaited::Pending(_) => {
                let request_id = self.request_id;
                let cancel = wire::StoreGetCancel { request_id };
                self.store
                    .0
                    .node
                    .tell(Kind::StoreGetCancel(cancel), Urgency::Now);
            }
            Awaited::Answered(answer) => self.store.unpin_late(self.place.object, &answer),
            Awaited::GivenUp => {}
        }
    }
}

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct StoreClient(Arc<Inner>);

struct Inner {
    life: Arc<Life>,
    node: Arc<NodeLink>,
    reactor: Arc<Reactor>,
    /// `None`: the node has no store.
    arena: Option<ArenaMap>,
    recent: Mutex<RecentReads>,
    interrupt: fn() -> bool,
}

impl StoreClient {
    /// `interrupt` is asked while this waits for room; `true` ends the wait.
    pub(crate) fn new(
        life: Arc<Life>,
        node: Arc<NodeLink>,
        reactor: Arc<Reactor>,
        arena: Option<ArenaMap>,
        interrupt: fn() -> bool,
    ) -> Self {
        Self(Arc::new(Inner {
            life,
            node,
            reactor,
            arena,
            recent: Mutex::default(),
            interrupt,
        }))
    }

    /// Lets go of what was read.
    pub(crate) fn close(&self) {
        let reads = std::mem::take(&mut *self.0.recent.lock());
        drop(reads);
    }

    fn arena(&self) -> Result<&ArenaMap, TaskFailure> {
        self.0
            .arena
            .as_ref()
            .ok_or_else(|| TaskFailure::new(ErrorCode::Internal, "this node has no object store"))
    }

    /// Writes a value into the store of this node and seals it. Returns its size there, in bytes.
    pub(crate) fn write(
        &self,
        object: ObjectId,
        owner: ProcessAddress,
        value: &Value,
    ) -> Result<u64, TaskFailure> {
        let layout = StoredLayout::of(value);
        let size_bytes = layout.len_bytes() as u64;
        let slices = layout.slices();
        self.write_by(object, owner, size_bytes, |range| range.write(&slices))?;
        Ok(size_bytes)
    }

    /// The same of an Arrow stream that is made where it comes to lie.
    pub(crate) fn write_made(
        &self,
        object: ObjectId,
        owner: ProcessAddress,
        stream: &dyn MadeBytes,
    ) -> Result<u64, TaskFailure> {
        let head = stream_head(stream.len_bytes());
        let size_bytes = (head.len() + stream.len_bytes()) as u64;
        let make = |at: usize, into: &mut [u8]| {
            let of_head = head.get(at..).unwrap_or_default();
            let (first, rest) = into.split_at_mut(of_head.len().min(into.len()));
            first.copy_from_slice(&of_head[..first.len()]);
            if !rest.is_empty() {
                stream.make(at + first.len() - head.len(), rest);
            }
        };
        self.write_by(object, owner, size_bytes, |range| range.write_made(&make))?;
        Ok(size_bytes)
    }

    /// Has an object of this size written, and seals it.
    fn write_by(
        &self,
        object: ObjectId,
        owner: ProcessAddress,
        size_bytes: u64,
        write: impl FnOnce(CreatingRange<&ArenaMap>) -> Result<(), ArenaError>,
    ) -> Result<(), TaskFailure> {
        let create = wire::StoreCreate {
            object_id: object.to_wire(),
            size_bytes,
            owner: Some(owner.to_wire()),
        };
        let deadline = Some(Instant::now() + CREATE_TIMEOUT);
        let created = self.0.node.request(
            &self.0.reactor,
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
            return Ok(());
        }
        // What makes the bytes may panic.
        let mut unwritten = Unwritten {
            store: self,
            object,
            is_whole: false,
        };
        let written = if reply.file.is_empty() {
            creating(self.arena()?, reply.offset, size_bytes).and_then(write)
        } else {
            let file = with_patience(|| ArenaMap::of_new_file(Path::new(&reply.file)));
            file.and_then(|file| write(creating(&file, 0, size_bytes)?))
        };
        if let Err(error) = written {
            let message = format!(
                "cannot write {size_bytes} bytes into the object store: {}",
                error.chain()
            );
            return Err(match error.os_error() {
                Some(number) => TaskFailure::of_os(number, message),
                None => TaskFailure::new(ErrorCode::Internal, message),
            });
        }
        unwritten.is_whole = true;
        mark(Point::StoreWritten);
        let seal = wire::StoreSeal {
            object_id: object.to_wire(),
        };
        self.0.node.tell(Kind::StoreSeal(seal), Urgency::Now);
        Ok(())
    }

    fn abort_create(&self, object: ObjectId) {
        let abort = wire::StoreAbort {
            object_id: object.to_wire(),
        };
        self.0.node.tell(Kind::StoreAbort(abort), Urgency::Now);
    }

    /// An object that was read a moment ago.
    pub(crate) fn read_again(&self, object: ObjectId) -> Option<Bytes> {
        self.0.recent.lock().again(object, Instant::now())
    }

    fn keep_read(&self, object: ObjectId, bytes: Bytes) {
        mark(Point::StorePinned);
        let mut recent = self.0.recent.lock();
        let is_first = recent.keep(object, bytes, Instant::now());
        drop(recent);
        if is_first {
            // The lane thread lets go of it in time.
            self.0.reactor.call_lane(LINGER);
        }
    }

    /// Lets go of what was not read for a while. Says when to come again.
    pub(crate) fn expire_reads(&self, now: Instant) -> Option<Duration> {
        let (over, next) = self.0.recent.lock().expire(now);
        drop(over);
        next
    }

    /// The object is freed, or lost.
    pub(crate) fn forget_read(&self, object: ObjectId) {
        let freed = self.0.recent.lock().forget(object);
        drop(freed);
    }

    fn read_answer(&self, place: &ObjectPlace, answer: Answer) -> Result<Bytes, ReadError> {
        use wire::store_get_reply::Outcome;
        let Kind::StoreGetReply(reply) = answer.map_err(ReadError::Failed)?.0 else {
            return Err(ReadError::Failed(unexpected("StoreGet")));
        };
        match reply.outcome {
            Some(Outcome::View(view)) => self.pin(place.object, &view).map_err(ReadError::Failed),
            Some(Outcome::File(file)) => {
                let read = self.pin_file(place.object, &file);
                read.map_err(ReadError::Failed)
            }
            Some(Outcome::Lost(lost)) => {
                let tried = lost
                    .tried_nodes
                    .iter()
                    .filter_map(|node| NodeId::from_bytes(node).ok());
                let mut nodes: Vec<_> = place.nodes.clone();
                nodes.extend(tried);
                Err(ReadError::Lost(Missed {
                    nodes,
                    making: place.making,
                    reason: lost.reason,
                }))
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
        let pin = DroppedUnseen::new(StorePin {
            store: self.clone(),
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

    /// The same of an object that lies in a file.
    #[allow(unsafe_code, reason = "vouches for the answer of the raylet")]
    fn pin_file(&self, object: ObjectId, file: &wire::StoreFile) -> Result<Bytes, TaskFailure> {
        let pin = DroppedUnseen::new(StorePin {
            store: self.clone(),
            object,
        });
        let arena = with_patience(|| ArenaMap::of_sealed_file(Path::new(&file.path)));
        let mapped = arena.and_then(|arena| {
            // SAFETY: RANGE-2 (unchanged-while-read): as in `pin`; the file stays, too, until the pin is dropped.
            let object = unsafe { SealedRange::new(arena, file.offset, file.size_bytes, pin) }?;
            object.read_in(0..object.len())?;
            Ok(object)
        });
        mapped.map(Bytes::from_owner).map_err(|error| {
            // Whether its bytes are right the raylet looks anew for the next reader.
            let message = format!(
                "the object store has no room for this object, and its file cannot be read now: {}",
                error.chain()
            );
            TaskFailure::new(ErrorCode::ObjectUnreadable, message)
        })
    }

    fn unpin(&self, object: ObjectId) {
        if self.0.life.is_closed() {
            return;
        }
        let release = wire::StoreRelease {
            object_id: object.to_wire(),
        };
        self.0.node.tell(Kind::StoreRelease(release), Urgency::Soon);
    }

    /// Asks the raylet for an object that is not at hand. The answer is waited for with [`BegunRead::finish`].
    pub(crate) fn begin_read(&self, place: ObjectPlace) -> BegunRead {
        let get = wire::StoreGet {
            object_id: place.object.to_wire(),
            owner: Some(place.owner.to_wire()),
            locations: place.nodes.iter().map(|node| node.to_wire()).collect(),
            size_bytes: place.size_bytes,
        };
        let awaited = Arc::new(Mutex::new(Awaited::Pending(None)));
        let (store, told) = (self.clone(), Arc::clone(&awaited));
        let object = place.object;
        let request_id = self.0.node.request_async(
            Kind::StoreGet(get),
            Box::new(move |answer| {
                let mut told = told.lock();
                if matches!(*told, Awaited::GivenUp) {
                    store.unpin_late(object, &answer);
                } else if let Awaited::Pending(Some(waiter)) =
                    std::mem::replace(&mut *told, Awaited::Answered(answer))
                {
                    waiter.count_down();
                }
            }),
        );
        BegunRead {
            store: self.clone(),
            place,
            awaited,
            request_id,
        }
    }

    /// The raylet answered before it read that nobody waits any more, and holds the object for this process.
    fn unpin_late(&self, object: ObjectId, answer: &Answer) {
        use wire::store_get_reply::Outcome;
        if let Ok((Kind::StoreGetReply(reply), _)) = answer
            && let Some(Outcome::View(_) | Outcome::File(_)) = reply.outcome
        {
            self.unpin(object);
        }
    }
}

/// An object that has room and is not written: the room is given back with this.
struct Unwritten<'a> {
    store: &'a StoreClient,
    object: ObjectId,
    is_whole: bool,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.store.abort_create(self.object);
        }
    }
}

/// Where the raylet made room for an object.
#[allow(unsafe_code, reason = "vouches for the answer of the raylet")]
fn creating(
    arena: &ArenaMap,
    offset: u64,
    size_bytes: u64,
) -> Result<CreatingRange<&ArenaMap>, ArenaError> {
    // SAFETY: RANGE-1 (alone-while-written): the raylet answered a create of this process with the place, this is the only
    // range that is made of it, and the object is sealed or aborted after it is used up.
    unsafe { CreatingRange::new(arena, offset, size_bytes) }
}

fn unexpected(request: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("the raylet answered {request} with a frame of another kind"),
    )
}
