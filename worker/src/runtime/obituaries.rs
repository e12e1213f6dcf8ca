//! Why workers died, as the raylet said.

use std::collections::VecDeque;

use aktis_common::ids::WorkerId;
use rustc_hash::FxHashMap;

/// The raylet tells of every worker of the cluster. Closed lanes are explained soon after, so the newest are enough.
const REMEMBERED: usize = 1024;

/// How a worker died.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) cause: String,
    /// The last lines of its output, with the names of the files; empty if it printed nothing.
    pub(super) last_words: String,
    pub(super) is_out_of_memory: bool,
}

impl Death {
    /// A death of which only the cause is known.
    pub(super) fn of(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            ..Self::default()
        }
    }
}

/// The newest deaths.
#[derive(Debug, Default)]
pub(super) struct Obituaries {
    deaths: FxHashMap<WorkerId, Death>,
    order: VecDeque<WorkerId>,
}

impl Obituaries {
    pub(super) fn death(&self, worker: WorkerId) -> Option<&Death> {
        self.deaths.get(&worker)
    }

    pub(super) fn add(&mut self, worker: WorkerId, death: Death) {
        if self.deaths.insert(worker, death).is_none() {
            self.order.push_back(worker);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.deaths.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_causes_are_remembered() {
        let mut obituaries = Obituaries::default();
        let workers: Vec<_> = (0..=REMEMBERED).map(|_| WorkerId::random()).collect();
        for worker in &workers {
            for cause in ["unknown", "killed"] {
                obituaries.add(*worker, Death::of(cause));
            }
        }
        assert_eq!(obituaries.deaths.len(), REMEMBERED);
        assert!(obituaries.death(workers[0]).is_none());
        let known = |worker: &WorkerId| {
            obituaries
                .death(*worker)
                .is_some_and(|death| death.cause == "killed")
        };
        assert!(workers[1..].iter().all(known));
    }
}
