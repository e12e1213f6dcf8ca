//! Objects by class: totals for decisions and statistics, and the two orders in which memory is
//! made free.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use aktis_common::ids::ObjectId;

use super::object::{Class, ObjectEntry};

const CLASSES: usize = Class::ALL.len();

/// Largest first by power of two, then least recently used.
type SpillKey = (Reverse<u32>, u64, ObjectId);

/// Totals and orders; they change only with an object that enters or leaves its class (`OBJ-10`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassIndex {
    /// Least recently used first.
    evictable: BTreeSet<(u64, ObjectId)>,
    spillable: BTreeSet<SpillKey>,
    counts: [u64; CLASSES],
    footprint_bytes: [u64; CLASSES],
}

impl ClassIndex {
    pub(crate) fn insert(&mut self, oid: ObjectId, entry: &ObjectEntry) {
        let class = entry.class();
        self.counts[class.index()] += 1;
        self.footprint_bytes[class.index()] += entry.footprint_bytes;
        match class {
            Class::Evictable => self.evictable.insert((entry.last_used, oid)),
            Class::Spillable => self.spillable.insert(spill_key(oid, entry)),
            _ => true,
        };
    }

    pub(crate) fn remove(&mut self, oid: ObjectId, entry: &ObjectEntry) {
        let class = entry.class();
        self.counts[class.index()] -= 1;
        self.footprint_bytes[class.index()] -= entry.footprint_bytes;
        match class {
            Class::Evictable => self.evictable.remove(&(entry.last_used, oid)),
            Class::Spillable => self.spillable.remove(&spill_key(oid, entry)),
            _ => true,
        };
    }

    /// The object to evict next.
    pub(crate) fn first_evictable(&self) -> Option<ObjectId> {
        self.evictable.first().map(|(_, oid)| *oid)
    }

    /// Objects in the order in which they are to be spilled.
    pub(crate) fn spill_order(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.spillable.iter().map(|(.., oid)| *oid)
    }

    /// Objects in `class`.
    pub(crate) fn count(&self, class: Class) -> u64 {
        self.counts[class.index()]
    }

    /// Arena bytes that the objects in `class` take, or would take.
    pub(crate) fn bytes(&self, class: Class) -> u64 {
        self.footprint_bytes[class.index()]
    }
}

fn spill_key(oid: ObjectId, entry: &ObjectEntry) -> SpillKey {
    (
        Reverse(entry.footprint_bytes.checked_ilog2().unwrap_or(0)),
        entry.last_used,
        oid,
    )
}
