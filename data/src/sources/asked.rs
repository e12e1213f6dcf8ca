//! How much of an input is under way, for whoever may give another one.

use std::sync::Arc;

use parking_lot::Mutex;

/// Shared by a reader, which says what it has asked for, and by whoever pulls its rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Option<u64>>>);

impl Asked {
    /// So many bytes are under way. `None`: and more is left to be asked for.
    pub(crate) fn say(&self, bytes: Option<u64>) {
        *self.0.lock() = bytes;
    }

    /// Whether all is asked for, and no more than so many bytes of it are under way.
    pub(crate) fn is_nearly_all_there(&self, most_bytes: u64) -> bool {
        self.0.lock().is_some_and(|bytes| bytes <= most_bytes)
    }
}
