//! One object: where its bytes are, and what may happen to them.
//!
//! ```text
//!             create                 seal                    spill
//!  (none) ---> Queued ---> Creating -----> Memory ----------------> Spilling
//!                 |            |            ^  |                       |
//!            client gone, abort|            |  | evict: secondary      | written
//!                 v            v            |  v copy: (none)          v
//!              (none)       (none)          | Disk <----------- Memory + slot
//!                                           |  |   evict
//!                    Lost <--- Restoring <--'  | get; the file cannot be read: back
//!                      read is   |  ^          v
//!                      corrupt   |  '---- RestoreQueued
//!                                '-> Memory + slot
//! ```
//! An object whose bytes are in memory *and* in a spill file is evicted without writing again.
//!
//! Where readers hold all of the arena, and there is no room for long, an object is made and read in a file:
//! ```text
//!            no room        file is there           seal               read once
//!   Queued --------> FileWanted ----> FileCreating ----> FileSealing ----------> Disk
//!      ^                 |                                    '-> Lost: it is shorter than it was
//!      |                 |                                    '-> Disk: it cannot be read now, but when somebody asks for it
//!      '-----------------' the disk has no room
//!
//!                        no room             bytes are right
//!   Disk, RestoreQueued --------> Checking ------------------> Disk, read there (Mapped) --> Disk
//!                                    '-> Lost, or back to Disk: as Restoring
//! ```

use aktis_common::ids::WorkerId;

use super::allocator::Extent;
use super::queue::Standstill;
use super::request::{ClientId, FileLocation};

/// One spill file. Numbers are not used twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpillFileId(pub u64);

/// Where in a spill file an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpillSlot {
    /// The file.
    pub file: SpillFileId,
    /// Distance from its start.
    pub file_offset: u64,
    /// Length of the object in bytes.
    pub len: u64,
    /// [`checksum64`](crate::checksum64) of the bytes; none of a file that nobody could read since it was written.
    pub checksum: Option<u64>,
}

impl SpillSlot {
    /// Where the object lies.
    pub(crate) fn location(self) -> FileLocation {
        FileLocation {
            file: self.file,
            offset: self.file_offset,
            len: self.len,
        }
    }
}

/// One object of a spill file that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpilledPart {
    /// The object.
    pub oid: aktis_common::ids::ObjectId,
    /// Where its bytes are in the arena.
    pub location: super::request::ObjectLocation,
}

/// The state of an object as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectState {
    /// Being written by its creator, or waiting for room to be.
    Created,
    /// A secondary copy that somebody reads.
    Sealed,
    /// The primary copy: kept until its owner frees it.
    Pinned,
    /// A copy that may go: another one exists, on another node or on disk.
    Evictable,
    /// Being written to disk; still readable in memory.
    Spilling,
    /// On disk only.
    Spilled,
    /// On disk only, and read there by clients that map its file.
    Mapped,
    /// Being read back from disk, or waiting for room to be.
    Restoring,
    /// Its bytes are gone.
    Lost,
}

/// Where the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Residence {
    /// Waits for room to be created in.
    Queued { writer: ClientId },
    /// Being written by `writer`.
    Creating { writer: ClientId, extent: Extent },
    /// Waits for `file` to be made, in which `writer` will write it.
    FileWanted {
        writer: ClientId,
        file: SpillFileId,
        /// Since when it waits for room.
        standstill: Standstill,
    },
    /// Being written by `writer` into `file`.
    FileCreating { writer: ClientId, file: SpillFileId },
    /// All in `file`, whose checksum is being taken.
    FileSealing { file: SpillFileId },
    /// In memory, and on disk if there is a slot.
    Memory {
        extent: Extent,
        disk: Option<SpillSlot>,
    },
    /// In memory, being written to `file`.
    Spilling { extent: Extent, file: SpillFileId },
    /// On disk, and read there if it has readers.
    Disk { slot: SpillSlot },
    /// On disk, wanted there; its bytes are being checked.
    Checking { slot: SpillSlot },
    /// On disk, wanted, waits for room.
    RestoreQueued { slot: SpillSlot },
    /// On disk, being read into `extent`.
    Restoring { slot: SpillSlot, extent: Extent },
    /// Nowhere.
    Lost { reason: String },
}

