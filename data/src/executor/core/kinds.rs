//! Workers of several kinds in one stage: they take from the same inputs, and some of them take longer.
//!
//! ```text
//!  inputs ─┬─► idle worker of the fastest kind, then of the others
//!          └─► none of a slow kind, if faster ones will be done with all that waits before it would be
//!  end: nothing waits ─► a slow worker gives its input to a faster one that has nothing to do, if that will be done with it sooner
//! ```
//! A worker is a straggler if it is much slower than others of its kind. That a kind is slow is no fault: it gets work as long as that
//! does not make the end later.

use std::time::Duration;

use super::Executor;
use super::event::WorkerKey;
use super::stage::{Load, Stage, Work, as_f64};
use super::workers::HeldInputs;

/// How many times as long as others a worker must take for a row to be left out at the end: less may be chance.
const MUCH_SLOWER: f64 = 2.0;
/// The same of a kind as compared with another one: means vary less.
const SLOWER_KIND: f64 = 1.5;

/// What workers of one kind have done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KindShare {
    pub(crate) load: Load,
    /// Inputs that are used up.
    pub(crate) inputs: u64,
}

impl KindShare {
    /// How long one of them takes for an input, if any has done one.
    fn per_input(&self) -> Option<Duration> {
        let is_known = self.inputs > 0 && !self.load.busy.is_zero();
        is_known.then(|| self.load.busy.div_f64(as_f64(self.inputs)))
    }
}

impl Work {
    /// The kinds of workers that may have it; none: any.
    pub(crate) fn kinds(&self) -> &[usize] {
        match self {
            Self::Input(input) => &input.kinds,
            Self::Rerun(rerun) => &rerun.kinds,
        }
    }

    fn kinds_mut(&mut self) -> &mut Box<[usize]> {
        match self {
            Self::Input(input) => &mut input.kinds,
            Self::Rerun(rerun) => &mut rerun.kinds,
        }
    }
}

impl Stage {
    /// Kinds of workers.
    pub(crate) fn kinds(&self) -> std::ops::Range<usize> {
        0..self.targets.len()
    }

    fn is_mixed(&self) -> bool {
        self.targets.len() > 1
    }

    /// How many workers it may have now.
    pub(crate) fn target_workers(&self) -> usize {
        self.targets.iter().sum()
    }

    /// A worker has done more.
    pub(crate) fn add_load(&mut self, worker: WorkerKey, done: Load) {
        self.load += done;
        self.shares[self.workers.kind_of(worker)].load += done;
        self.workers.add_load(worker, done);
    }

    /// Whether there are more workers of its kind than there may be.
    pub(crate) fn is_beyond(&self, worker: WorkerKey) -> bool {
        let kind = self.workers.kind_of(worker);
        self.workers.count_of(kind) > self.targets[kind]
    }

    /// A worker that loads its functions, of a kind that has more than it may have.
    pub(crate) fn surplus_start(&self) -> Option<WorkerKey> {
        let mut starting = self.workers.all_starting();
        starting.find(|&worker| self.is_beyond(worker))
    }

    /// The kind of which one more worker is to be started, if there is work for so many. Those of another kind that have not begun may
    /// never do, so they do not stand for one of this.
    pub(crate) fn kind_to_start(&self, useful: usize) -> Option<usize> {
        if !self.is_mixed() {
            let have = self.workers.count();
            return (have < self.targets[0] && have < useful).then_some(0);
        }
        let may_start = |&kind: &usize| {
            let useful = useful.saturating_sub(self.waiting_for_others(kind));
            let others = self.kinds().filter(|&other| other != kind);
            let ready = others
                .map(|other| self.workers.count_of(other) - self.workers.starting_of(other))
                .sum::<usize>();
            let have = self.workers.count_of(kind);
            have < self.targets[kind] && have + ready < useful
        };
        self.by_pace().into_iter().find(may_start)
    }

    /// The kind of which a worker is to be started for what only some kinds may have, if there is none of these.
    pub(crate) fn kind_to_start_for_bound(&self) -> Option<usize> {
        let missing = self.bound_kinds().find(|kinds| !self.have_any(kinds))?;
        let mut kinds = missing.iter().copied();
        kinds.find(|&kind| self.targets[kind] > 0)
    }

