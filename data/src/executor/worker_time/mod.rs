//! What became of the time of stage workers: every moment in which one has its CPUs and GPUs is counted once.
//!
//! ```text
//!  asked for ── node has room ── made ── functions loaded ── input ─pull─ ─pull─ ... input ─pull─ ended or dead
//!  (waits)        starting          loading          idle     work  idle  work        work
//! ```
//! Work counts when it is known what became of it: it was useful if the attempt at the input used that up, and has to be done again if
//! the worker died, or gave its input back. A worker that nobody calls lends its CPUs to others after a while; its GPUs it keeps.
//!
//! A worker has its room from the moment its node has set that aside for it, which may be long before its process is there, and long after
//! it was asked for.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aktis_worker::LENDS_AFTER;

use super::core::event::WorkerKey;
use crate::stats::WorkerTime;
use crate::wire::spec::Report;
use crate::wire::time::ReadyReport;

/// The workers of a job.
pub(crate) struct WorkerTimes {
    /// Of workers that have ended, and of what is over of others, by their kinds: those of a stage come one after another.
    kinds: Vec<WorkerTime>,
    workers: HashMap<WorkerKey, HeldWorker>,
}

/// One worker.
struct HeldWorker {
    kind: usize,
    asked: Instant,
    /// It has loaded its functions.
    is_ready: bool,
    /// The pull that is under way.
    pulls_since: Option<Instant>,
    /// Pulls that wait in it behind that one.
    pulls_behind: u32,
    /// Until when its time is counted.
    counted: Instant,
    attempt: AttemptTime,
}

/// Of an input that is not used up.
#[derive(Default)]
struct AttemptTime {
    /// It makes blocks again that were lost.
    is_rerun: bool,
    work: Duration,
    rows: u64,
}

impl WorkerTimes {
    /// With so many kinds of workers, of all stages.
    pub(crate) fn new(kinds: usize) -> Self {
        Self {
            kinds: vec![WorkerTime::default(); kinds],
            workers: HashMap::new(),
        }
    }

    /// A worker is asked for.
    pub(super) fn asked(&mut self, worker: WorkerKey, kind: usize, now: Instant) {
        let clock = HeldWorker {
            kind,
            asked: now,
            is_ready: false,
            pulls_since: None,
            pulls_behind: 0,
            counted: now,
            attempt: AttemptTime::default(),
        };
        self.workers.insert(worker, clock);
    }

    /// It has loaded its functions.
    pub(super) fn ready(&mut self, worker: WorkerKey, report: &ReadyReport, now: Instant) {
        let Some(clock) = self.workers.get_mut(&worker) else {
            return;
        };
        // Before it was asked for it had nothing.
        let waited = now.saturating_duration_since(clock.asked);
        let held = waited.min(Duration::from_nanos(report.held_nanos));
        let loading = held.min(Duration::from_nanos(report.loading_nanos));
        let time = &mut self.kinds[clock.kind];
        time.workers += 1;
        time.starting += held - loading;
        time.loading += loading;
        time.cpu += Duration::from_nanos(report.cpu_nanos);
        clock.is_ready = true;
        clock.counted = now;
    }

    /// It is given an input, and pulled.
    pub(super) fn begins(&mut self, worker: WorkerKey, is_rerun: bool, now: Instant) {
        self.abandon(worker);
        if let Some(clock) = self.workers.get_mut(&worker) {
            clock.attempt.is_rerun = is_rerun;
        }
        self.pull(worker, now);
    }

    /// It is pulled.
    pub(super) fn pull(&mut self, worker: WorkerKey, now: Instant) {
        let Some(clock) = self.workers.get_mut(&worker) else {
            return;
        };
        if clock.pulls_since.is_some() {
            clock.pulls_behind += 1;
            return;
        }
        let time = &mut self.kinds[clock.kind];
        time.wait(now.saturating_duration_since(clock.counted));
        clock.counted = now;
        clock.pulls_since = Some(now);
    }

