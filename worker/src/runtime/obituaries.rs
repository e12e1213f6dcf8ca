//! Why workers died, as the raylet said, and what is left of those that seem to be gone until it has said so.
//!
//! A lane that closes and the news of a death may come in either order. Whichever comes second finds the other here, under one
//! lock, so that nothing waits for news that has come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_common::ids::{TaskId, WorkerId};
use rustc_hash::FxHashMap;

use crate::reference::ProcessAddress;

/// The raylet tells of every worker of the cluster. Closed lanes are explained soon after, so the newest are enough.
const REMEMBERED: usize = 1024;
/// How long a closed lane may wait for the raylet of another node to say why the worker died.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The same of this node, whose raylet tells each death here. It waits for its zygote, which may have no time for it.
pub(super) const PATIENCE_HERE: Duration = Duration::from_secs(20);

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

/// What a process that is gone has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// Tasks that it was running for this one.
    Tasks(Vec<TaskId>),
    /// Objects that this one has borrowed from it.
    Objects,
}

/// What a process has left, and why it is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Estate {
    pub(super) worker: ProcessAddress,
    pub(super) left: Left,
    pub(super) death: Death,
}

/// A process that seems to be gone, and of which the raylet has not said so yet.
#[derive(Debug)]
struct Unburied {
    worker: ProcessAddress,
    /// What there is to say if it never does.
    seen: String,
    left: Left,
    give_up_at: Instant,
}

impl Unburied {
    fn explained(self, death: Death) -> Estate {
        Estate {
            worker: self.worker,
            left: self.left,
            death,
        }
    }
}

/// The newest deaths, and what waits for one.
#[derive(Debug, Default)]
pub(super) struct Obituaries {
    deaths: FxHashMap<WorkerId, Death>,
    order: VecDeque<WorkerId>,
    unburied: Vec<Unburied>,
}

impl Obituaries {
    /// The raylet says why a worker died. Returns what has waited for that.
    pub(super) fn add(&mut self, worker: WorkerId, death: &Death) -> Vec<Estate> {
        if self.deaths.insert(worker, death.clone()).is_none() {
            self.order.push_back(worker);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.deaths.remove(&oldest);
        }
        let is_it = |dead: &mut Unburied| dead.worker.worker == worker;
        let waiting = self.unburied.extract_if(.., is_it);
        waiting.map(|dead| dead.explained(death.clone())).collect()
    }

    /// A process seems to be gone. Returns what it left if it is known why; else that waits, and something is
    /// [overdue](Self::take_overdue) after `patience`.
    pub(super) fn gone(
        &mut self,
        worker: ProcessAddress,
        seen: &str,
        left: Left,
        (now, patience): (Instant, Duration),
    ) -> Option<Estate> {
        if let Some(death) = self.deaths.get(&worker.worker) {
            let death = death.clone();
            return Some(Estate {
                worker,
                left,
                death,
            });
        }
        // However many of its objects are asked for: it has one death.
        let is_awaited =
            |dead: &Unburied| dead.worker == worker && matches!(dead.left, Left::Objects);
        if left != Left::Objects || !self.unburied.iter().any(is_awaited) {
            self.unburied.push(Unburied {
                worker,
                seen: seen.to_owned(),
                left,
                give_up_at: now + patience,
            });
        }
        None
    }

    /// What was left by processes whose death nobody has explained in time, and when to come again.
    pub(super) fn take_overdue(&mut self, now: Instant) -> (Vec<Estate>, Option<Duration>) {
        let is_overdue = |dead: &mut Unburied| dead.give_up_at <= now;
        let overdue: Vec<Unburied> = self.unburied.extract_if(.., is_overdue).collect();
        let explained = overdue.into_iter().map(|mut dead| {
            let seen = std::mem::take(&mut dead.seen);
            dead.explained(Death::of(seen))
        });
        let left = self.unburied.iter().map(|dead| dead.give_up_at - now);
        (explained.collect(), left.min())
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::ids::NodeId;

    use super::*;

    #[test]
    fn newest_causes_are_remembered() {
        let mut obituaries = Obituaries::default();
        let workers: Vec<_> = (0..=REMEMBERED).map(|_| WorkerId::random()).collect();
        for worker in &workers {
            for cause in ["unknown", "killed"] {
                obituaries.add(*worker, &Death::of(cause));
            }
        }
        assert_eq!(obituaries.deaths.len(), REMEMBERED);
        assert!(!obituaries.deaths.contains_key(&workers[0]));
        let known = |worker: &WorkerId| obituaries.deaths[worker].cause == "killed";
        assert!(workers[1..].iter().all(known));
    }

    #[test]
    fn what_is_left_is_settled_once_whether_the_news_comes_first_or_last_or_never() {
        let process = || ProcessAddress {
            node: NodeId::random(),
            worker: WorkerId::random(),
        };
        let (early, late, never) = (process(), process(), process());
        let (mut obituaries, now) = (Obituaries::default(), Instant::now());
        let tasks = || Left::Tasks(vec![TaskId::next()]);
        let killed = Death::of("killed");
        assert_eq!(obituaries.add(early.worker, &killed), []);
        let left = tasks();
        let estate = obituaries.gone(early, "closed", left.clone(), (now, PATIENCE));
        assert_eq!(
            estate.map(|estate| (estate.left, estate.death)),
            Some((left, killed.clone()))
        );
        for _ in 0..3 {
            assert_eq!(
                obituaries.gone(late, "closed", Left::Objects, (now, PATIENCE)),
                None
            );
        }
        assert_eq!(
            obituaries.gone(late, "closed", tasks(), (now, PATIENCE)),
            None
        );
        assert_eq!(obituaries.add(late.worker, &killed).len(), 2);
        assert_eq!(
            obituaries.gone(never, "its lane closed", tasks(), (now, PATIENCE)),
            None
        );
        assert_eq!(obituaries.take_overdue(now), (Vec::new(), Some(PATIENCE)));
        let (overdue, next) = obituaries.take_overdue(now + PATIENCE);
        assert_eq!((overdue.len(), next), (1, None));
        assert_eq!(overdue[0].death, Death::of("its lane closed"));
    }
}
