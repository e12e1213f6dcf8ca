//! The invariants of the store, checked against everything the table knows.

use rustc_hash::FxHashMap;

use aktis_common::checks::Broken;
use aktis_common::ids::ObjectId;

use super::ObjectTable;
use crate::core::allocator::Extent;
use crate::core::index::ClassIndex;
use crate::core::object::{Class, ObjectEntry, SpillFileId};
use crate::core::queue::MemoryRequest;

impl ObjectTable {
    /// Checks all invariants that can be seen in one state; see [`crate`] for the list.
    ///
    /// Takes time in proportion to the number of objects: for tests, and for a node that
    /// suspects itself.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        self.allocator.check_invariants()?;
        self.check_extents()?;
        self.check_readers()?;
        self.check_writers_and_queue()?;
        self.check_waiters()?;
        self.check_spill_files()?;
        self.check_index()
    }

    /// OBJ-2 (no-overlap), OBJ-5 (no-leak).
    fn check_extents(&self) -> Result<(), Broken> {
        let objects = self.objects.values().filter_map(|entry| entry.extent());
        let mut extents: Vec<Extent> = objects.chain(self.warmth.reserved()).collect();
        extents.sort_unstable();
        if let Some(pair) = extents
            .windows(2)
            .find(|pair| pair[0].end() > pair[1].offset)
        {
            return Err(Broken {
                label: "OBJ-2",
                state: format!("{:?} and {:?} overlap", pair[0], pair[1]),
            });
        }
        let held: u64 = extents.iter().map(|extent| extent.len).sum();
        if held != self.allocator.used_bytes() {
            let used = self.allocator.used_bytes();
            return Err(Broken {
                label: "OBJ-5",
                state: format!("{used} bytes allocated, {held} belong to something"),
            });
        }
        let unused = self.objects.iter().find(|(_, entry)| {
            let is_at_rest = !matches!(
                entry.class(),
                Class::Queued
                    | Class::Creating
                    | Class::FileCreating
                    | Class::Spilling
                    | Class::Checking
                    | Class::Restoring
            );
            entry.is_freed && entry.reader_count == 0 && is_at_rest
        });
        match unused {
            Some((oid, _)) => Err(Broken {
                label: "OBJ-5",
                state: format!("freed object {oid} is unused but still here"),
            }),
            None => Ok(()),
        }
    }

    /// OBJ-4 (readers-pin).
    fn check_readers(&self) -> Result<(), Broken> {
        let mut held: FxHashMap<ObjectId, u64> = FxHashMap::default();
        for (_, oid, count) in self.reads.iter() {
            *held.entry(oid).or_default() += count;
        }
        for (oid, entry) in &self.objects {
            let count = held.remove(oid).unwrap_or(0);
            if count != entry.reader_count {
                return Err(Broken {
                    label: "OBJ-4",
                    state: format!("{oid}: {count} held, counted {}", entry.reader_count),
                });
            }
            let is_held = matches!(
                entry.class(),
                Class::Reading | Class::Spilling | Class::Mapped
            );
            if count > 0 && !is_held {
                return Err(Broken {
                    label: "OBJ-4",
                    state: format!("{oid} is read but {:?}", entry.class()),
                });
            }
        }
        match held.keys().next() {
            Some(oid) => Err(Broken {
                label: "OBJ-4",
                state: format!("{oid} is read but not here"),
            }),
            None => Ok(()),
        }
    }

    /// OBJ-1 (single-writer), OBJ-9 (fifo): each queued object is queued once.
    fn check_writers_and_queue(&self) -> Result<(), Broken> {
        let mut written = 0;
        for (client, oid, count) in self.writes.iter() {
            written += 1;
            let writer = self.objects.get(&oid).and_then(ObjectEntry::writer);
            if writer != Some(client) || count != 1 {
                return Err(Broken {
                    label: "OBJ-1",
                    state: format!("{oid} is written by {writer:?}, noted {client}"),
                });
            }
        }
        let classes = [Class::Queued, Class::Creating, Class::FileCreating];
        let expected: u64 = classes.iter().map(|class| self.index.count(*class)).sum();
        if written != expected {
            return Err(Broken {
                label: "OBJ-1",
                state: format!("{expected} objects being written, {written} writers"),
            });
        }
        let mut queued: Vec<MemoryRequest> = self.queue.iter().collect();
        let queue_len = queued.len();
        queued.sort_unstable_by_key(|request| request.oid());
        queued.dedup();
        let is_queued = |request: &MemoryRequest| {
            let class = self.objects.get(&request.oid()).map(|entry| entry.class());
            match request {
                MemoryRequest::Create(_) => class == Some(Class::Queued),
                MemoryRequest::Restore(_) => class == Some(Class::RestoreQueued),
            }
        };
        let expected = self.index.count(Class::Queued) + self.index.count(Class::RestoreQueued);
        if queued.len() != queue_len
            || queue_len as u64 != expected
            || !queued.iter().all(is_queued)
        {
            return Err(Broken {
                label: "OBJ-9",
                state: format!("{expected} objects wait for room, queue is {queued:?}"),
            });
        }
        Ok(())
    }

    /// OBJ-8 (every-request-answered): a get waits only for what is not readable now.
    fn check_waiters(&self) -> Result<(), Broken> {
        for (oid, clients) in self.waiters.iter() {
            let class = self.objects.get(&oid).map(|entry| entry.class());
            let may_wait = matches!(
                class,
                None | Some(
                    Class::Queued
                        | Class::Creating
                        | Class::FileCreating
                        | Class::Checking
                        | Class::RestoreQueued
                        | Class::Restoring
                )
            );
            if !may_wait || clients.is_empty() {
                return Err(Broken {
                    label: "OBJ-8",
                    state: format!("{} gets wait for {oid} in {class:?}", clients.len()),
                });
            }
        }
        let unwanted = self.objects.iter().find(|(oid, entry)| {
            entry.class() == Class::RestoreQueued && self.waiters.count(**oid) == 0
        });
        match unwanted {
            Some((oid, _)) => Err(Broken {
                label: "OBJ-8",
                state: format!("nobody waits for queued restore of {oid}"),
            }),
            None => Ok(()),
        }
    }

    /// OBJ-6 (files-are-counted).
    fn check_spill_files(&self) -> Result<(), Broken> {
        let mut slots: FxHashMap<SpillFileId, u64> = FxHashMap::default();
        for slot in self.objects.values().filter_map(|entry| entry.slot()) {
            *slots.entry(slot.file).or_default() += 1;
        }
        self.spill_files.check_invariants(&slots)?;
        let own_files = self
            .objects
            .iter()
            .filter_map(|(oid, entry)| Some((oid, entry.own_file()?)));
        for (oid, file) in own_files {
            if self.spill_files.being_written(file) != Some(&[*oid][..]) {
                return Err(Broken {
                    label: "OBJ-6",
                    state: format!("{oid} is being created in {file:?}, which is not for it"),
                });
            }
        }
        match self.config.spill_limit_bytes {
            Some(limit) if self.spill_files.total_bytes() > limit => Err(Broken {
                label: "OBJ-6",
                state: format!("{} bytes on disk", self.spill_files.total_bytes()),
            }),
            _ => Ok(()),
        }
    }

    /// OBJ-10 (classes-add-up).
    fn check_index(&self) -> Result<(), Broken> {
        let mut index = ClassIndex::default();
        for (oid, entry) in &self.objects {
            index.insert(*oid, entry);
        }
        if index != self.index {
            return Err(Broken {
                label: "OBJ-10",
                state: format!("index is {:?}, should be {index:?}", self.index),
            });
        }
        let in_arena: u64 = Class::ALL
            .iter()
            .filter(|class| class.is_in_arena())
            .map(|class| self.index.bytes(*class))
            .sum();
        if in_arena + self.warmth.reserved_bytes() != self.allocator.used_bytes() {
            return Err(Broken {
                label: "OBJ-10",
                state: format!("classes hold {in_arena} bytes"),
            });
        }
        Ok(())
    }
}
