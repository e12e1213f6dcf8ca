//! The object store of the node as its processes use it: their frames in, answers out.
//!
//! This is the one path that does not pass the core: a create or get of an object that is here is answered within the
//! round in which its frame came in. Only what is not here becomes an event for the core.

mod copies;
mod late;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{InvalidId, NodeId, ObjectId, WorkerId};
use aktis_object_store::{
    ArenaError, ArenaHandle, ArenaMap, BytesAt, ClientId, CreateAnswer, CreateError, FileLocation,
    GetAnswer, GetError, IoDone, NodeStore, ObjectLocation, StoreConfig, StoreOpenError,
    StoreReply, StoreStats,
};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    Address, Done, Failure, Lost, StoreCreate, StoreCreateReply, StoreFile, StoreGet,
    StoreGetReply, StoreView, store_get_reply,
};
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::core::event::StoreEvent;
use crate::core::keys::{ConnectionId, ReplyTo};
use crate::inbox::{Mailbox, Message};

/// The raylet itself, as the writer of copies from other nodes.
pub(crate) const PULLER: ClientId = ClientId(u64::MAX);
/// The raylet itself, as the reader for other nodes.
pub(crate) const SERVER: ClientId = ClientId(u64::MAX - 1);

/// What comes of a frame, or later of one that had to wait.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "moved once; a box per frame costs more"
)]
pub(crate) enum StoreOutput {
    /// A frame for a process.
    Frame {
        connection: ConnectionId,
        request_id: u64,
        kind: Kind,
    },
    /// News for the core.
    Event(StoreEvent),
    /// A copy that is being fetched has its place, or cannot have one.
    PullPlaced {
        object: ObjectId,
        place: Result<BytesAt, CreateError>,
    },
    /// An object that another node wants to read is there to be read, or not to be had.
    ReadReady {
        reply_to: ReplyTo,
        object: ObjectId,
        place: Result<BytesAt, GetError>,
    },
}

/// The store and who waits for it.
pub(crate) struct StorePort {
    store: NodeStore,
    here: NodeId,
    late: Arc<Mutex<Vec<StoreReply>>>,
    creating: FxHashMap<(ClientId, ObjectId), u64>,
    getting: FxHashMap<(ClientId, ObjectId), VecDeque<ReplyTo>>,
    /// Objects that are being copied here.
    pulling: FxHashSet<ObjectId>,
    /// Copies that wait for room.
    room_wanted: FxHashMap<ObjectId, copies::RoomWanted>,
    foreign_owners: FxHashMap<NodeId, FxHashSet<WorkerId>>,
    outputs: Vec<StoreOutput>,
}

