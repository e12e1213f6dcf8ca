//! How much of an input is under way, for whoever may give another one.

use std::sync::Arc;

use parking_lot::Mutex;

/// With less of an input under way, answers of another one are asked for beside them.
const NEARLY_ALL_BYTES: u64 = 32 << 20;

/// Shared by a reader, which says what it has asked for, and by whoever pulls its rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    under_way: Arc<Mutex<Option<u64>>>,
    most_bytes: u64,
}

impl Asked {
    /// Of an input of which so much may be under way: then another one may be, of which it is as much.
    pub(crate) fn new(ahead_bytes: u64) -> Self {
        Self {
            under_way: Arc::default(),
            most_bytes: ahead_bytes.min(NEARLY_ALL_BYTES),
        }
    }

    /// So many bytes are under way. `None`: and more is left to be asked for.
    pub(crate) fn say(&self, bytes: Option<u64>) {
        *self.under_way.lock() = bytes;
    }

    /// Whether all is asked for, and little of it is under way.
    pub(crate) fn is_nearly_all_there(&self) -> bool {
        self.under_way
            .lock()
            .is_some_and(|bytes| bytes <= self.most_bytes)
    }
}
