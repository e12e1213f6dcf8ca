//! Clients that write: create, seal, abort.

use aktis_common::ids::{ObjectId, WorkerId};

use super::ObjectTable;
use super::reclaim::RoomSearch;
use crate::core::effect::{GoneReason, StoreReply};
use crate::core::object::{ObjectEntry, Residence};
use crate::core::queue::MemoryRequest;
use crate::core::request::{ClientId, CreateAnswer, CreateError, SealError};

impl ObjectTable {
    /// Makes room for an object of `size_bytes` that `client` is going to write.
    ///
    /// `is_primary` says that this is the copy its owner relies on. If the object is sealed here
    /// already, a primary create makes that copy the primary one.
    pub fn create(
        &mut self,
        client: ClientId,
        oid: ObjectId,
        owner: WorkerId,
        size_bytes: u64,
        is_primary: bool,
    ) -> Result<CreateAnswer, CreateError> {
        self.refuse_existing(oid, is_primary)?;
        let footprint_bytes = self.allocator.footprint_bytes(size_bytes);
        let capacity_bytes = self.allocator.capacity_bytes();
        if footprint_bytes > capacity_bytes {
            let requested_bytes = size_bytes;
            return Err(CreateError::TooLarge {
                oid,
                requested_bytes,
                capacity_bytes,
            });
        }
        let entry = ObjectEntry {
            owner,
            size_bytes,
            footprint_bytes,
            is_primary,
            is_freed: false,
            reader_count: 0,
            last_used: self.next_use(),
            residence: Residence::Queued { writer: client },
        };
        self.insert_entry(oid, entry);
        self.writes.add(client, oid);
        self.place_new(client, oid, size_bytes)
    }

    /// Ends the writing of an object: from now on it can be read and never changes
    /// (`OBJ-3 (sealed-is-immutable)`). Gets that wait for it are answered.
    pub fn seal(&mut self, client: ClientId, oid: ObjectId) -> Result<(), SealError> {
        let sealed = match self.being_written(client, oid)? {
            Residence::Creating { extent, .. } => Residence::Memory { extent, disk: None },
            Residence::FileCreating { file, .. } => Residence::FileSealing { file },
            _ => return Err(SealError::NotCreating { oid }),
        };
        self.writes.remove_one(client, oid);
        let last_used = self.next_use();
        let entry = self.update(oid, |entry| {
            entry.residence = sealed;
            entry.last_used = last_used;
        });
        let size_bytes = entry.size_bytes;
        if let Some(file) = entry.own_file() {
            self.check_new_file(oid, file);
            return Ok(());
        }
        self.answer_ready(oid);
        self.drop_if_unused(oid);
        self.pump();
        self.prefault_after(size_bytes);
        Ok(())
    }

    /// Gives up writing an object.
    pub fn abort(&mut self, client: ClientId, oid: ObjectId) -> Result<(), SealError> {
        self.being_written(client, oid)?;
        self.abandon(client, oid);
        self.pump();
        Ok(())
    }

    /// Removes an object that `client` was creating, or was queued to create.
    pub(super) fn abandon(&mut self, client: ClientId, oid: ObjectId) {
        self.writes.remove_one(client, oid);
        if matches!(self.objects[&oid].residence, Residence::Queued { .. }) {
            self.queue.remove(MemoryRequest::Create(oid));
        }
        let is_freed = self.objects[&oid].is_freed;
        if let Residence::FileCreating { file, .. } = self.objects[&oid].residence {
            self.discard_file(file);
        }
        self.drop_object(oid);
        if !is_freed {
            let waiting_gets = self.waiters.count(oid);
            self.reply(StoreReply::ObjectGone {
                oid,
                reason: GoneReason::Abandoned,
                waiting_gets,
            });
        }
    }

    fn refuse_existing(&mut self, oid: ObjectId, is_primary: bool) -> Result<(), CreateError> {
        let Some(entry) = self.objects.get(&oid) else {
            return Ok(());
        };
        if matches!(entry.residence, Residence::Lost { .. }) {
            self.drop_object(oid);
            return Ok(());
        }
        let is_sealed = entry.is_sealed();
        self.update(oid, |entry| {
            // Whoever creates it again has a use for it.
            entry.is_freed = false;
            entry.is_primary |= is_sealed && is_primary;
        });
        Err(CreateError::AlreadyExists { oid, is_sealed })
    }

    fn place_new(
        &mut self,
        client: ClientId,
        oid: ObjectId,
        size_bytes: u64,
    ) -> Result<CreateAnswer, CreateError> {
        let request = MemoryRequest::Create(oid);
        if self.queue.is_empty() {
            match self.place(size_bytes) {
                RoomSearch::Placed(extent) => {
                    let residence = Residence::Creating {
                        writer: client,
                        extent,
                    };
                    self.update(oid, |entry| entry.residence = residence);
                    return Ok(CreateAnswer::Created(self.location(oid)));
                }
                RoomSearch::Stalled
                    if self.config.full_grace.is_zero() && !self.can_do_without_room(request) =>
                {
                    self.writes.remove_one(client, oid);
                    let full = self.describe_full(oid);
                    self.remove_entry(oid);
                    return Err(CreateError::Full(full));
                }
                RoomSearch::Stalled | RoomSearch::InFlight => {}
            }
        }
        self.queue.push(request);
        if self.can_do_without_room(request) {
            self.pump();
        }
        Ok(CreateAnswer::Pending)
    }

    /// `OBJ-1 (single-writer)`: only the client that creates an object may end that.
    fn being_written(&self, client: ClientId, oid: ObjectId) -> Result<Residence, SealError> {
        let not_creating = SealError::NotCreating { oid };
        let entry = self.objects.get(&oid).ok_or(not_creating.clone())?;
        match entry.writer() {
            Some(writer) if writer == client => Ok(entry.residence.clone()),
            Some(writer) => Err(SealError::NotWriter {
                oid,
                client,
                writer,
            }),
            None => Err(not_creating),
        }
    }
}