impl StorePort {
    /// Opens the store of node `here`.
    pub(crate) fn open(
        config: StoreConfig,
        here: NodeId,
        mailbox: Mailbox,
    ) -> Result<Self, StoreOpenError> {
        let late = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&late);
        let store = NodeStore::new(
            config,
            move |done| mailbox.send(Message::StoreIo(done)),
            move |reply| sink.lock().push(reply),
        )?;
        Ok(Self {
            store,
            here,
            late,
            creating: FxHashMap::default(),
            getting: FxHashMap::default(),
            pulling: FxHashSet::default(),
            room_wanted: FxHashMap::default(),
            foreign_owners: FxHashMap::default(),
            outputs: Vec::new(),
        })
    }

    /// How processes map the arena.
    pub(crate) fn arena_handle(&self) -> Result<ArenaHandle, ArenaError> {
        self.store.arena_handle()
    }

    /// What a copy that comes in is written to.
    pub(crate) fn map_for_writing(
        &self,
        at: BytesAt,
    ) -> Result<(ArenaMap, ObjectLocation), ArenaError> {
        self.store.map_for_writing(at)
    }

    /// What a copy that goes out is read from, if it lies in memory.
    pub(crate) fn arena(&self) -> ArenaMap {
        self.store.map().clone()
    }

    /// The file of one that does not.
    pub(crate) fn file_of(&self, place: FileLocation) -> PathBuf {
        self.store.file_of(place)
    }

    /// Figures of the store.
    pub(crate) fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Serves a frame of a process; gives back what is not the store's.
    pub(crate) fn on_frame(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        kind: Kind,
    ) -> Option<Kind> {
        let client = client(connection);
        let result = match kind {
            Kind::StoreCreate(create) => self.on_create(connection, request_id, create),
            Kind::StoreGet(get) => self.on_get(connection, request_id, get),
            Kind::StoreSeal(seal) => {
                self.acknowledge(connection, request_id, &seal.object_id, |store, object| {
                    store
                        .seal(client, object)
                        .map_err(|error| error.to_string())
                })
            }
            Kind::StoreAbort(abort) => {
                self.acknowledge(connection, request_id, &abort.object_id, |store, object| {
                    store
                        .abort(client, object)
                        .map_err(|error| error.to_string())
                })
            }
            Kind::StoreRelease(release) => self.acknowledge(
                connection,
                request_id,
                &release.object_id,
                |store, object| {
                    store
                        .release(client, object)
                        .map_err(|error| error.to_string())
                },
            ),
            other => return Some(other),
        };
        if let Err(failure) = result {
            self.put(connection, request_id, Kind::Failure(failure));
        }
        None
    }

    /// Does something that is only acknowledged, and only if the process wants it to be.
    fn acknowledge(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        object_id: &Bytes,
        action: impl FnOnce(&mut NodeStore, ObjectId) -> Result<(), String>,
    ) -> Result<(), Failure> {
        let object = object_of(object_id)?;
        let done = action(&mut self.store, object);
        if request_id != 0 {
            done.map_err(|message| Failure::of(ErrorCode::InvalidArgument, message))?;
            self.put(connection, request_id, Kind::Done(Done {}));
        } else if let Err(error) = done {
            tracing::debug!(%connection, %error, "a process misuses the store");
        }
        Ok(())
    }

    fn on_create(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        create: StoreCreate,
    ) -> Result<(), Failure> {
        let object = object_of(&create.object_id)?;
        let owner = self.owner_of(create.owner.as_ref())?;
        match self
            .store
            .create(client(connection), object, owner, create.size_bytes, true)
        {
            Ok(CreateAnswer::Created(place)) => {
                self.put_created(connection, request_id, BytesAt::Arena(place));
            }
            Ok(CreateAnswer::Pending) => {
                self.creating
                    .insert((client(connection), object), request_id);
            }
            Err(error) => self.put_create_error(connection, request_id, &error),
        }
        Ok(())
    }

    fn put_created(&mut self, connection: ConnectionId, request_id: u64, at: BytesAt) {
        let reply = match at {
            BytesAt::Arena(place) => StoreCreateReply {
                offset: place.offset,
                ..StoreCreateReply::default()
            },
            BytesAt::File(place) => StoreCreateReply {
                file: self.store.file_of(place).display().to_string(),
                ..StoreCreateReply::default()
            },
        };
        self.put(connection, request_id, Kind::StoreCreateReply(reply));
    }

    fn put_create_error(&mut self, connection: ConnectionId, request_id: u64, error: &CreateError) {
        let kind = match error {
            CreateError::AlreadyExists {
                is_sealed: true, ..
            } => Kind::StoreCreateReply(StoreCreateReply {
                already_exists: true,
                ..StoreCreateReply::default()
            }),
            error => Kind::Failure(create_failure(error)),
        };
        self.put(connection, request_id, kind);
    }

    fn on_get(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        get: StoreGet,
    ) -> Result<(), Failure> {
        let object = object_of(&get.object_id)?;
        let client = client(connection);
        let reply_to = ReplyTo::Process {
            connection,
            request_id,
        };
        match self.store.get(client, object) {
            Ok(GetAnswer::Ready(at)) => self.put_got(connection, request_id, Ok(at)),
            Ok(GetAnswer::Restoring) => self.await_get(client, object, reply_to),
            Ok(GetAnswer::Pending) => {
                self.await_get(client, object, reply_to);
                let is_coming =
                    self.store.state(object).is_some() && !self.pulling.contains(&object);
                if !is_coming {
                    self.outputs
                        .push(StoreOutput::Event(StoreEvent::Missing { reply_to, get }));
                }
            }
            Err(error) => self.put_got(connection, request_id, Err(error)),
        }
        Ok(())
    }

    fn await_get(&mut self, client: ClientId, object: ObjectId, reply_to: ReplyTo) {
        self.getting
            .entry((client, object))
            .or_default()
            .push_back(reply_to);
    }

    fn put_got(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        at: Result<BytesAt, GetError>,
    ) {
        let outcome = match at {
            Ok(BytesAt::Arena(place)) => store_get_reply::Outcome::View(StoreView {
                offset: place.offset,
                size_bytes: place.len,
            }),
            Ok(BytesAt::File(place)) => store_get_reply::Outcome::File(StoreFile {
                path: self.store.file_of(place).display().to_string(),
                offset: place.offset,
                size_bytes: place.len,
            }),
            Err(GetError::Lost { reason, .. }) => store_get_reply::Outcome::Lost(Lost {
                tried_nodes: vec![self.here.to_wire()],
                reason,
            }),
            Err(error) => store_get_reply::Outcome::Failure(get_failure(&error)),
        };
        self.put_outcome(connection, request_id, outcome);
    }

    fn put_outcome(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        outcome: store_get_reply::Outcome,
    ) {
        let reply = StoreGetReply {
            outcome: Some(outcome),
        };
        self.put(connection, request_id, Kind::StoreGetReply(reply));
    }

    fn put(&mut self, connection: ConnectionId, request_id: u64, kind: Kind) {
        self.outputs.push(StoreOutput::Frame {
            connection,
            request_id,
            kind,
        });
    }

    fn owner_of(&mut self, owner: Option<&Address>) -> Result<WorkerId, Failure> {
        let wrong = |error: InvalidId| {
            Failure::of(
                ErrorCode::InvalidArgument,
                format!("owner of an object: {error}"),
            )
        };
        let Some(owner) = owner else {
            return Ok(WorkerId::NIL);
        };
        let (node, worker) = (owner.node().map_err(wrong)?, owner.worker().map_err(wrong)?);
        if node != self.here {
            self.foreign_owners.entry(node).or_default().insert(worker);
        }
        Ok(worker)
    }

    /// Ends a wait without the object. Does nothing if it has been answered already: each get has one answer.
    pub(crate) fn end_get(&mut self, reply_to: ReplyTo, outcome: store_get_reply::Outcome) {
        let waiting = self
            .getting
            .iter()
            .find(|(_, waiters)| waiters.contains(&reply_to));
        let Some((client, object)) = waiting.map(|(key, _)| *key) else {
            return;
        };
        self.forget_get(client, object, reply_to);
        self.store.cancel_get(client, object);
        if let ReplyTo::Process {
            connection,
            request_id,
        } = reply_to
        {
            self.put_outcome(connection, request_id, outcome);
        }
    }

    fn forget_get(&mut self, client: ClientId, object: ObjectId, reply_to: ReplyTo) -> bool {
        let Some(waiters) = self.getting.get_mut(&(client, object)) else {
            return false;
        };
        let Some(position) = waiters.iter().position(|waiter| *waiter == reply_to) else {
            return false;
        };
        waiters.remove(position);
        if waiters.is_empty() {
            self.getting.remove(&(client, object));
        }
        true
    }

    /// A process is gone.
    pub(crate) fn client_gone(&mut self, connection: ConnectionId) {
        let gone = client(connection);
        self.creating.retain(|(client, _), _| *client != gone);
        self.getting.retain(|(client, _), _| *client != gone);
        self.store.client_gone(gone);
    }

    /// An owner is gone, and its objects with it.
    pub(crate) fn owner_gone(&mut self, owner: WorkerId) {
        self.store.owner_gone(owner);
    }

    /// All owners of a node are gone, and their objects with them.
    pub(crate) fn owners_of_node_gone(&mut self, node: NodeId) {
        for owner in self.foreign_owners.remove(&node).unwrap_or_default() {
            self.store.owner_gone(owner);
        }
    }

    /// All owners of other nodes have given up what they have here.
    pub(crate) fn foreign_owners_gone(&mut self) {
        for owner in std::mem::take(&mut self.foreign_owners)
            .into_values()
            .flatten()
        {
            self.store.owner_gone(owner);
        }
    }

    /// Nobody references these objects any more.
    pub(crate) fn free(&mut self, object_ids: &[Bytes]) {
        for object in object_ids
            .iter()
            .filter_map(|id| ObjectId::from_bytes(id).ok())
        {
            self.store.free(object);
        }
    }

    /// Takes in the outcome of background work.
    pub(crate) fn on_io(&mut self, done: IoDone) {
        self.store.on_io(done);
    }

    /// To be called a few times a second.
    pub(crate) fn on_tick(&mut self, now: Instant) {
        self.store.on_tick(now);
    }
}

fn client(connection: ConnectionId) -> ClientId {
    ClientId(connection.0)
}

fn object_of(bytes: &Bytes) -> Result<ObjectId, Failure> {
    ObjectId::from_bytes(bytes)
        .map_err(|error| Failure::of(ErrorCode::InvalidArgument, error.to_string()))
}

/// What a process, or the reader of a copy, is told when there is no room.
pub(crate) fn create_failure(error: &CreateError) -> Failure {
    let code = match error {
        CreateError::AlreadyExists { .. } => ErrorCode::AlreadyExists,
        CreateError::TooLarge { .. } | CreateError::Full(_) => ErrorCode::ObjectStoreFull,
    };
    Failure::of(code, error.to_string())
}

/// What a reader is told when an object cannot be read.
pub(crate) fn get_failure(error: &GetError) -> Failure {
    let code = match error {
        GetError::Lost { .. } | GetError::Freed { .. } => ErrorCode::ObjectLost,
        GetError::Unreadable { .. } => ErrorCode::ObjectUnreadable,
    };
    Failure::of(code, error.to_string())
}
