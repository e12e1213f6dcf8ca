//! The workers of a stage, and which of them can be asked for something.
//!
//! ```text
//!  starting ──ready──► idle ──assign──► pulling ◄──pull_begun/pull_ended──► paused ──queue──► pulling, with one more input
//!                       ▲                │    └─queue─► pulling twice, with one more input     │
//!                       └────────────────┴─────────────────── input_ended ─────────────────────┘
//! ```
//! A worker may have a second input, which follows the first. Where calls overlap, those of the second begin while the last ones of the
//! first are under way. Elsewhere it waits in the worker with a pull of its own, so that the worker goes on without asking anybody: a
//! pull that was meant for the second, and finds that the first is not used up, is one more of the first. So as long as it has two inputs,
//! two pulls may be under way.
//!
//! Kept by state, so that finding an idle worker does not look at a thousand busy ones.

use std::collections::{BTreeMap, BTreeSet};

use aktis_common::ids::NodeId;

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
    Busy(HeldInputs),
}

/// What a busy worker has.
#[derive(Debug)]
pub(crate) struct HeldInputs {
    /// What it is pulled for.
    pub(crate) active: Active,
    /// The input that follows.
    pub(crate) queued: Option<Box<Active>>,
    /// Pulls that are under way.
    pulls: usize,
    /// When it was given the first: before all inputs with a greater number.
    begun: u64,
}

impl HeldInputs {
    /// In their order.
    pub(crate) fn into_all(self) -> impl Iterator<Item = Active> {
        std::iter::once(self.active).chain(self.queued.map(|queued| *queued))
    }

    /// Whether no other input follows, and the worker is at work.
    pub(crate) fn is_alone_and_pulled(&self) -> bool {
        self.queued.is_none() && self.pulls > 0
    }

    fn all(&self) -> impl Iterator<Item = &Active> {
        std::iter::once(&self.active).chain(self.queued.as_deref())
    }
}

fn paused(worker: WorkerKey, active: &Active) -> Paused {
    Paused {
        is_input: matches!(active.work, Work::Input(_)),
        sequence: active.sequence,
        worker,
    }
}

/// How many workers of a kind do what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct KindCounts {
    starting: usize,
    idle: usize,
    busy: usize,
}

/// The workers of a stage.
#[derive(Debug, Default)]
pub(crate) struct WorkerTable {
    states: BTreeMap<WorkerKey, WorkerState>,
    /// Which of the kinds of the stage each is of.
    kinds: BTreeMap<WorkerKey, usize>,
    counts: Vec<KindCounts>,
    idle: BTreeSet<WorkerKey>,
    starting: BTreeSet<WorkerKey>,
    /// Busy workers without a pull under way.
    paused: BTreeSet<Paused>,
    /// Those of them that could begin calls of one more input.
    wanting: BTreeSet<Paused>,
    /// Those that have a second input, and one pull under way.
    pulled_once: BTreeSet<Paused>,
    /// Busy workers without a second input, that which has had its first for longest comes first.
    with_one: BTreeMap<u64, WorkerKey>,
    /// Pulls that are under way.
    pulls: usize,
    begun: u64,
    /// What each has done.
    loads: BTreeMap<WorkerKey, Load>,
    /// Where each is, if that is known.
    nodes: BTreeMap<WorkerKey, NodeId>,
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
    /// Adds a worker of this kind that loads its functions.
    pub(crate) fn add(&mut self, worker: WorkerKey, kind: usize) {
        self.kinds.insert(worker, kind);
        let kinds = self.counts.len().max(kind + 1);
        self.counts.resize(kinds, KindCounts::default());
        self.states.insert(worker, WorkerState::Starting);
        self.starting.insert(worker);
        self.counts[kind].starting += 1;
    }

    /// Takes a worker out.
    pub(crate) fn remove(&mut self, worker: WorkerKey) -> Option<WorkerState> {
        let state = self.states.remove(&worker)?;
        self.leave(worker, &state);
        self.loads.remove(&worker);
        self.kinds.remove(&worker);
        self.nodes.remove(&worker);
        Some(state)
    }

