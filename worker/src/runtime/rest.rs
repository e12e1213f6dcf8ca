//! A worker that rests: its process has nothing to do, and others have its CPUs until it has.
//!
//! A stage worker of a dataset waits for whoever reads the rows, in the middle of an input. An iterator that is not read on, in a
//! notebook or behind an error that somebody keeps, would hold the CPUs of its workers for as long as it is there, and all
//! other datasets would wait for them. So it says what a task says that waits in `get`: the raylet gives its CPUs to others, and
//! when it goes on it does so at once, beside them. What it holds of GPUs and memory stays its own.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aktis_lane::Urgency;
use aktis_proto::v1 as wire;
use parking_lot::Mutex;
use wire::node_frame::Kind;

use crate::node_link::NodeLink;

/// Without work for so long, it rests: much longer than the pauses of a dataset that goes on.
pub const LENDS_AFTER: Duration = Duration::from_secs(1);

/// Whether this process rests; empty in one that never does.
#[derive(Default)]
pub(super) struct Rest(OnceLock<Mutex<Idle>>);

#[derive(Default)]
struct Idle {
    since: Option<Instant>,
    is_resting: bool,
}

impl Rest {
    /// From now on it rests when it has nothing to do.
    pub(super) fn want(&self) {
        self.0.get_or_init(Mutex::default);
    }

    /// The executor thread has waited for work, and there was none.
    pub(super) fn found_nothing(&self, node: &NodeLink) {
        let Some(idle) = self.0.get() else { return };
        let mut idle = idle.lock();
        let since = *idle.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= LENDS_AFTER && !idle.is_resting {
            idle.is_resting = true;
            node.tell(Kind::Blocked(wire::Blocked {}), Urgency::Now);
        }
    }

    /// There is work.
    pub(super) fn found_work(&self, node: &NodeLink) {
        let Some(idle) = self.0.get() else { return };
        let mut idle = idle.lock();
        idle.since = None;
        if std::mem::take(&mut idle.is_resting) {
            node.tell(Kind::Unblocked(wire::Unblocked {}), Urgency::Now);
        }
    }
}
