//! The functions and classes that a worker has loaded.
//!
//! A program that defines a function in a loop sends another one each time, and its workers live as long as its job. They keep the
//! ones that were used last, so many and of so many bytes. One that has gone and is called again is asked of the gcs, which has it
//! until the job ends, and what it has kept in its globals is made again; one that runs, and the class of an actor, is held by who
//! runs it.

use std::collections::HashMap;

use bytes::Bytes;
use pyo3::prelude::*;

/// So many are kept.
const MOST: usize = 256;
/// Their definitions have so many bytes in all; the one that was loaded last is kept whatever its size.
const MOST_BYTES: usize = 64 << 20;

struct Entry {
    definition: Py<PyAny>,
    bytes: usize,
    /// The smaller it is, the longer the definition was not used.
    used: u64,
}

/// Functions and classes by the ids of their definitions. A look is a look into a map; who comes new looks for who has to go among
/// the few that are kept.
#[derive(Default)]
pub(crate) struct Loaded {
    kept: HashMap<Bytes, Entry>,
    bytes: usize,
    uses: u64,
}

impl Loaded {
    /// One that is kept, which is used now.
    pub(crate) fn get(&mut self, id: &Bytes) -> Option<&Py<PyAny>> {
        self.uses += 1;
        let entry = self.kept.get_mut(id)?;
        entry.used = self.uses;
        Some(&entry.definition)
    }

    /// One more that was not kept, which is used now; those that were not used for longest go.
    pub(crate) fn keep(&mut self, id: Bytes, definition: Py<PyAny>, bytes: usize) {
        while self.kept.len() >= MOST || self.bytes + bytes > MOST_BYTES {
            let oldest = self.kept.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
        self.uses += 1;
        self.bytes += bytes;
        let entry = Entry {
            definition,
            bytes,
            used: self.uses,
        };
        self.kept.insert(id, entry);
    }
}
