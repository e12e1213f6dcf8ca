//! How much of the memory joins may hold. What they hold cannot be put into files, so it must leave room for what can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Joins of one group hold this part of its memory at most.
const HELD_PART: u64 = 2;
/// A row that is held needs about so much beside its columns: its place in a hash table.
const BYTES_PER_ROW: u64 = 32;

/// Shared by all joins of a group.
#[derive(Debug)]
pub(super) struct Holding {
    most: u64,
    used: AtomicU64,
}

/// What one join holds; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    all: Arc<Holding>,
    bytes: u64,
}

impl Holding {
    /// For a group with so much memory.
    pub(super) fn new(memory_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            most: memory_bytes / HELD_PART,
            used: AtomicU64::new(0),
        })
    }
}

impl Held {
    /// Nothing yet.
    pub(super) fn new(all: &Arc<Holding>) -> Self {
        Self {
            all: Arc::clone(all),
            bytes: 0,
        }
    }

    /// Takes room for a batch; whether there is some.
    pub(super) fn grow(&mut self, rows: usize, bytes: u64) -> bool {
        let more = bytes + BYTES_PER_ROW * rows as u64;
        let before = self.all.used.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        before + more <= self.all.most
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
