//! Spill files and how many objects still need each.

use aktis_common::checks::Broken;
use aktis_common::ids::ObjectId;
use rustc_hash::FxHashMap;

use super::object::{SpillFileId, SpillSlot};

#[derive(Debug)]
enum SpillFile {
    Writing {
        objects: Vec<ObjectId>,
        size_bytes: u64,
    },
    Written {
        live_objects: u64,
        size_bytes: u64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct SpillFiles {
    files: FxHashMap<SpillFileId, SpillFile>,
    total_bytes: u64,
    next_file: u64,
}

impl SpillFiles {
    /// A file for these objects, about to be written.
    pub(crate) fn begin(&mut self, objects: Vec<ObjectId>, size_bytes: u64) -> SpillFileId {
        let file = SpillFileId(self.next_file);
        self.next_file += 1;
        self.total_bytes += size_bytes;
        self.files.insert(
            file,
            SpillFile::Writing {
                objects,
                size_bytes,
            },
        );
        file
    }

    /// The objects that are being written to this file.
    pub(crate) fn being_written(&self, file: SpillFileId) -> Option<&[ObjectId]> {
        match self.files.get(&file)? {
            SpillFile::Writing { objects, .. } => Some(objects),
            SpillFile::Written { .. } => None,
        }
    }

    /// The file is there; returns its objects, each of which now needs it.
    pub(crate) fn finish(&mut self, file: SpillFileId) -> Vec<ObjectId> {
        let Some(SpillFile::Writing {
            objects,
            size_bytes,
        }) = self.files.remove(&file)
        else {
            panic!("{file:?} was not being written");
        };
        let live_objects = objects.len() as u64;
        self.files.insert(
            file,
            SpillFile::Written {
                live_objects,
                size_bytes,
            },
        );
        objects
    }

    /// The file could not be written; returns its objects.
    pub(crate) fn fail(&mut self, file: SpillFileId) -> Vec<ObjectId> {
        let Some(SpillFile::Writing {
            objects,
            size_bytes,
        }) = self.files.remove(&file)
        else {
            panic!("{file:?} was not being written");
        };
        self.total_bytes -= size_bytes;
        objects
    }

    /// One object no longer needs its slot; true if the file is to be deleted.
    pub(crate) fn release(&mut self, slot: SpillSlot) -> bool {
        let Some(SpillFile::Written {
            live_objects,
            size_bytes,
        }) = self.files.get_mut(&slot.file)
        else {
            panic!("{:?} has no slots", slot.file);
        };
        *live_objects -= 1;
        if *live_objects > 0 {
            return false;
        }
        self.total_bytes -= *size_bytes;
        self.files.remove(&slot.file);
        true
    }

    /// Bytes in all files, those being written included.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Number of files, those being written included.
    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    /// Checks `OBJ-6 (files-are-counted)` against the slots in use per file.
    pub(crate) fn check_invariants(
        &self,
        slots_in_use: &FxHashMap<SpillFileId, u64>,
    ) -> Result<(), Broken> {
        for (file, state) in &self.files {
            let used = slots_in_use.get(file).copied().unwrap_or(0);
            let expected = match state {
                SpillFile::Writing { .. } => 0,
                SpillFile::Written { live_objects, .. } => *live_objects,
            };
            if used != expected
                || matches!(
                    state,
                    SpillFile::Written {
                        live_objects: 0,
                        ..
                    }
                )
            {
                return Err(Broken {
                    label: "OBJ-6",
                    state: format!("{file:?} counts {expected} objects, {used} use it"),
                });
            }
        }
        match slots_in_use
            .keys()
            .find(|file| !self.files.contains_key(file))
        {
            Some(file) => Err(Broken {
                label: "OBJ-6",
                state: format!("{file:?} is used but does not exist"),
            }),
            None => Ok(()),
        }
    }
}