    /// How many of those that wait workers of this kind may not have.
    fn waiting_for_others(&self, kind: usize) -> usize {
        let others = self.bound_kinds().filter(|kinds| !kinds.contains(&kind));
        others.count()
    }

    /// Kinds that something is for which the others may not have, as long as it is not done.
    pub(crate) fn first_kinds(&self) -> Vec<usize> {
        if !self.is_mixed() {
            return Vec::new();
        }
        let active = self.workers.all_active();
        let active = active.flat_map(|active| active.work.kinds());
        let mut kinds: Vec<usize> = self
            .bound_kinds()
            .flatten()
            .chain(active)
            .copied()
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Whether something waits for workers of kinds of which none has loaded its functions.
    pub(crate) fn awaits_kind(&self) -> bool {
        let ready = |&kind: &usize| self.workers.count_of(kind) > self.workers.starting_of(kind);
        self.bound_kinds().any(|kinds| !kinds.iter().any(ready))
    }

    /// Whether something waits for a worker of this one's kind, and cannot be given to all others.
    pub(crate) fn is_awaited(&self, worker: WorkerKey) -> bool {
        let kind = self.workers.kind_of(worker);
        self.bound_kinds().any(|kinds| kinds.contains(&kind))
    }

    /// What waits and only some kinds of workers may have: these kinds.
    fn bound_kinds(&self) -> impl Iterator<Item = &[usize]> {
        let inputs = self.pending.bound().map(|(_, input)| &*input.kinds);
        let reruns = self.reruns.values().map(|rerun| &*rerun.kinds);
        inputs.chain(reruns.filter(|kinds| !kinds.is_empty()))
    }

    fn have_any(&self, kinds: &[usize]) -> bool {
        kinds.iter().any(|&kind| self.workers.count_of(kind) > 0)
    }

    /// The input at this place of the order, and what is made of it again, is for workers of these kinds from now on; none: any.
    fn bind(&mut self, sequence: u64, kinds: &[usize]) {
        self.pending.bind(sequence, kinds);
        if let Some(rerun) = self.reruns.get_mut(&sequence) {
            rerun.kinds = kinds.into();
        }
        let active = self.workers.all_active_mut();
        for active in active.filter(|active| active.sequence == sequence) {
            *active.work.kinds_mut() = kinds.into();
        }
    }

    /// The kinds of workers that may have the input at this place of the order, which may be done; none: any.
    pub(crate) fn kinds_for(&self, sequence: u64) -> Box<[usize]> {
        if let Some(input) = self.pending.get(sequence) {
            return input.kinds.clone();
        }
        let mut active = self.workers.all_active();
        let active = active.find(|active| active.sequence == sequence);
        active.map_or_else(Box::default, |active| active.work.kinds().into())
    }

    /// What only kinds may have of which there is no worker, and can be none, any worker may have.
    pub(crate) fn unbind_in_vain(&mut self) {
        if self.bound_kinds().next().is_none() {
            return;
        }
        let can_be = |kinds: &[usize]| {
            self.have_any(kinds) || kinds.iter().any(|&kind| self.targets[kind] > 0)
        };
        let inputs = self.pending.bound();
        let inputs = inputs.map(|(sequence, input)| (sequence, &*input.kinds));
        let reruns = self.reruns.iter();
        let reruns = reruns.map(|(&sequence, rerun)| (sequence, &*rerun.kinds));
        let all = inputs
            .chain(reruns)
            .filter(|(_, kinds)| !kinds.is_empty() && !can_be(kinds));
        let in_vain: Vec<u64> = all.map(|(sequence, _)| sequence).collect();
        for sequence in in_vain {
            self.bind(sequence, &[]);
        }
    }

    /// Whether the worker may have what only these kinds may; none: any.
    pub(crate) fn may_have(&self, worker: WorkerKey, kinds: &[usize]) -> bool {
        kinds.is_empty() || kinds.contains(&self.workers.kind_of(worker))
    }

    /// Seconds for a row of workers of a kind, if that is known; of all but this one, if it is of that kind.
    fn pace(&self, kind: usize, but: Option<WorkerKey>) -> Option<f64> {
        let load = self.shares[kind].load;
        let but = but.filter(|&worker| self.workers.kind_of(worker) == kind);
        let own = but.map(|worker| self.workers.load(worker));
        load.without(own.unwrap_or_default()).seconds_per_row()
    }

    /// The kinds, the fastest first; those that nobody knows come before all, in the order in which they were given.
    fn by_pace(&self) -> Vec<usize> {
        let mut kinds: Vec<usize> = self.kinds().collect();
        let pace = |kind: &usize| self.pace(*kind, None).unwrap_or(0.0);
        kinds.sort_by(|one, other| pace(one).total_cmp(&pace(other)));
        kinds
    }

    /// A worker without an input that may take one, of the fastest kind that has such.
    pub(crate) fn idle_worker(&self, may_take: impl Fn(&WorkerKey) -> bool) -> Option<WorkerKey> {
        if !self.is_mixed() {
            return self.workers.idle().find(may_take);
        }
        let order = self.by_pace();
        let place = |worker: &WorkerKey| {
            let kind = self.workers.kind_of(*worker);
            order.iter().position(|&other| other == kind)
        };
        self.workers.idle().filter(may_take).min_by_key(place)
    }

    /// What the worker takes for a row: by what it has done, or else by what others of its kind have.
    fn seconds_per_row(&self, worker: WorkerKey) -> Option<f64> {
        let own = self.workers.load(worker).seconds_per_row();
        own.or_else(|| self.pace(self.workers.kind_of(worker), None))
    }

    /// How many times as long as others of its kind the worker takes for a row, if that is known.
    fn times_as_long(&self, worker: WorkerKey) -> Option<f64> {
        let others = self.pace(self.workers.kind_of(worker), Some(worker))?;
        Some(self.workers.load(worker).seconds_per_row()? / others)
    }

    /// Whether the worker, which has no input, is so much slower than those that have one that these will be done with all that
    /// waits before it would be done with one.
    pub(crate) fn holds_up_the_end(&self, worker: WorkerKey) -> bool {
        if !self.is_fed() {
            return false;
        }
        let waiting = as_f64(self.waiting() as u64);
        let times = self.times_as_long(worker).unwrap_or(1.0);
        let is_straggler = times >= MUCH_SLOWER && !self.is_mixed();
        if is_straggler {
            return waiting <= times * as_f64(self.workers.busy() as u64);
        }
        self.is_mixed() && waiting <= self.done_by_faster_kinds(worker)
    }

    /// How many inputs workers of much faster kinds, and those of its own if it is a straggler, do while this one does one; they are
    /// in the middle of what they have.
    fn done_by_faster_kinds(&self, worker: WorkerKey) -> f64 {
        let own_kind = self.workers.kind_of(worker);
        let Some(own) = self.seconds_per_row(worker) else {
            // Nobody knows: it gets none of the last ones, which others can do at once.
            let known = self.kinds().filter(|&kind| self.pace(kind, None).is_some());
            let busy = known.map(|kind| self.workers.busy_of(kind) as u64);
            return as_f64(busy.sum()) / 2.0;
        };
        let done = self.kinds().map(|kind| {
            let times = self.pace(kind, Some(worker)).map_or(0.0, |pace| own / pace);
            let least = match kind == own_kind {
                true => MUCH_SLOWER,
                false => SLOWER_KIND,
            };
            let busy = as_f64(self.workers.busy_of(kind) as u64);
            if times >= least {
                busy * (times - 0.5)
            } else {
                0.0
            }
        });
        done.sum()
    }

    /// How many inputs all workers do while this one does one, if it is known how fast it is. Others of which nobody knows that count as
    /// fast as this one, and none as slower than it where all are alike.
    pub(crate) fn done_meanwhile(&self, worker: WorkerKey) -> Option<f64> {
        let own = self.workers.load(worker).seconds_per_row()?;
        let own_kind = self.workers.kind_of(worker);
        let done = self.kinds().map(|kind| {
            let times = self.pace(kind, Some(worker)).map_or(1.0, |pace| own / pace);
            let times = if kind == own_kind {
                times.max(1.0)
            } else {
                times
            };
            times * as_f64(self.workers.count_of(kind) as u64)
        });
        Some(done.sum())
    }

    /// How long the fastest of those that have nothing to do takes for an input, when nothing waits any more.
    fn fastest_idle_at_the_end(&self) -> Option<Duration> {
        let is_end = self.is_mixed() && self.is_fed() && !self.is_limited && self.waiting() == 0;
        if !is_end {
            return None;
        }
        let idle = self.workers.idle();
        let idle = idle.filter_map(|worker| self.share_of(worker).per_input());
        idle.min()
    }

    fn share_of(&self, worker: WorkerKey) -> KindShare {
        self.shares[self.workers.kind_of(worker)]
    }

    /// Workers that are at work on one input, over which no other has died, and since when they have it.
    fn with_last_input(&self) -> impl Iterator<Item = (WorkerKey, Duration)> {
        let is_well = |held: &&HeldInputs| {
            let is_well = matches!(&held.active.work, Work::Input(input) if input.deaths == 0 && input.kinds.is_empty());
            is_well && held.is_alone_and_pulled()
        };
        let busy = self.workers.all_busy();
        busy.filter_map(move |(worker, held)| {
            let held = Some(held).filter(is_well)?;
            Some((worker, held.active.since))
        })
    }

    /// At the end: a worker of a slow kind with an input that an idle one of another kind would be done with before it.
    fn slow_at_the_end(&self, now: Duration) -> Option<WorkerKey> {
        let fast = self.fastest_idle_at_the_end()?;
        let left = |(worker, since): (WorkerKey, Duration)| {
            let passed = now.saturating_sub(since);
            // Of one whose kind has never done an input: as much again as it has taken so far.
            let all = self.share_of(worker).per_input();
            (all.map_or(passed, |all| all.saturating_sub(passed)), worker)
        };
        let (left, slowest) = self.with_last_input().map(left).max()?;
        (left >= fast.mul_f64(SLOWER_KIND)).then_some(slowest)
    }

    /// When it will be known of one whose kind has never done an input that it is such.
    fn slow_later(&self) -> Option<Duration> {
        let fast = self.fastest_idle_at_the_end()?;
        let unknown = |(worker, _): &(WorkerKey, _)| self.share_of(*worker).per_input().is_none();
        let unknown = self.with_last_input().filter(unknown);
        let since = unknown.map(|(_, since)| since).min()?;
        Some(since + fast.mul_f64(SLOWER_KIND))
    }

    /// A worker that is to be ended: there are more of its kind than there may be, or it finds nothing to do any more, which is the
    /// second value.
    pub(crate) fn spare_worker(&self) -> Option<(WorkerKey, bool)> {
        let looked_at = if self.is_mixed() { usize::MAX } else { 1 };
        let mut all = self.workers.idle().take(looked_at);
        if let Some(beyond) = all.find(|&worker| self.is_beyond(worker)) {
            return Some((beyond, false));
        }
        // One may yet take over what a slow worker has.
        if !self.is_fed() || self.slow_later().is_some() {
            return None;
        }
        let waiting = self.waiting();
        let mut all = self.workers.idle().take(looked_at);
        let has_no_work =
            |worker: &WorkerKey| waiting == self.waiting_for_others(self.workers.kind_of(*worker));
        Some((all.find(has_no_work)?, true))
    }
}

impl Executor {
    /// What the worker is at work on has no room in its kind, of which it has died, and is for workers of these from now on.
    pub fn bind(&mut self, worker: WorkerKey, kinds: &[usize]) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let stage = &mut self.stages[index];
        if let Some(sequence) = stage.workers.active(worker).map(|active| active.sequence) {
            stage.bind(sequence, kinds);
        }
    }

    /// When it is to be told that time has passed, though nothing has happened.
    pub fn looks_again_at(&self) -> Option<Duration> {
        let open = self.stages.iter().filter(|stage| !stage.is_done);
        open.filter_map(Stage::slow_later).min()
    }

    /// How long the job has run, before what has happened since is told.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Takes the last input of a slow worker, for a faster one that has nothing to do. What it has done of it is done again.
    pub(super) fn take_over(&mut self, index: usize) -> bool {
        let Some(worker) = self.stages[index].slow_at_the_end(self.now) else {
            return false;
        };
        self.stop_busy(index, worker);
        true
    }
}
