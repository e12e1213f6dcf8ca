//! The workers of a stage, and which of them can be asked for something.
//!
//! ```text
//!  starting ──ready──► idle ──assign──► pulling ◄──pull_begun/pull_ended──► paused
//!                       ▲                  └──────────── set_idle ────────────┘
//! ```
//! Kept by state, so that finding an idle worker does not look at a thousand busy ones.

use std::collections::{BTreeMap, BTreeSet};

use super::event::WorkerKey;
use super::stage::{Active, Load, Work};

/// What a worker does.
#[derive(Debug)]
pub(crate) enum WorkerState {
    /// Loads its functions.
    Starting,
    /// Waits for an input.
    Idle,
    /// Has an input.
    Busy(Active),
}

fn paused(worker: WorkerKey, active: &Active) -> Paused {
    Paused {
        is_input: matches!(active.work, Work::Input(_)),
        sequence: active.sequence,
        worker,
    }
}

/// The workers of a stage.
#[derive(Debug, Default)]
pub(crate) struct WorkerTable {
    states: BTreeMap<WorkerKey, WorkerState>,
    idle: BTreeSet<WorkerKey>,
    starting: BTreeSet<WorkerKey>,
    /// Busy workers without a pull under way.
    paused: BTreeSet<Paused>,
    /// What each has done.
    loads: BTreeMap<WorkerKey, Load>,
}

/// A busy worker without a pull under way: first those that make lost blocks again, for which others wait, then by their
/// inputs' place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Paused {
    /// Whether it works on an input whose outputs go their way.
    pub(crate) is_input: bool,
    pub(crate) sequence: u64,
    pub(crate) worker: WorkerKey,
}

impl WorkerTable {
    /// Adds a worker that loads its functions.
    pub(crate) fn add(&mut self, worker: WorkerKey) {
        self.states.insert(worker, WorkerState::Starting);
        self.starting.insert(worker);
    }

    /// Takes a worker out.
    pub(crate) fn remove(&mut self, worker: WorkerKey) -> Option<WorkerState> {
        let state = self.states.remove(&worker)?;
        self.leave(worker, &state);
        self.loads.remove(&worker);
        Some(state)
    }

    /// The worker waits for an input. Returns the one that it had.
    pub(crate) fn set_idle(&mut self, worker: WorkerKey) -> Option<Active> {
        match self.replace(worker, WorkerState::Idle)? {
            WorkerState::Busy(active) => Some(active),
            WorkerState::Starting | WorkerState::Idle => None,
        }
    }

    /// The worker has an input, and a pull is under way.
    pub(crate) fn assign(&mut self, worker: WorkerKey, active: Active) {
        self.replace(worker, WorkerState::Busy(active));
    }

    fn replace(&mut self, worker: WorkerKey, state: WorkerState) -> Option<WorkerState> {
        let before = self.states.remove(&worker)?;
        self.leave(worker, &before);
        if matches!(state, WorkerState::Idle) {
            self.idle.insert(worker);
        }
        self.states.insert(worker, state);
        Some(before)
    }

    fn leave(&mut self, worker: WorkerKey, state: &WorkerState) {
        match state {
            WorkerState::Starting => {
                self.starting.remove(&worker);
            }
            WorkerState::Idle => {
                self.idle.remove(&worker);
            }
            WorkerState::Busy(active) => {
                self.paused.remove(&paused(worker, active));
            }
        }
    }

    /// A pull is under way again.
    pub(crate) fn pull_begun(&mut self, worker: WorkerKey) {
        if let Some(paused) = self.active(worker).map(|active| paused(worker, active)) {
            self.paused.remove(&paused);
        }
    }

    /// The pull that was under way came back.
    pub(crate) fn pull_ended(&mut self, worker: WorkerKey) {
        if let Some(paused) = self.active(worker).map(|active| paused(worker, active)) {
            self.paused.insert(paused);
        }
    }