    /// Says where a worker is, if anybody knows.
    pub(crate) fn set_node(&mut self, worker: WorkerKey, node: Option<NodeId>) {
        self.nodes.extend(node.map(|node| (worker, node)));
    }

    /// Where it is, if that is known.
    pub(crate) fn node(&self, worker: WorkerKey) -> Option<NodeId> {
        self.nodes.get(&worker).copied()
    }

    /// The worker waits for an input. Returns what it had.
    pub(crate) fn set_idle(&mut self, worker: WorkerKey) -> Vec<Active> {
        match self.replace(worker, WorkerState::Idle) {
            Some(WorkerState::Busy(held)) => held.into_all().collect(),
            Some(WorkerState::Starting | WorkerState::Idle) | None => Vec::new(),
        }
    }

    /// The worker has an input, and a pull is under way.
    pub(crate) fn assign(&mut self, worker: WorkerKey, active: Active) {
        self.hold(worker, active, 1);
    }

    /// The worker has just this input, and so many pulls under way.
    fn hold(&mut self, worker: WorkerKey, active: Active, pulls: usize) {
        self.begun += 1;
        let held = HeldInputs {
            active,
            queued: None,
            pulls,
            begun: self.begun,
        };
        self.replace(worker, WorkerState::Busy(held));
    }

    /// The worker has one more input, which follows the one that it has, and one more pull under way.
    pub(crate) fn queue(&mut self, worker: WorkerKey, next: Active) {
        self.pull_begun(worker);
        if let Some(WorkerState::Busy(held)) = self.states.get_mut(&worker) {
            self.with_one.remove(&held.begun);
            held.queued = Some(Box::new(next));
        }
        self.note_pulls(worker);
    }

    /// Pulls of the worker have begun or ended, or it has a second input now.
    fn note_pulls(&mut self, worker: WorkerKey) {
        let Some(WorkerState::Busy(held)) = self.states.get(&worker) else {
            return;
        };
        let paused = paused(worker, &held.active);
        if held.queued.is_some() && held.pulls == 1 {
            self.pulled_once.insert(paused);
        } else {
            self.pulled_once.remove(&paused);
        }
    }

    /// Of those that have a second input and one pull under way: the first in the order.
    pub(crate) fn first_pulled_once(&self) -> Option<Paused> {
        self.pulled_once.first().copied()
    }

    /// Workers with one input, for which a pull is under way, that which has had it for longest comes first. With the place of the input
    /// in the order.
    pub(crate) fn with_one(&self) -> impl Iterator<Item = (WorkerKey, u64)> {
        self.with_one.values().filter_map(|&worker| {
            let Some(WorkerState::Busy(held)) = self.states.get(&worker) else {
                return None;
            };
            (held.pulls > 0).then_some((worker, held.active.sequence))
        })
    }

    /// The first input of the worker is used up, and it goes on with the one that follows, if there is one. Returns the first.
    pub(crate) fn input_ended(&mut self, worker: WorkerKey) -> Option<Active> {
        let WorkerState::Busy(held) = self.replace(worker, WorkerState::Idle)? else {
            return None;
        };
        if let Some(next) = held.queued {
            self.hold(worker, *next, held.pulls);
        }
        Some(held.active)
    }

    fn replace(&mut self, worker: WorkerKey, state: WorkerState) -> Option<WorkerState> {
        let before = self.states.remove(&worker)?;
        self.leave(worker, &before);
        let kind = self.kind_of(worker);
        match &state {
            WorkerState::Idle => {
                self.counts[kind].idle += 1;
                self.idle.insert(worker);
            }
            WorkerState::Busy(held) => {
                self.counts[kind].busy += 1;
                self.pulls += held.pulls;
                if held.pulls == 0 {
                    self.paused.insert(paused(worker, &held.active));
                }
                self.with_one.insert(held.begun, worker);
            }
            WorkerState::Starting => self.counts[kind].starting += 1,
        }
        self.states.insert(worker, state);
        Some(before)
    }

