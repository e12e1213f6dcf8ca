//! How far the life of this process in its session has come.

use std::sync::atomic::{AtomicBool, Ordering};

use aktis_common::fork;

/// Two facts that are true for ever once they are.
#[derive(Debug, Default)]
pub(crate) struct Life {
    is_closed: AtomicBool,
    is_dismissed: AtomicBool,
}

impl Life {
    /// The session is over for this process. False: it was before.
    pub(crate) fn close(&self) -> bool {
        !self.is_closed.swap(true, Ordering::AcqRel)
    }

    /// Whether the session is over. It is for the child of a fork: handles on its parent's session do nothing there.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire) || fork::is_abandoned()
    }

    /// The job is over: nobody needs what this process owns.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
    }

    /// Whether nobody needs what this process owns.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::Acquire)
    }
}
