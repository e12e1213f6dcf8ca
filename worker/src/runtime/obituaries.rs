//! Why workers died, as the raylet said.

use std::collections::VecDeque;

use aktis_common::ids::WorkerId;
use rustc_hash::FxHashMap;

/// The raylet tells of every worker of the cluster. Closed lanes are explained soon after, so the newest are enough.
const REMEMBERED: usize = 1024;

/// The newest causes of death.
#[derive(Debug, Default)]
pub(super) struct Obituaries {
    causes: FxHashMap<WorkerId, String>,
    order: VecDeque<WorkerId>,
}

impl Obituaries {
    pub(super) fn cause(&self, worker: WorkerId) -> Option<&String> {
        self.causes.get(&worker)
    }

    pub(super) fn add(&mut self, worker: WorkerId, cause: String) {
        if self.causes.insert(worker, cause).is_none() {
            self.order.push_back(worker);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.causes.remove(&oldest);
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
                obituaries.add(*worker, cause.to_owned());
            }
        }
        assert_eq!(obituaries.causes.len(), REMEMBERED);
        assert!(obituaries.cause(workers[0]).is_none());
        let known = |worker: &WorkerId| {
            obituaries
                .cause(*worker)
                .is_some_and(|cause| cause == "killed")
        };
        assert!(workers[1..].iter().all(known));
    }
}
