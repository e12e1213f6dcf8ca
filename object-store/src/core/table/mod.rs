//! The object table: every object of the node, and every decision about it.
//!
//! ```text
//!  create.rs      create, seal, abort                   clients that write
//!  read.rs        get, cancel_get, release              clients that read
//!  departure.rs   free, client_gone, owner_gone         what ends objects
//!  reclaim.rs     place, evict, spill, pump, on_tick    how room is made
//!  on_disk.rs     file_created, object_checked          what is made and read in files, for want of room
//!  io_events.rs   spill_written, object_restored        what the disk answers
//!  warmth.rs      pages made ahead, idle pages returned
//!  report.rs      stats, listings, reasons
//!  invariants.rs  check_invariants
//! ```

mod create;
mod departure;
mod invariants;
mod io_events;
mod on_disk;
mod read;
mod reclaim;
mod report;
#[cfg(test)]
mod tests;
mod warmth;

use std::time::Duration;

use aktis_common::ids::{ObjectId, WorkerId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::allocator::{Allocator, Extent};
use super::client_counts::ClientCounts;
use super::effect::{StoreEffect, StoreReply};
use super::index::ClassIndex;
use super::object::{ObjectEntry, ObjectState, Residence};
use super::queue::MemoryQueue;
use super::request::{BytesAt, ObjectLocation};
use super::spill_files::SpillFiles;
use super::waiters::GetWaiters;
use reclaim::SpillBlock;
use warmth::Warmth;

/// What the table has to know of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Size of the arena.
    pub capacity_bytes: u64,
    /// Size of a memory page.
    pub page_bytes: u64,
    /// The most that may lie in spill files: `Some(0)` turns spilling off, `None` is no limit.
    pub spill_limit_bytes: Option<u64>,
    /// Spilling takes at least this much at a time, if there is as much.
    pub min_spill_batch_bytes: u64,
    /// Objects are fused into files of at most this size; a larger one has a file of its own.
    pub max_spill_file_bytes: u64,
    /// For how long a request may wait for readers to let go, when nothing else can make room.
    pub full_grace: Duration,
    /// After how long unused memory is given back to the system.
    pub idle_discard_after: Duration,
    /// The most memory that is made warm ahead of its use; 0 turns that off.
    pub max_prefault_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    evicted_objects: u64,
    spilled_bytes: u64,
    restored_bytes: u64,
    created_on_disk_bytes: u64,
}

/// The state of the store. See the [module](super) for how it is driven.
#[derive(Debug)]
pub struct ObjectTable {
    config: TableConfig,
    objects: FxHashMap<ObjectId, ObjectEntry>,
    by_owner: FxHashMap<WorkerId, FxHashSet<ObjectId>>,
    allocator: Allocator,
    index: ClassIndex,
    /// Read references held.
    reads: ClientCounts,
    /// Objects being created, or queued for it.
    writes: ClientCounts,
    waiters: GetWaiters,
    queue: MemoryQueue,
    spill_files: SpillFiles,
    spill_block: Option<SpillBlock>,
    warmth: Warmth,
    totals: Totals,
    /// Time of the last tick, since some start.
    now: Duration,
    /// Counts uses of objects.
    use_clock: u64,
    effects: Vec<StoreEffect>,
}

impl ObjectTable {
    /// A store without objects.
    pub fn new(config: TableConfig) -> Self {
        Self {
            allocator: Allocator::new(config.capacity_bytes, config.page_bytes),
            config,
            objects: FxHashMap::default(),
            by_owner: FxHashMap::default(),
            index: ClassIndex::default(),
            reads: ClientCounts::default(),
            writes: ClientCounts::default(),
            waiters: GetWaiters::default(),
            queue: MemoryQueue::default(),
            spill_files: SpillFiles::default(),
            spill_block: None,
            warmth: Warmth::default(),
            totals: Totals::default(),
            now: Duration::ZERO,
            use_clock: 0,
            effects: Vec::new(),
        }
    }

    /// Takes what is to be done since the last call, in order.
    pub fn drain_effects(&mut self) -> Vec<StoreEffect> {
        std::mem::take(&mut self.effects)
    }

    /// The state of an object, or `None` if it is not here.
    pub fn state(&self, oid: ObjectId) -> Option<ObjectState> {
        self.objects.get(&oid).map(ObjectEntry::state)
    }

    /// Whether the object's bytes can be had from this node, from memory or from disk.
    pub fn contains(&self, oid: ObjectId) -> bool {
        self.objects.get(&oid).is_some_and(|entry| {
            entry.is_sealed()
                && !entry.is_freed
                && !matches!(entry.residence, Residence::Lost { .. })
        })
    }

    fn reply(&mut self, reply: StoreReply) {
        self.effects.push(StoreEffect::Reply(reply));
    }

    fn insert_entry(&mut self, oid: ObjectId, entry: ObjectEntry) {
        self.index.insert(oid, &entry);
        self.by_owner.entry(entry.owner).or_default().insert(oid);
        let previous = self.objects.insert(oid, entry);
        debug_assert!(previous.is_none(), "an object is inserted once");
    }

    fn remove_entry(&mut self, oid: ObjectId) -> ObjectEntry {
        let entry = self
            .objects
            .remove(&oid)
            .expect("callers remove objects that are there");
        self.index.remove(oid, &entry);
        if let Some(objects) = self.by_owner.get_mut(&entry.owner) {
            objects.remove(&oid);
            if objects.is_empty() {
                self.by_owner.remove(&entry.owner);
            }
        }
        entry
    }

    /// Changes an object and keeps the class index right.
    fn update(&mut self, oid: ObjectId, change: impl FnOnce(&mut ObjectEntry)) -> &ObjectEntry {
        let entry = self
            .objects
            .get_mut(&oid)
            .expect("callers change objects that are there");
        self.index.remove(oid, entry);
        change(entry);
        self.index.insert(oid, entry);
        entry
    }

    /// Removes an object and everything that holds its bytes.
    fn drop_object(&mut self, oid: ObjectId) {
        let entry = self.remove_entry(oid);
        if let Some(extent) = entry.extent() {
            self.release_extent(extent);
        }
        if let Some(slot) = entry.slot() {
            self.release_slot(slot);
        }
    }

    /// Removes a freed object if nothing uses its bytes any more.
    fn drop_if_unused(&mut self, oid: ObjectId) {
        let is_unused = self.objects.get(&oid).is_some_and(|entry| {
            let is_at_rest = matches!(
                entry.residence,
                Residence::Memory { .. } | Residence::Disk { .. } | Residence::Lost { .. }
            );
            entry.is_freed && entry.reader_count == 0 && is_at_rest
        });
        if is_unused {
            self.drop_object(oid);
        }
    }

    fn release_extent(&mut self, extent: Extent) {
        self.allocator.free(extent, self.now);
    }

    fn next_use(&mut self) -> u64 {
        self.use_clock += 1;
        self.use_clock
    }

    /// Where the object is read.
    fn bytes_at(&self, oid: ObjectId) -> BytesAt {
        let entry = &self.objects[&oid];
        match entry.residence {
            Residence::Disk { slot } => BytesAt::File(slot.location()),
            _ => BytesAt::Arena(in_memory(entry)),
        }
    }

    fn location(&self, oid: ObjectId) -> ObjectLocation {
        in_memory(&self.objects[&oid])
    }
}

fn in_memory(entry: &ObjectEntry) -> ObjectLocation {
    let extent = entry
        .extent()
        .expect("callers locate objects that are in memory");
    ObjectLocation {
        offset: extent.offset,
        len: entry.size_bytes,
    }
}
