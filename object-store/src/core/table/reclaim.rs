//! How room is made: allocate, else evict, else spill, else wait, else do without (`on_disk.rs`) or say that the store is full.

use std::time::Duration;

use aktis_common::ids::ObjectId;

use super::ObjectTable;
use crate::core::allocator::{ALIGNMENT_BYTES, Extent};
use crate::core::effect::{GoneReason, StoreEffect, StoreReply};
use crate::core::object::{Class, Residence, SpillSlot, SpilledPart};
use crate::core::queue::{MemoryRequest, Stall};
use crate::core::request::{BytesAt, CreateError, StoreFull};

/// After a failed spill the disk is left alone for this long.
const SPILL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request that can go on in a file waits this long at most for clients to let go of something.
const DISK_GRACE: Duration = Duration::from_millis(500);

/// Spilling does not work at the moment.
#[derive(Debug, Clone)]
pub(super) struct SpillBlock {
    pub(super) reason: String,
    until: Duration,
}

/// What came of the attempt to find room.
#[derive(Debug)]
pub(super) enum RoomSearch {
    /// Here it is.
    Placed(Extent),
    /// Not yet, but work is under way that may make some.
    InFlight,
    /// No, and nothing is under way: only a client that lets go can help.
    Stalled,
}

impl ObjectTable {
    /// Tells the time, as a distance from any fixed start. To be called a few times a second:
    /// requests for which no room can be made fail, and idle memory is given back, only here.
    pub fn on_tick(&mut self, now: Duration) {
        self.now = now;
        if self
            .spill_block
            .as_ref()
            .is_some_and(|block| now >= block.until)
        {
            self.spill_block = None;
        }
        self.refuse_stalled();
        self.queue.note_room(self.room_bytes());
        self.discard_idle();
    }

    /// Serves waiting requests as far as there is room.
    pub(super) fn pump(&mut self) {
        self.serve();
    }

    /// The same; returns what the first request needs that is left, if it is stalled.
    fn serve(&mut self) -> Option<u64> {
        while let Some(request) = self.queue.front() {
            let (size_bytes, needed_bytes) = {
                let entry = &self.objects[&request.oid()];
                (entry.size_bytes, entry.footprint_bytes)
            };
            match self.place(size_bytes) {
                RoomSearch::Placed(extent) => {
                    self.queue.pop_served();
                    self.grant(request, extent);
                }
                RoomSearch::InFlight => return None,
                RoomSearch::Stalled => {
                    let room_bytes = self.room_bytes();
                    let stall = self.queue.note_stalled(needed_bytes, room_bytes, self.now);
                    let can_do_without_room = self.can_do_without_room(request);
                    let is_over = if can_do_without_room {
                        self.is_over(stall, request)
                    } else {
                        stall.waited >= self.config.full_grace
                    };
                    if !is_over {
                        return Some(needed_bytes);
                    }
                    let standstill = self.queue.pop_unserved();
                    if can_do_without_room {
                        self.do_without_room(request, standstill);
                    } else {
                        self.refuse(request.oid());
                    }
                }
            }
        }
        None
    }

    /// Serves waiting requests, and tells the creates that the store is full for which nothing has made room for the whole grace:
    /// wherever in the queue they stand, each by its own clock. Restores are never refused: they go on in their files.
    fn refuse_stalled(&mut self) {
        loop {
            let first_stalled_bytes = self.serve();
            let (room_bytes, obtainable_bytes) = (self.room_bytes(), self.obtainable_bytes());
            let objects = &self.objects;
            let is_stalled = |oid: ObjectId| {
                let needed_bytes = objects[&oid].footprint_bytes;
                let is_as_large = first_stalled_bytes.is_some_and(|first| needed_bytes >= first);
                is_as_large || needed_bytes > obtainable_bytes
            };
            let grace = self.config.full_grace;
            let stalled = self
                .queue
                .stalled_creates(is_stalled, room_bytes, self.now, grace);
            let refused: Vec<_> = stalled
                .into_iter()
                .map(MemoryRequest::Create)
                .filter(|request| !self.can_do_without_room(*request))
                .collect();
            if refused.is_empty() {
                return;
            }
            for request in refused {
                self.queue.remove(request);
                self.refuse(request.oid());
            }
        }
    }

