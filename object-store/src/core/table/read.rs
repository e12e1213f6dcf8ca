//! Clients that read: get, cancel, release.

use aktis_common::ids::ObjectId;

use super::ObjectTable;
use super::reclaim::RoomSearch;
use crate::core::effect::StoreReply;
use crate::core::object::{Class, Residence};
use crate::core::queue::MemoryRequest;
use crate::core::request::{BytesAt, ClientId, GetAnswer, GetError, ReleaseError};

impl ObjectTable {
    /// Asks for an object. With [`GetAnswer::Ready`] the client holds one read reference, and the
    /// bytes stay where they are until it is released (`OBJ-4 (readers-pin)`). Every other `Ok`
    /// is followed by exactly one [`StoreReply::Got`], unless the get is cancelled or the client
    /// goes (`OBJ-8 (every-request-answered)`).
    pub fn get(&mut self, client: ClientId, oid: ObjectId) -> Result<GetAnswer, GetError> {
        let Some(entry) = self.objects.get(&oid) else {
            self.waiters.push(client, oid);
            return Ok(GetAnswer::Pending);
        };
        if entry.is_freed {
            return Err(GetError::Freed { oid });
        }
        match entry.class() {
            Class::Reading
            | Class::Spillable
            | Class::Evictable
            | Class::Spilling
            | Class::Mapped => Ok(GetAnswer::Ready(self.add_reader(client, oid))),
            Class::Queued | Class::Creating | Class::FileCreating => {
                self.waiters.push(client, oid);
                Ok(GetAnswer::Pending)
            }
            Class::Checking | Class::RestoreQueued | Class::Restoring => {
                self.waiters.push(client, oid);
                Ok(GetAnswer::Restoring)
            }
            Class::Disk => {
                self.restore_for(client, oid);
                Ok(GetAnswer::Restoring)
            }
            Class::Lost => Err(self.lost_error(oid)),
        }
    }

    /// Takes back one get of `client` that waits for `oid`. False if none does: then its answer is
    /// on the way already.
    pub fn cancel_get(&mut self, client: ClientId, oid: ObjectId) -> bool {
        let was_waiting = self.waiters.remove_one(client, oid);
        if was_waiting {
            self.forget_unwanted_restore(oid);
            self.pump();
        }
        was_waiting
    }

    /// Gives back one read reference.
    pub fn release(&mut self, client: ClientId, oid: ObjectId) -> Result<(), ReleaseError> {
        if !self.reads.remove_one(client, oid) {
            return Err(ReleaseError { oid, client });
        }
        self.drop_readers(oid, 1);
        self.pump();
        Ok(())
    }

    /// Takes `count` read references off an object.
    pub(super) fn drop_readers(&mut self, oid: ObjectId, count: u64) {
        let last_used = self.next_use();
        self.update(oid, |entry| {
            entry.reader_count -= count;
            entry.last_used = last_used;
        });
        self.drop_if_unused(oid);
        self.drop_idle_copy(oid);
    }

    /// Answers all gets that wait for an object that is in memory now, or checked in its file.
    pub(super) fn answer_ready(&mut self, oid: ObjectId) {
        for client in self.waiters.take_object(oid) {
            let location = self.add_reader(client, oid);
            self.reply(StoreReply::Got {
                client,
                oid,
                result: Ok(location),
            });
        }
    }

    /// Answers all gets that wait for `oid` with an error.
    pub(super) fn answer_failed(&mut self, oid: ObjectId, error: &GetError) {
        for client in self.waiters.take_object(oid) {
            self.reply(StoreReply::Got {
                client,
                oid,
                result: Err(error.clone()),
            });
        }
    }

    /// A queued restore that nobody waits for any more gives up its place.
    pub(super) fn forget_unwanted_restore(&mut self, oid: ObjectId) {
        if self.waiters.count(oid) > 0 {
            return;
        }
        let residence = self.objects.get(&oid).map(|entry| &entry.residence);
        if let Some(&Residence::RestoreQueued { slot }) = residence {
            self.queue.remove(MemoryRequest::Restore(oid));
            self.update(oid, |entry| entry.residence = Residence::Disk { slot });
        }
    }

    fn add_reader(&mut self, client: ClientId, oid: ObjectId) -> BytesAt {
        self.reads.add(client, oid);
        let last_used = self.next_use();
        self.update(oid, |entry| {
            entry.reader_count += 1;
            entry.last_used = last_used;
        });
        self.bytes_at(oid)
    }

    fn restore_for(&mut self, client: ClientId, oid: ObjectId) {
        self.waiters.push(client, oid);
        let slot = self.objects[&oid]
            .slot()
            .expect("an object on disk has a slot");
        if slot.checksum.is_none() {
            // Before it has been read once nothing tells whether what comes back into memory is right.
            return self.check_in_file(oid, slot);
        }
        let size_bytes = self.objects[&oid].size_bytes;
        if !self.queue.has_restores()
            && let RoomSearch::Placed(extent) = self.place(size_bytes)
        {
            return self.start_restore(oid, extent);
        }
        self.update(oid, |entry| {
            entry.residence = Residence::RestoreQueued { slot }
        });
        self.queue.push(MemoryRequest::Restore(oid));
        self.pump();
    }

    fn lost_error(&self, oid: ObjectId) -> GetError {
        let reason = match &self.objects[&oid].residence {
            Residence::Lost { reason } => reason.clone(),
            _ => String::new(),
        };
        GetError::Lost { oid, reason }
    }
}