    /// Whether it is one of these.
    pub(crate) fn contains(&self, worker: WorkerKey) -> bool {
        self.states.contains_key(&worker)
    }

    /// What the worker has in work.
    pub(crate) fn active(&self, worker: WorkerKey) -> Option<&Active> {
        match self.states.get(&worker)? {
            WorkerState::Busy(active) => Some(active),
            WorkerState::Starting | WorkerState::Idle => None,
        }
    }

    /// What the worker has in work; its place in the order must stay.
    pub(crate) fn active_mut(&mut self, worker: WorkerKey) -> Option<&mut Active> {
        match self.states.get_mut(&worker)? {
            WorkerState::Busy(active) => Some(active),
            WorkerState::Starting | WorkerState::Idle => None,
        }
    }

    /// Who works on the input at this place of the order; that must stay.
    pub(crate) fn active_at(&mut self, sequence: u64) -> Option<&mut Active> {
        self.states.values_mut().find_map(|state| match state {
            WorkerState::Busy(active) if active.sequence == sequence => Some(active),
            _ => None,
        })
    }

    /// All that is in work.
    pub(crate) fn all_active(&self) -> impl Iterator<Item = &Active> {
        self.states.values().filter_map(|state| match state {
            WorkerState::Busy(active) => Some(active),
            WorkerState::Starting | WorkerState::Idle => None,
        })
    }

    /// Workers without an input.
    pub(crate) fn idle(&self) -> impl Iterator<Item = WorkerKey> {
        self.idle.iter().copied()
    }

    /// It has done more.
    pub(crate) fn add_load(&mut self, worker: WorkerKey, more: Load) {
        if self.states.contains_key(&worker) {
            *self.loads.entry(worker).or_default() += more;
        }
    }

    /// What it has done.
    pub(crate) fn load(&self, worker: WorkerKey) -> Load {
        self.loads.get(&worker).copied().unwrap_or_default()
    }

    /// A worker without an input.
    pub(crate) fn first_idle(&self) -> Option<WorkerKey> {
        self.idle.first().copied()
    }

    /// The worker that is to be pulled from next.
    pub(crate) fn first_paused(&self) -> Option<Paused> {
        self.paused.first().copied()
    }

    /// The worker that gives way first: of those with an input that goes its way, the last in the order.
    pub(crate) fn last_paused(&self) -> Option<WorkerKey> {
        let last = self.paused.last().filter(|paused| paused.is_input);
        last.map(|paused| paused.worker)
    }

    /// All workers.
    pub(crate) fn count(&self) -> usize {
        self.states.len()
    }

    /// Those that load their functions.
    pub(crate) fn starting(&self) -> usize {
        self.starting.len()
    }

    /// The one of them that was started last.
    pub(crate) fn last_starting(&self) -> Option<WorkerKey> {
        self.starting.last().copied()
    }

    /// Those with an input.
    pub(crate) fn busy(&self) -> usize {
        self.states.len() - self.starting.len() - self.idle.len()
    }

    /// Those with a pull under way.
    pub(crate) fn pulling(&self) -> usize {
        self.busy() - self.paused.len()
    }

    /// Takes all out.
    pub(crate) fn drain(&mut self) -> Vec<(WorkerKey, WorkerState)> {
        std::mem::take(self).states.into_iter().collect()
    }

    /// The sums are those of the states.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let count = |is_it: fn(&WorkerState) -> bool| {
            self.states.values().filter(|state| is_it(state)).count()
        };
        assert_eq!(
            self.starting.len(),
            count(|state| matches!(state, WorkerState::Starting))
        );
        assert_eq!(
            self.idle.len(),
            count(|state| matches!(state, WorkerState::Idle))
        );
        for found in &self.paused {
            let active = self.active(found.worker).expect("it is busy");
            assert_eq!(*found, paused(found.worker, active));
        }
        for &worker in &self.idle {
            assert!(matches!(self.states.get(&worker), Some(WorkerState::Idle)));
        }
    }
}
