//! A worker that rests: its process has nothing to do, and others have its CPUs until it has.
//!
//! A stage worker of a dataset waits for whoever reads the rows, in the middle of an input. An iterator that is not read on, in a
//! notebook or behind an error that somebody keeps, would hold the CPUs of its workers for as long as it is there, and all
//! other datasets would wait for them. So it says what a task says that waits in `get`: the raylet gives its CPUs to others, and
//! when it goes on it does so at once, beside them. What it holds of GPUs and memory stays its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aktis_lane::Urgency;
use aktis_proto::v1 as wire;
use parking_lot::Mutex;
use wire::node_frame::Kind;

use crate::node_link::NodeLink;

/// Without work for so long, it rests: much longer than the pauses of a dataset that goes on.
const AFTER: Duration = Duration::from_secs(1);

/// Whether this process rests.
#[derive(Default)]
pub(super) struct Rest {
    is_wanted: AtomicBool,
    idle_since: Mutex<Option<Instant>>,
    is_resting: AtomicBool,
}

impl Rest {
    /// From now on it rests when it has nothing to do.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// The executor thread has waited for work, and there was none.
    pub(super) fn found_nothing(&self, node: &NodeLink) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let since = *self.idle_since.lock().get_or_insert_with(Instant::now);
        if since.elapsed() >= AFTER && !self.is_resting.swap(true, Ordering::Relaxed) {
            node.tell(Kind::Blocked(wire::Blocked {}), Urgency::Now);
        }
    }

    /// There is work.
    pub(super) fn found_work(&self, node: &NodeLink) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        *self.idle_since.lock() = None;
        if self.is_resting.swap(false, Ordering::Relaxed) {
            node.tell(Kind::Unblocked(wire::Unblocked {}), Urgency::Now);
        }
    }
}