    fn leave(&mut self, worker: WorkerKey, state: &WorkerState) {
        let kind = self.kind_of(worker);
        let counts = &mut self.counts[kind];
        match state {
            WorkerState::Starting => {
                counts.starting -= 1;
                self.starting.remove(&worker);
            }
            WorkerState::Idle => {
                counts.idle -= 1;
                self.idle.remove(&worker);
            }
            WorkerState::Busy(held) => {
                counts.busy -= 1;
                let paused = paused(worker, &held.active);
                self.paused.remove(&paused);
                self.wanting.remove(&paused);
                self.pulled_once.remove(&paused);
                self.with_one.remove(&held.begun);
                self.pulls -= held.pulls;
            }
        }
    }

    /// One more pull is under way.
    pub(crate) fn pull_begun(&mut self, worker: WorkerKey) {
        if let Some(WorkerState::Busy(held)) = self.states.get_mut(&worker) {
            held.pulls += 1;
            self.pulls += 1;
            let paused = paused(worker, &held.active);
            self.paused.remove(&paused);
            self.wanting.remove(&paused);
        }
        self.note_pulls(worker);
    }

    /// The worker, whose pull came back, could begin calls of one more input.
    pub(crate) fn wants_input(&mut self, worker: WorkerKey) {
        let Some(WorkerState::Busy(held)) = self.states.get(&worker) else {
            return;
        };
        let has_room = held.queued.is_none() && held.pulls == 0;
        if has_room && matches!(held.active.work, Work::Input(_)) {
            self.wanting.insert(paused(worker, &held.active));
        }
    }

    /// Those whose pull came back that could begin calls of one more input.
    pub(crate) fn wanting(&self) -> impl Iterator<Item = Paused> {
        self.wanting.iter().copied()
    }

    /// A pull that was under way came back.
    pub(crate) fn pull_ended(&mut self, worker: WorkerKey) {
        if let Some(WorkerState::Busy(held)) = self.states.get_mut(&worker)
            && held.pulls > 0
        {
            held.pulls -= 1;
            self.pulls -= 1;
            if held.pulls == 0 {
                self.paused.insert(paused(worker, &held.active));
            }
        }
        self.note_pulls(worker);
    }

    /// Whether it is one of these.
    pub(crate) fn contains(&self, worker: WorkerKey) -> bool {
        self.states.contains_key(&worker)
    }

    /// What the worker has in work, and is pulled for.
    pub(crate) fn active(&self, worker: WorkerKey) -> Option<&Active> {
        match self.states.get(&worker)? {
            WorkerState::Busy(held) => Some(&held.active),
            WorkerState::Starting | WorkerState::Idle => None,
        }
    }

    /// What the worker has in work; its place in the order must stay.
    pub(crate) fn active_mut(&mut self, worker: WorkerKey) -> Option<&mut Active> {
        match self.states.get_mut(&worker)? {
            WorkerState::Busy(held) => Some(&mut held.active),
            WorkerState::Starting | WorkerState::Idle => None,
        }
    }

    /// All that is in work; places in the order must stay.
    pub(crate) fn all_active_mut(&mut self) -> impl Iterator<Item = &mut Active> {
        let held = self.states.values_mut().filter_map(|state| match state {
            WorkerState::Busy(held) => Some(held),
            WorkerState::Starting | WorkerState::Idle => None,
        });
        held.flat_map(|held| std::iter::once(&mut held.active).chain(held.queued.as_deref_mut()))
    }

