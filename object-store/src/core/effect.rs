//! What the table wants done.

use aktis_common::ids::ObjectId;

use super::allocator::Extent;
use super::object::{SpillFileId, SpillSlot, SpilledPart};
use super::request::{BytesAt, ClientId, CreateError, FileLocation, GetError};

/// Work for whoever drives the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEffect {
    /// Tell a client, or the node.
    Reply(StoreReply),
    /// Write these objects into a new file, then call
    /// [`spill_written`](super::ObjectTable::spill_written).
    WriteSpillFile {
        /// The file to make.
        file: SpillFileId,
        /// Its objects, in the order they are to be written.
        parts: Vec<SpilledPart>,
    },
    /// Read an object back, then call
    /// [`object_restored`](super::ObjectTable::object_restored).
    RestoreObject {
        /// The object.
        oid: ObjectId,
        /// Where it lies on disk.
        slot: SpillSlot,
        /// Where in the arena it goes.
        offset: u64,
    },
    /// Make a file of this length, which a client will fill with one object, then call
    /// [`file_created`](super::ObjectTable::file_created).
    CreateFile {
        /// The file to make.
        file: SpillFileId,
        /// Length of the object in bytes.
        len: u64,
    },
    /// Read an object where it lies, to be sure of its bytes before clients map them, then call
    /// [`object_checked`](super::ObjectTable::object_checked).
    CheckObject {
        /// The object.
        oid: ObjectId,
        /// Where it lies on disk.
        place: FileLocation,
        /// The checksum that it has to have; none for one that has just been written.
        checksum: Option<u64>,
    },
    /// No object is left in this file.
    DeleteSpillFile {
        /// The file to delete.
        file: SpillFileId,
    },
    /// Make the pages of this range now, then call
    /// [`pages_populated`](super::ObjectTable::pages_populated).
    PopulatePages {
        /// The range; nobody else uses it meanwhile.
        extent: Extent,
    },
    /// Give the pages of this range back to the system, then call
    /// [`pages_discarded`](super::ObjectTable::pages_discarded).
    DiscardPages {
        /// The range; nobody else uses it meanwhile.
        extent: Extent,
    },
}

/// A late answer to a client, or news for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReply {
    /// Answer to a create that was pending.
    Created {
        /// Who asked.
        client: ClientId,
        /// For which object.
        oid: ObjectId,
        /// Where to write, or why not.
        result: Result<BytesAt, CreateError>,
    },
    /// Answer to one get that was pending or restoring. With `Ok`, the client now holds one read
    /// reference.
    Got {
        /// Who asked.
        client: ClientId,
        /// For which object.
        oid: ObjectId,
        /// Where to read, or why not.
        result: Result<BytesAt, GetError>,
    },
    /// This node no longer has the object, though its owner did not free it.
    ObjectGone {
        /// The object.
        oid: ObjectId,
        /// What happened.
        reason: GoneReason,
        /// How many gets still wait for it to come (back).
        waiting_gets: usize,
    },
}

/// Why a node no longer has an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoneReason {
    /// A secondary copy made room.
    Evicted,
    /// Its creator gave up, or went, before sealing it.
    Abandoned,
    /// Its bytes could not be read back from disk.
    Lost(String),
}