/// What the store may do with an object. Every object is in exactly one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    Queued,
    Creating,
    /// Being created in a file.
    FileCreating,
    Reading,
    Spillable,
    Evictable,
    Spilling,
    Disk,
    /// Sealed, and being read in its file before clients may.
    Checking,
    /// Read in its file.
    Mapped,
    RestoreQueued,
    Restoring,
    Lost,
}

impl Class {
    pub(crate) const ALL: [Class; 13] = [
        Class::Queued,
        Class::Creating,
        Class::FileCreating,
        Class::Reading,
        Class::Spillable,
        Class::Evictable,
        Class::Spilling,
        Class::Disk,
        Class::Checking,
        Class::Mapped,
        Class::RestoreQueued,
        Class::Restoring,
        Class::Lost,
    ];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Whether objects of this class take arena memory.
    pub(crate) fn is_in_arena(self) -> bool {
        matches!(
            self,
            Class::Creating
                | Class::Reading
                | Class::Spillable
                | Class::Evictable
                | Class::Spilling
                | Class::Restoring
        )
    }
}

/// Everything the store knows about one object.
#[derive(Debug, Clone)]
pub(crate) struct ObjectEntry {
    pub(crate) owner: WorkerId,
    pub(crate) size_bytes: u64,
    /// Bytes it takes in the arena.
    pub(crate) footprint_bytes: u64,
    pub(crate) is_primary: bool,
    /// The owner has no references left; it goes as soon as nothing uses its bytes.
    pub(crate) is_freed: bool,
    pub(crate) reader_count: u64,
    /// Rises with every use of any object.
    pub(crate) last_used: u64,
    pub(crate) residence: Residence,
}

impl ObjectEntry {
    pub(crate) fn class(&self) -> Class {
        match &self.residence {
            Residence::Queued { .. } => Class::Queued,
            Residence::Creating { .. } => Class::Creating,
            Residence::FileWanted { .. } | Residence::FileCreating { .. } => Class::FileCreating,
            Residence::FileSealing { .. } | Residence::Checking { .. } => Class::Checking,
            Residence::Memory { .. } if self.reader_count > 0 => Class::Reading,
            Residence::Memory { disk: None, .. } if self.is_primary => Class::Spillable,
            Residence::Memory { .. } => Class::Evictable,
            Residence::Spilling { .. } => Class::Spilling,
            Residence::Disk { .. } if self.reader_count > 0 => Class::Mapped,
            Residence::Disk { .. } => Class::Disk,
            Residence::RestoreQueued { .. } => Class::RestoreQueued,
            Residence::Restoring { .. } => Class::Restoring,
            Residence::Lost { .. } => Class::Lost,
        }
    }

    pub(crate) fn state(&self) -> ObjectState {
        match self.class() {
            Class::Queued | Class::Creating | Class::FileCreating => ObjectState::Created,
            Class::Reading if !self.is_primary => ObjectState::Sealed,
            Class::Reading | Class::Spillable => ObjectState::Pinned,
            Class::Evictable => ObjectState::Evictable,
            Class::Spilling => ObjectState::Spilling,
            Class::Disk => ObjectState::Spilled,
            Class::Mapped => ObjectState::Mapped,
            Class::Checking | Class::RestoreQueued | Class::Restoring => ObjectState::Restoring,
            Class::Lost => ObjectState::Lost,
        }
    }

    pub(crate) fn extent(&self) -> Option<Extent> {
        match self.residence {
            Residence::Creating { extent, .. }
            | Residence::Memory { extent, .. }
            | Residence::Spilling { extent, .. }
            | Residence::Restoring { extent, .. } => Some(extent),
            _ => None,
        }
    }

    pub(crate) fn slot(&self) -> Option<SpillSlot> {
        match self.residence {
            Residence::Memory { disk, .. } => disk,
            Residence::Disk { slot }
            | Residence::Checking { slot }
            | Residence::RestoreQueued { slot }
            | Residence::Restoring { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// Who creates it, if it is not sealed.
    pub(crate) fn writer(&self) -> Option<ClientId> {
        match self.residence {
            Residence::Queued { writer }
            | Residence::Creating { writer, .. }
            | Residence::FileWanted { writer, .. }
            | Residence::FileCreating { writer, .. } => Some(writer),
            _ => None,
        }
    }

    /// The file that is being made for it alone.
    pub(crate) fn own_file(&self) -> Option<SpillFileId> {
        match self.residence {
            Residence::FileWanted { file, .. }
            | Residence::FileCreating { file, .. }
            | Residence::FileSealing { file } => Some(file),
            _ => None,
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.writer().is_none()
    }
}