    /// Whether a request has waited enough that can go on in a file. What others are writing into the arena now will soon be
    /// sealed: then it can be spilled, which makes better room for what is to be created.
    fn is_over(&self, stall: Stall, request: MemoryRequest) -> bool {
        let needed_bytes = self.objects[&request.oid()].footprint_bytes;
        let creating_bytes = self.index.bytes(Class::Creating);
        let is_room_coming =
            creating_bytes > 0 && needed_bytes <= self.obtainable_bytes() + creating_bytes;
        match request {
            MemoryRequest::Create(_) if is_room_coming => stall.waited >= self.config.full_grace,
            _ => stall.starved >= self.config.full_grace.min(DISK_GRACE),
        }
    }

    /// What can be had without anybody letting go of anything.
    fn obtainable_bytes(&self) -> u64 {
        self.room_if_disk_takes(self.spill_budget_bytes())
    }

    /// The same, when the disk works again: what failed on it was no room that went, and when it is tried again none has come.
    fn room_bytes(&self) -> u64 {
        self.room_if_disk_takes(self.unspent_spill_bytes())
    }

    fn room_if_disk_takes(&self, disk_bytes: u64) -> u64 {
        self.allocator.free_bytes()
            + self.warmth.reserved_bytes()
            + self.index.bytes(Class::Evictable)
            + self.index.bytes(Class::Spilling)
            + self.index.bytes(Class::Spillable).min(disk_bytes)
    }

    /// Finds room for `size_bytes`: on the free list, by evicting least recently used copies, or
    /// by starting to spill primary copies.
    pub(super) fn place(&mut self, size_bytes: u64) -> RoomSearch {
        if let Some(extent) = self.allocator.allocate(size_bytes) {
            return RoomSearch::Placed(extent);
        }
        let needed_bytes = self.allocator.footprint_bytes(size_bytes);
        if needed_bytes > self.obtainable_bytes() {
            return RoomSearch::Stalled;
        }
        while let Some(victim) = self.index.first_evictable() {
            self.evict(victim);
            if let Some(extent) = self.allocator.allocate(size_bytes) {
                return RoomSearch::Placed(extent);
            }
        }
        self.start_spilling(needed_bytes);
        if self.index.count(Class::Spilling) > 0 || self.warmth.reserved_bytes() > 0 {
            RoomSearch::InFlight
        } else {
            RoomSearch::Stalled
        }
    }

    /// Reads an object back into `extent`.
    pub(super) fn start_restore(&mut self, oid: ObjectId, extent: Extent) {
        let slot = self.objects[&oid]
            .slot()
            .expect("an object to restore has a slot");
        self.update(oid, |entry| {
            entry.residence = Residence::Restoring { slot, extent }
        });
        self.effects.push(StoreEffect::RestoreObject {
            oid,
            slot,
            offset: extent.offset,
        });
    }

    pub(super) fn release_slot(&mut self, slot: SpillSlot) {
        if self.spill_files.release(slot) {
            self.effects
                .push(StoreEffect::DeleteSpillFile { file: slot.file });
            self.spill_block = None;
        }
    }

    pub(super) fn block_spilling(&mut self, reason: String) {
        self.spill_block = Some(SpillBlock {
            reason,
            until: self.now + SPILL_RETRY_AFTER,
        });
    }

    pub(super) fn describe_full(&self, oid: ObjectId) -> Box<StoreFull> {
        Box::new(StoreFull {
            oid,
            requested_bytes: self.objects[&oid].size_bytes,
            capacity_bytes: self.allocator.capacity_bytes(),
            used_bytes: self.allocator.used_bytes(),
            largest_free_bytes: self.allocator.largest_free_bytes(),
            pinned_by_readers_bytes: self.index.bytes(Class::Reading),
            creating_bytes: self.index.bytes(Class::Creating),
            spillable_bytes: self.index.bytes(Class::Spillable),
            spilled_bytes: self.spill_files.total_bytes(),
            spill_limit_bytes: self.config.spill_limit_bytes,
            spill_error: self.spill_block.as_ref().map(|block| block.reason.clone()),
        })
    }

    fn grant(&mut self, request: MemoryRequest, extent: Extent) {
        let oid = request.oid();
        match (request, self.objects[&oid].residence.clone()) {
            (MemoryRequest::Create(_), Residence::Queued { writer }) => {
                self.update(oid, |entry| {
                    entry.residence = Residence::Creating { writer, extent }
                });
                let result = Ok(BytesAt::Arena(self.location(oid)));
                self.reply(StoreReply::Created {
                    client: writer,
                    oid,
                    result,
                });
            }
            (MemoryRequest::Restore(_), _) => self.start_restore(oid, extent),
            (_, residence) => unreachable!("a queued create is in state Queued, not {residence:?}"),
        }
    }

