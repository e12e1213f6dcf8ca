//! What `aktis status` and the state API show of a store.

use aktis_common::ids::{ObjectId, WorkerId};

use super::object::ObjectState;
use super::request::ClientId;

/// The store at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Objects known here, in any state.
    pub objects: u64,
    /// Size of the arena.
    pub capacity_bytes: u64,
    /// Bytes allocated in the arena.
    pub used_bytes: u64,
    /// Longest free piece of the arena.
    pub largest_free_bytes: u64,
    /// End of the part of the arena that has been used: an upper bound of what it costs.
    pub high_water_bytes: u64,
    /// Arena bytes of objects that clients read.
    pub pinned_by_readers_bytes: u64,
    /// Arena bytes of objects that clients create.
    pub creating_bytes: u64,
    /// Arena bytes of primary copies that nobody reads and that are not on disk.
    pub spillable_bytes: u64,
    /// Arena bytes that can be had without writing anything.
    pub evictable_bytes: u64,
    /// Files of spilled objects and of those that were created on the disk, those being written included.
    pub spill_files: u64,
    /// Bytes in these files.
    pub spill_file_bytes: u64,
    /// Bytes of objects that were created on the disk since the start, for want of room in the arena.
    pub created_on_disk_bytes: u64,
    /// Objects that clients read in their files.
    pub mapped_objects: u64,
    /// Objects evicted since the start.
    pub evicted_objects: u64,
    /// Bytes written to spill files since the start.
    pub spilled_bytes: u64,
    /// Bytes read back since the start.
    pub restored_bytes: u64,
    /// Why spilling does not work at the moment, if so.
    pub spill_error: Option<String>,
    /// Requests that wait for room, in the order in which they will get it.
    pub waiting: Vec<WaitingRequest>,
    /// Gets that wait for an object to be made or to arrive.
    pub waiting_gets: u64,
}

impl StoreStats {
    /// Bytes not allocated, in however many pieces.
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes - self.used_bytes
    }
}

/// A request that waits for room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRequest {
    /// For which object.
    pub oid: ObjectId,
    /// Who creates it; none for an object that is to come back from disk.
    pub client: Option<ClientId>,
    /// The room it needs.
    pub size_bytes: u64,
    /// What it waits for, for people.
    pub reason: String,
}

/// One object, for listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The object.
    pub oid: ObjectId,
    /// Who owns it.
    pub owner: WorkerId,
    /// Its size.
    pub size_bytes: u64,
    /// Its state.
    pub state: ObjectState,
    /// Whether this is the primary copy.
    pub is_primary: bool,
    /// Read references that clients hold.
    pub reader_count: u64,
}