    /// A pull came back.
    pub(super) fn pulled(&mut self, worker: WorkerKey, report: &Report, now: Instant) {
        let Some(clock) = self.workers.get_mut(&worker) else {
            return;
        };
        let Some(began) = clock.pulls_since.take() else {
            return;
        };
        let time = &mut self.kinds[clock.kind];
        let told = report.time.unwrap_or_default();
        let passed = now.saturating_duration_since(began);
        let work = passed.min(Duration::from_nanos(told.wall_nanos));
        // The way there and back, and what the answer has waited for the loop.
        time.idle += passed - work;
        time.cpu += Duration::from_nanos(told.cpu_nanos);
        clock.counted = now;
        if clock.pulls_behind > 0 {
            clock.pulls_behind -= 1;
            clock.pulls_since = Some(now);
        }
        clock.attempt.work += work;
        clock.attempt.rows += report.steps.first().map_or(0, |source| source.rows_out);
        if report.is_last {
            let attempt = std::mem::take(&mut clock.attempt);
            time.settle(&attempt, attempt.is_rerun);
        }
    }

    /// It gives its input back.
    pub(super) fn gives_back(&mut self, worker: WorkerKey, now: Instant) {
        self.end_pull(worker, now);
        self.abandon(worker);
    }

    fn abandon(&mut self, worker: WorkerKey) {
        if let Some(clock) = self.workers.get_mut(&worker) {
            let attempt = std::mem::take(&mut clock.attempt);
            self.kinds[clock.kind].settle(&attempt, true);
        }
    }

    fn end_pull(&mut self, worker: WorkerKey, now: Instant) {
        if let Some(clock) = self.workers.get_mut(&worker) {
            clock.settle_to(&mut self.kinds[clock.kind], now);
            clock.pulls_since = None;
            clock.pulls_behind = 0;
        }
    }

    /// It is dead. What it was doing has to be done again.
    pub(super) fn died(&mut self, worker: WorkerKey, now: Instant) {
        self.gives_back(worker, now);
        if let Some(clock) = self.workers.remove(&worker)
            && !clock.is_ready
        {
            self.kinds[clock.kind].workers += 1;
        }
    }

    /// It is ended. What it was doing is not wanted any more.
    pub(super) fn ended(&mut self, worker: WorkerKey, now: Instant) {
        let is_ready = |clock: &HeldWorker| clock.is_ready;
        if self.workers.get(&worker).is_some_and(is_ready) {
            self.end_pull(worker, now);
        }
        if let Some(clock) = self.workers.remove(&worker) {
            self.kinds[clock.kind].settle(&clock.attempt, clock.attempt.is_rerun);
        }
    }

    /// By kind, with what is under way.
    pub(super) fn so_far(&self, now: Instant) -> Vec<WorkerTime> {
        let mut kinds = self.kinds.clone();
        for clock in self.workers.values().filter(|clock| clock.is_ready) {
            let time = &mut kinds[clock.kind];
            let passed = now.saturating_duration_since(clock.counted);
            match clock.pulls_since {
                Some(_) => time.useful += passed + clock.attempt.work,
                None => {
                    time.useful += clock.attempt.work;
                    time.wait(passed);
                }
            }
        }
        kinds
    }
}

impl HeldWorker {
    /// Counts what has passed.
    fn settle_to(&mut self, time: &mut WorkerTime, now: Instant) {
        let passed = now.saturating_duration_since(self.counted);
        self.counted = now;
        match self.pulls_since {
            Some(_) => self.attempt.work += passed,
            None if self.is_ready => time.wait(passed),
            None => time.starting += passed,
        }
    }
}

impl WorkerTime {
    /// Nobody has called a worker for so long.
    fn wait(&mut self, passed: Duration) {
        let held = passed.min(LENDS_AFTER);
        self.idle += held;
        self.lent += passed - held;
    }

    fn settle(&mut self, attempt: &AttemptTime, is_in_vain: bool) {
        if is_in_vain {
            self.repeated += attempt.work;
            self.rows_repeated += attempt.rows;
        } else {
            self.useful += attempt.work;
        }
    }
}