    /// A create that waited for room fails.
    fn refuse(&mut self, oid: ObjectId) {
        let full = self.describe_full(oid);
        let entry = self.remove_entry(oid);
        let client = entry.writer().expect("a queued create has a writer");
        self.writes.remove_one(client, oid);
        let result = Err(CreateError::Full(full));
        self.reply(StoreReply::Created {
            client,
            oid,
            result,
        });
    }

    fn evict(&mut self, oid: ObjectId) {
        self.totals.evicted_objects += 1;
        let Residence::Memory { extent, disk } = self.objects[&oid].residence else {
            unreachable!("an evictable object is in memory");
        };
        match disk {
            Some(slot) => {
                self.update(oid, |entry| entry.residence = Residence::Disk { slot });
                self.release_extent(extent);
                self.drop_idle_copy(oid);
            }
            None => self.drop_copy(oid),
        }
    }

    /// A copy of an object of another node does not stay on the disk for nobody.
    pub(super) fn drop_idle_copy(&mut self, oid: ObjectId) {
        let is_idle = self
            .objects
            .get(&oid)
            .is_some_and(|entry| entry.class() == Class::Disk && !entry.is_primary);
        if is_idle {
            self.drop_copy(oid);
        }
    }

    fn drop_copy(&mut self, oid: ObjectId) {
        self.drop_object(oid);
        let reason = GoneReason::Evicted;
        self.reply(StoreReply::ObjectGone {
            oid,
            reason,
            waiting_gets: 0,
        });
    }

    /// How many bytes may still be written to disk.
    pub(super) fn spill_budget_bytes(&self) -> u64 {
        if self.spill_block.is_some() {
            return 0;
        }
        self.unspent_spill_bytes()
    }

    /// How many bytes are left of the limit of what lies on disk.
    fn unspent_spill_bytes(&self) -> u64 {
        let limit = self.config.spill_limit_bytes.unwrap_or(u64::MAX);
        limit.saturating_sub(self.spill_files.total_bytes())
    }

    /// Starts to spill what `needed_bytes` takes, unless enough is being written already.
    fn start_spilling(&mut self, needed_bytes: u64) {
        let in_flight_bytes = self.index.bytes(Class::Spilling);
        let missing_bytes =
            needed_bytes.saturating_sub(self.allocator.free_bytes() + in_flight_bytes);
        if missing_bytes == 0 && in_flight_bytes > 0 {
            return;
        }
        let wanted_bytes = missing_bytes.max(self.config.min_spill_batch_bytes);
        let mut budget_bytes = self.spill_budget_bytes();
        let mut chosen_bytes = 0;
        let mut chosen = Vec::new();
        for oid in self.index.spill_order() {
            let entry = &self.objects[&oid];
            let on_disk_bytes = bytes_on_disk(entry.size_bytes);
            if chosen_bytes >= wanted_bytes {
                break;
            }
            if on_disk_bytes <= budget_bytes {
                budget_bytes -= on_disk_bytes;
                chosen_bytes += entry.footprint_bytes;
                chosen.push(oid);
            }
        }
        for batch in self.fuse(&chosen) {
            self.spill(batch);
        }
    }

    /// Splits objects into files.
    fn fuse(&self, objects: &[ObjectId]) -> Vec<Vec<ObjectId>> {
        let mut files: Vec<Vec<ObjectId>> = Vec::new();
        let mut file_bytes = u64::MAX;
        for &oid in objects {
            let on_disk_bytes = bytes_on_disk(self.objects[&oid].size_bytes);
            file_bytes = file_bytes.saturating_add(on_disk_bytes);
            if file_bytes > self.config.max_spill_file_bytes || files.is_empty() {
                files.push(Vec::new());
                file_bytes = on_disk_bytes;
            }
            files.last_mut().expect("a file was pushed").push(oid);
        }
        files
    }

    fn spill(&mut self, objects: Vec<ObjectId>) {
        let parts: Vec<SpilledPart> = objects
            .iter()
            .map(|&oid| SpilledPart {
                oid,
                location: self.location(oid),
            })
            .collect();
        let file_bytes = parts
            .iter()
            .map(|part| bytes_on_disk(part.location.len))
            .sum();
        let file = self.spill_files.begin(objects, file_bytes);
        for part in &parts {
            self.update(part.oid, |entry| {
                let extent = entry.extent().expect("a spillable object is in memory");
                entry.residence = Residence::Spilling { extent, file };
            });
        }
        self.effects
            .push(StoreEffect::WriteSpillFile { file, parts });
    }
}

/// Objects start at aligned places in spill files, too.
pub(super) fn bytes_on_disk(size_bytes: u64) -> u64 {
    size_bytes.next_multiple_of(ALIGNMENT_BYTES)
}
