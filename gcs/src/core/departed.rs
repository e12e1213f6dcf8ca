//! Processes that ended lately.
//!
//! News of an end may overtake what the process asked for just before, and the answer of the raylet that had started it; and a
//! node that was cut off has not heard of it. So the ends are remembered for a while.
//!
//! `GONE-1 (each-once)`: each end is remembered once, and no more of them than [`KEPT`].

use std::collections::{HashMap, VecDeque};

use aktis_common::checks::Broken;
use aktis_common::holds;
use aktis_common::ids::WorkerId;

/// Ends that are remembered.
const KEPT: usize = 4096;

/// How a process ended.
#[derive(Debug, Clone)]
pub(super) struct Departure {
    /// In words.
    pub(super) cause: String,
    /// On purpose.
    pub(super) is_intended: bool,
    /// Lost, but it may be running still.
    pub(super) is_ending: bool,
}

/// The ends of processes, the newest [`KEPT`].
#[derive(Debug, Default)]
pub(super) struct Departed {
    ends: HashMap<WorkerId, Departure>,
    order: VecDeque<WorkerId>,
}

impl Departed {
    /// A process has ended, or was lost. Gives what was known of that before. It enters the order once (`GONE-1`).
    pub(super) fn note(&mut self, worker: WorkerId, end: Departure) -> Option<Departure> {
        let before = self.ends.insert(worker, end);
        if before.is_none() {
            self.order.push_back(worker);
        }
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        before
    }

    /// How the process ended, if it did lately.
    pub(super) fn get(&self, worker: WorkerId) -> Option<&Departure> {
        self.ends.get(&worker)
    }

    /// GONE-1 (each-once).
    pub(super) fn check(&self) -> Result<(), Broken> {
        let (ends, order) = (self.ends.len(), self.order.len());
        let is_known = self
            .order
            .iter()
            .all(|worker| self.ends.contains_key(worker));
        holds!(
            ends == order && is_known && order <= KEPT,
            "GONE-1",
            "{ends} ends in an order of {order}"
        );
        Ok(())
    }

    /// All of them.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.order.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_that_is_remembered_twice_is_seen() {
        let mut departed = Departed::default();
        let end = Departure {
            cause: String::new(),
            is_intended: false,
            is_ending: true,
        };
        departed.note(WorkerId::NIL, end.clone());
        departed.note(WorkerId::NIL, end);
        assert_eq!(departed.check(), Ok(()));
        departed.order.push_back(WorkerId::NIL);
        assert_eq!(departed.check().unwrap_err().label, "GONE-1");
    }
}