    /// All that is in work.
    pub(crate) fn all_active(&self) -> impl Iterator<Item = &Active> {
        let held = self.states.values().filter_map(|state| match state {
            WorkerState::Busy(held) => Some(held),
            WorkerState::Starting | WorkerState::Idle => None,
        });
        held.flat_map(HeldInputs::all)
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

    /// Of those for which `is_it` says so, the worker that gives way first: of those with an input that goes its way, the last in the order.
    pub(crate) fn last_paused_that(&self, is_it: impl Fn(WorkerKey) -> bool) -> Option<WorkerKey> {
        let from_last = self.paused.iter().rev();
        let mut inputs = from_last.take_while(|paused| paused.is_input);
        inputs
            .find(|paused| is_it(paused.worker))
            .map(|paused| paused.worker)
    }

    /// All workers.
    pub(crate) fn count(&self) -> usize {
        self.states.len()
    }

    /// Those that load their functions.
    pub(crate) fn starting(&self) -> usize {
        self.starting.len()
    }

    /// Those that load their functions, the one first that was started last.
    pub(crate) fn all_starting(&self) -> impl Iterator<Item = WorkerKey> {
        self.starting.iter().rev().copied()
    }

    /// Which of the kinds of the stage it is of.
    pub(crate) fn kind_of(&self, worker: WorkerKey) -> usize {
        self.kinds.get(&worker).copied().unwrap_or(0)
    }

    /// All workers of a kind.
    pub(crate) fn count_of(&self, kind: usize) -> usize {
        let counts = self.counts_of(kind);
        counts.starting + counts.idle + counts.busy
    }

    /// Those of them that load their functions.
    pub(crate) fn starting_of(&self, kind: usize) -> usize {
        self.counts_of(kind).starting
    }

    /// Those of them with an input.
    pub(crate) fn busy_of(&self, kind: usize) -> usize {
        self.counts_of(kind).busy
    }

    fn counts_of(&self, kind: usize) -> KindCounts {
        self.counts.get(kind).copied().unwrap_or_default()
    }

    /// Those with an input.
    pub(crate) fn all_busy(&self) -> impl Iterator<Item = (WorkerKey, &HeldInputs)> {
        let states = self.states.iter();
        states.filter_map(|(&worker, state)| match state {
            WorkerState::Busy(held) => Some((worker, held)),
            WorkerState::Starting | WorkerState::Idle => None,
        })
    }

    /// Those with an input.
    pub(crate) fn busy(&self) -> usize {
        self.states.len() - self.starting.len() - self.idle.len()
    }

    /// Pulls that are under way.
    pub(crate) fn pulling(&self) -> usize {
        self.pulls
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
        let mut counts = vec![KindCounts::default(); self.counts.len()];
        for (worker, state) in &self.states {
            let counts = &mut counts[self.kinds[worker]];
            match state {
                WorkerState::Starting => counts.starting += 1,
                WorkerState::Idle => counts.idle += 1,
                WorkerState::Busy(_) => counts.busy += 1,
            }
        }
        assert_eq!(counts, self.counts);
        assert_eq!(self.kinds.len(), self.states.len());
        for found in &self.paused {
            let active = self.active(found.worker).expect("it is busy");
            assert_eq!(*found, paused(found.worker, active));
        }
        assert!(self.wanting.is_subset(&self.paused));
        let (mut pulls, mut with_one) = (0, 0);
        for (worker, state) in &self.states {
            let WorkerState::Busy(held) = state else {
                continue;
            };
            pulls += held.pulls;
            assert_eq!(
                held.pulls == 0,
                self.paused.contains(&paused(*worker, &held.active))
            );
            assert_eq!(
                held.pulls == 1 && held.queued.is_some(),
                self.pulled_once.contains(&paused(*worker, &held.active))
            );
            let is_alone = self.with_one.get(&held.begun) == Some(worker);
            with_one += usize::from(is_alone);
            assert_eq!(is_alone, held.queued.is_none());
            if let HeldInputs {
                active,
                queued: Some(next),
                ..
            } = held
            {
                assert!(matches!(
                    (&active.work, &next.work),
                    (Work::Input(_), Work::Input(_))
                ));
                // Else the input whose outputs everybody waits for might wait behind one that has no room.
                assert!(active.sequence < next.sequence);
            }
        }
        assert_eq!((pulls, with_one), (self.pulls, self.with_one.len()));
        for &worker in &self.idle {
            assert!(matches!(self.states.get(&worker), Some(WorkerState::Idle)));
        }
    }
}
