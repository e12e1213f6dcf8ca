//! What clients ask of the store, and the answers they can get.

use std::fmt;

use aktis_common::ids::ObjectId;

use super::object::SpillFileId;

/// One connection to the store. References and half-made objects belong to it and go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.0)
    }
}

/// Where an object's bytes are in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLocation {
    /// Distance from the start of the arena, a multiple of 64.
    pub offset: u64,
    /// Length of the object in bytes.
    pub len: u64,
}

/// Where an object's bytes are in a file of the spill folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLocation {
    /// The file.
    pub file: SpillFileId,
    /// Distance from its start, a multiple of 64.
    pub offset: u64,
    /// Length of the object in bytes.
    pub len: u64,
}

/// Where an object is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BytesAt {
    /// In the arena.
    Arena(ObjectLocation),
    /// In a file, which clients map as they do the arena.
    File(FileLocation),
}

impl BytesAt {
    /// Length of the object in bytes.
    pub fn len_bytes(self) -> u64 {
        match self {
            BytesAt::Arena(place) => place.len,
            BytesAt::File(place) => place.len,
        }
    }
}

/// The immediate answer to a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateAnswer {
    /// Write here, then seal.
    Created(ObjectLocation),
    /// There is no room yet. A [`StoreReply::Created`](super::StoreReply::Created) follows.
    Pending,
}

/// The immediate answer to a get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetAnswer {
    /// Sealed, in memory or mapped by others already; the client now holds one read reference.
    Ready(BytesAt),
    /// On disk. A [`StoreReply::Got`](super::StoreReply::Got) follows.
    Restoring,
    /// Not here, or not sealed yet. A [`StoreReply::Got`](super::StoreReply::Got) follows when it is.
    Pending,
}

/// Why an object cannot be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// Somebody made it, or is making it.
    #[error("create object {oid}: it {}", if *.is_sealed { "exists" } else { "is being created" })]
    AlreadyExists {
        /// The object.
        oid: ObjectId,
        /// Whether it can be read already.
        is_sealed: bool,
    },
    /// No amount of spilling would make room.
    #[error(
        "create object {oid}: {requested_bytes} bytes are more than the whole object store of \
         {capacity_bytes} bytes; make the object smaller or the store larger (object_store_memory)"
    )]
    TooLarge {
        /// The object.
        oid: ObjectId,
        /// Its size.
        requested_bytes: u64,
        /// The size of the store.
        capacity_bytes: u64,
    },
    /// Nothing more can be evicted or spilled, and the disk does not take it either.
    #[error("create object {oid}: {0}", oid = .0.oid)]
    Full(Box<StoreFull>),
}

/// A store in which no room can be made, with the sizes that say why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFull {
    /// The object for which there is no room.
    pub oid: ObjectId,
    /// Its size.
    pub requested_bytes: u64,
    /// The size of the store.
    pub capacity_bytes: u64,
    /// Bytes allocated.
    pub used_bytes: u64,
    /// The longest free piece.
    pub largest_free_bytes: u64,
    /// Bytes of objects that clients are reading: these cannot be moved.
    pub pinned_by_readers_bytes: u64,
    /// Bytes of objects that clients are creating.
    pub creating_bytes: u64,
    /// Bytes of primary copies that nobody reads.
    pub spillable_bytes: u64,
    /// Bytes in files: of spilled objects, and of those that were created on the disk.
    pub spilled_bytes: u64,
    /// The most that may be in files, if there is a limit; 0 where spilling is off.
    pub spill_limit_bytes: Option<u64>,
    /// Why the last spill failed, if it did.
    pub spill_error: Option<String>,
}

impl fmt::Display for StoreFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the object store is full: requested {} bytes, capacity {}, used {} (pinned by readers \
             {}, being created {}, spillable {}), largest free piece {}, on the disk {}",
            self.requested_bytes,
            self.capacity_bytes,
            self.used_bytes,
            self.pinned_by_readers_bytes,
            self.creating_bytes,
            self.spillable_bytes,
            self.largest_free_bytes,
            self.spilled_bytes,
        )?;
        match self.spill_limit_bytes {
            Some(0) => write!(f, " (spilling is off)")?,
            Some(limit) => write!(f, " of at most {limit} (spill_limit_bytes)")?,
            None => {}
        }
        if let Some(error) = &self.spill_error {
            write!(f, "; spilling failed: {error}")?;
        }
        write!(
            f,
            "; drop references or views, make the store larger (object_store_memory)"
        )?;
        match self.spill_limit_bytes {
            Some(0) => write!(f, ", or let it spill (spill_limit_bytes, spill_dir)"),
            Some(_) => write!(f, ", or let more of it lie on the disk (spill_limit_bytes)"),
            None => write!(f, ", or give it a disk with more room (spill_dir)"),
        }
    }
}

/// Why an object cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// Its bytes are gone; only recomputing it helps.
    #[error("get object {oid}: its bytes are lost: {reason}")]
    Lost {
        /// The object.
        oid: ObjectId,
        /// What happened to them.
        reason: String,
    },
    /// Its owner has no references left.
    #[error("get object {oid}: it was freed by its owner")]
    Freed {
        /// The object.
        oid: ObjectId,
    },
    /// It is on disk, and the disk does not give it now. It stays there.
    #[error(
        "get object {oid}: its bytes are on disk and cannot be read at the moment: {reason}; they \
         are kept, and may be asked for again"
    )]
    Unreadable {
        /// The object.
        oid: ObjectId,
        /// What the system said, with the file's name.
        reason: String,
    },
}

/// Why an object was not read back from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreFailure {
    /// What was read is not what was written: its bytes are gone.
    Corrupt(String),
    /// It could not be read. That says nothing about the bytes.
    Unreadable(String),
}

/// Why an object cannot be sealed or aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The object is not one that is being created.
    #[error("seal object {oid}: it is not being created")]
    NotCreating {
        /// The object.
        oid: ObjectId,
    },
    /// Somebody else is creating it.
    #[error("seal object {oid}: it is being created by {writer}, not by {client}")]
    NotWriter {
        /// The object.
        oid: ObjectId,
        /// Who asked.
        client: ClientId,
        /// Whose object it is.
        writer: ClientId,
    },
}

/// Why a reference cannot be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("release object {oid}: {client} holds no reference to it")]
pub struct ReleaseError {
    /// The object.
    pub oid: ObjectId,
    /// Who asked.
    pub client: ClientId,
}
