//! What the disk answers.

use aktis_common::ids::ObjectId;

use super::ObjectTable;
use crate::core::effect::{GoneReason, StoreReply};
use crate::core::object::{Residence, SpillFileId, SpillSlot};
use crate::core::request::{GetError, RestoreFailure};

impl ObjectTable {
    /// Answer to [`StoreEffect::WriteSpillFile`](super::super::StoreEffect::WriteSpillFile): one
    /// slot per part, in the same order, or why the file could not be written. In the second case
    /// the file is gone.
    pub fn spill_written(&mut self, file: SpillFileId, result: Result<Vec<SpillSlot>, String>) {
        match result {
            Ok(slots) => {
                let objects = self.spill_files.finish(file);
                assert_eq!(objects.len(), slots.len(), "one slot per object");
                for (oid, slot) in objects.into_iter().zip(slots) {
                    self.totals.spilled_bytes += slot.len;
                    self.end_spilling(oid, Some(slot));
                }
            }
            Err(reason) => {
                self.block_spilling(reason);
                for oid in self.spill_files.fail(file) {
                    self.end_spilling(oid, None);
                }
            }
        }
        self.pump();
    }

    /// Answer to [`StoreEffect::RestoreObject`](super::super::StoreEffect::RestoreObject). If what
    /// was read is wrong, the object is lost to this node; if it could not be read, it stays on
    /// disk (`OBJ-11 (only-corrupt-is-lost)`).
    pub fn object_restored(&mut self, oid: ObjectId, result: Result<(), RestoreFailure>) {
        let Residence::Restoring { slot, extent } = self.objects[&oid].residence else {
            panic!("object {oid} was not being restored");
        };
        match result {
            Ok(()) => {
                self.totals.restored_bytes += slot.len;
                let residence = Residence::Memory {
                    extent,
                    disk: Some(slot),
                };
                self.update(oid, |entry| entry.residence = residence);
                self.answer_ready(oid);
            }
            Err(failure) => {
                self.end_unread(oid, slot, failure);
                self.release_extent(extent);
            }
        }
        self.drop_if_unused(oid);
        self.pump();
    }

    /// An object was not read from `slot`, where it lies.
    pub(super) fn end_unread(&mut self, oid: ObjectId, slot: SpillSlot, failure: RestoreFailure) {
        match failure {
            RestoreFailure::Unreadable(reason) => {
                self.update(oid, |entry| entry.residence = Residence::Disk { slot });
                self.answer_failed(oid, &GetError::Unreadable { oid, reason });
            }
            RestoreFailure::Corrupt(reason) => {
                self.lose(oid, reason);
                self.release_slot(slot);
            }
        }
    }

    /// The bytes of an object are gone.
    pub(super) fn lose(&mut self, oid: ObjectId, reason: String) {
        let lost = Residence::Lost {
            reason: reason.clone(),
        };
        self.update(oid, |entry| entry.residence = lost);
        if !self.objects[&oid].is_freed {
            let waiting_gets = self.waiters.count(oid);
            self.reply(StoreReply::ObjectGone {
                oid,
                reason: GoneReason::Lost(reason.clone()),
                waiting_gets,
            });
        }
        self.answer_failed(oid, &GetError::Lost { oid, reason });
    }

    fn end_spilling(&mut self, oid: ObjectId, disk: Option<SpillSlot>) {
        self.update(oid, |entry| {
            let extent = entry
                .extent()
                .expect("an object stays in memory while it is spilled");
            entry.residence = Residence::Memory { extent, disk };
        });
        self.drop_if_unused(oid);
    }
}
