//! Objects that are made, and read, in files: where readers hold all of the arena and nothing has moved for a while.
//!
//! Such an object is from then on one that was spilled, with a file of its own: it counts against the same limit, comes into the
//! arena when somebody reads it and there is room, and goes with its last reference. Clients map the file; what they read is
//! held there as in memory (`OBJ-4 (readers-pin)`), so that the file stays.

use aktis_common::ids::ObjectId;

use super::ObjectTable;
use super::reclaim::bytes_on_disk;
use crate::core::effect::{StoreEffect, StoreReply};
use crate::core::object::{Residence, SpillFileId, SpillSlot};
use crate::core::queue::{MemoryRequest, Standstill};
use crate::core::request::{BytesAt, ClientId, FileLocation, RestoreFailure};

impl ObjectTable {
    /// Answer to [`StoreEffect::CreateFile`]: whether the file is there, in its whole length. If not, its object waits for room
    /// again.
    pub fn file_created(&mut self, file: SpillFileId, result: Result<(), String>) {
        let objects = self.spill_files.being_written(file);
        let &[oid] = objects.expect("the file was asked for") else {
            panic!("{file:?} is for one object");
        };
        // Given up meanwhile, or not.
        let wanted = self
            .objects
            .get(&oid)
            .and_then(|entry| match entry.residence {
                Residence::FileWanted {
                    writer,
                    file: own,
                    standstill,
                } if own == file => Some((writer, standstill)),
                _ => None,
            });
        match (result, wanted) {
            (Ok(()), Some((writer, _))) => {
                let len = self
                    .update(oid, |entry| {
                        entry.residence = Residence::FileCreating { writer, file }
                    })
                    .size_bytes;
                self.reply(StoreReply::Created {
                    client: writer,
                    oid,
                    result: Ok(BytesAt::File(whole_file(file, len))),
                });
            }
            (Ok(()), None) => self.discard_file(file),
            (Err(reason), wanted) => {
                self.block_spilling(reason);
                self.spill_files.fail(file);
                if let Some((writer, standstill)) = wanted {
                    self.queue_again(oid, writer, standstill);
                }
            }
        }
        self.pump();
    }

    /// Answer to [`StoreEffect::CheckObject`]: the checksum of its bytes. As with a restore, only wrong bytes are lost ones
    /// (`OBJ-11 (only-corrupt-is-lost)`): what cannot be read now stays, with a checksum to tell by or without.
    pub fn object_checked(&mut self, oid: ObjectId, result: Result<u64, RestoreFailure>) {
        let slot = match self.objects[&oid].residence {
            Residence::FileSealing { file } => {
                self.spill_files.finish(file);
                self.totals.created_on_disk_bytes += self.objects[&oid].size_bytes;
                SpillSlot {
                    file,
                    file_offset: 0,
                    len: self.objects[&oid].size_bytes,
                    checksum: None,
                }
            }
            Residence::Checking { slot } => slot,
            ref residence => panic!("object {oid} was not being checked, but {residence:?}"),
        };
        match result {
            Ok(found) => {
                let slot = SpillSlot {
                    checksum: Some(found),
                    ..slot
                };
                self.update(oid, |entry| entry.residence = Residence::Disk { slot });
                self.answer_ready(oid);
            }
            Err(failure) => self.end_unread(oid, slot, failure),
        }
        self.drop_if_unused(oid);
        self.pump();
    }

    /// What is to be read is on the disk already; what is to be created there must fit.
    pub(super) fn can_do_without_room(&self, request: MemoryRequest) -> bool {
        match request {
            MemoryRequest::Create(oid) => {
                let budget_bytes = self.spill_budget_bytes();
                budget_bytes > 0 && bytes_on_disk(self.objects[&oid].size_bytes) <= budget_bytes
            }
            MemoryRequest::Restore(_) => true,
        }
    }

    /// A request that was stalled long enough goes on in a file.
    pub(super) fn do_without_room(&mut self, request: MemoryRequest, standstill: Standstill) {
        let oid = request.oid();
        match self.objects[&oid].residence {
            Residence::Queued { writer } => {
                let len = self.objects[&oid].size_bytes;
                let file = self.spill_files.begin(vec![oid], bytes_on_disk(len));
                self.update(oid, |entry| {
                    entry.residence = Residence::FileWanted {
                        writer,
                        file,
                        standstill,
                    }
                });
                self.effects.push(StoreEffect::CreateFile { file, len });
            }
            Residence::RestoreQueued { slot } => self.check_in_file(oid, slot),
            ref residence => unreachable!("a waiting request is queued, not {residence:?}"),
        }
    }

    /// An object is going to be read in its file.
    pub(super) fn check_in_file(&mut self, oid: ObjectId, slot: SpillSlot) {
        self.update(oid, |entry| entry.residence = Residence::Checking { slot });
        self.effects.push(StoreEffect::CheckObject {
            oid,
            place: slot.location(),
            checksum: slot.checksum,
        });
    }

    /// An object is sealed in a file of its own.
    pub(super) fn check_new_file(&mut self, oid: ObjectId, file: SpillFileId) {
        let place = whole_file(file, self.objects[&oid].size_bytes);
        self.effects.push(StoreEffect::CheckObject {
            oid,
            place,
            checksum: None,
        });
    }

    /// The file of an object that was not sealed goes.
    pub(super) fn discard_file(&mut self, file: SpillFileId) {
        self.spill_files.fail(file);
        self.effects.push(StoreEffect::DeleteSpillFile { file });
        self.spill_block = None;
    }

    fn queue_again(&mut self, oid: ObjectId, writer: ClientId, standstill: Standstill) {
        self.update(oid, |entry| entry.residence = Residence::Queued { writer });
        // Uses are counted, and a create is the first one.
        let created = self.objects[&oid].last_used;
        let objects = &self.objects;
        let came_after = |other| objects[&other].last_used > created;
        self.queue.put_back(oid, standstill, came_after);
    }
}

fn whole_file(file: SpillFileId, len: u64) -> FileLocation {
    FileLocation {
        file,
        offset: 0,
        len,
    }
}
