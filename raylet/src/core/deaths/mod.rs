//! Deaths that wait for their cause.
//!
//! A process's connection ends a moment before the zygote can say how the process ended, and its last output is read after
//! that. The news of its death waits a little for both.
//!
//! ```text
//!  connection ended ──► waiting ── last words ─────────────────────────────► told
//!                        ▲ └── too late ──► looked at ──► told as ending ── process ended ──► told once more, to the gcs
//!                        └───────────────────────┘ it has ended: the zygote has only not said how
//! ```
//! Processes may take their time to end: the kernel's module of a GPU, or a file system that does not answer, holds them. Others are told
//! soon that nobody answers there any more. What must not begin before the process has ended waits for the second news.
//!
//! A process that has ended while its zygote has no time is no such one: what it died of is about to be known, and whoever is told
//! something else blames the wrong thing.
//!
//! Owns: what is known of each such death. Does not own: the workers (the pool), and who is told (processes, the gcs).
//!
//! - `DEATH-1 (awaited-once)`: a death waits for its cause, or for the end of the process, and only once.

mod check;
mod telling;

use std::time::{Duration, Instant};

use aktis_common::ids::{NodeId, WorkerId};
use aktis_proto::v1::ReportWorkerDeathRequest;

use crate::core::event::Exit;

/// How long a zygote may take to say how a process has ended, on a machine that has no time for it.
const ZYGOTE_PATIENCE: Duration = Duration::from_secs(15);

/// A death to be told.
#[derive(Debug)]
struct Obituary {
    worker: WorkerId,
    pid: Option<u32>,
    /// What to tell; its cause is what is known so far.
    report: ReportWorkerDeathRequest,
    /// It said why it ends, or this raylet ended it: the system knows less.
    is_cause_known: bool,
    /// When to tell it at the latest.
    until: Instant,
    /// Somebody has looked whether its process has ended.
    is_looked_at: bool,
}

impl Obituary {
    /// Its process, where it matters whether that has ended: if it has, more will be known of it.
    fn to_look_at(&self) -> Option<u32> {
        let is_open = self.report.is_ending && !self.is_cause_known && !self.is_looked_at;
        self.pid.filter(|_| is_open)
    }
}

/// What happens to a death.
#[derive(Debug)]
pub enum DeathEvent {
    /// All that is known of it is to be told, to the processes of this node and to the gcs.
    Told(ReportWorkerDeathRequest),
}

/// Deaths that wait for their cause, and those that were told before the process had ended.
#[derive(Debug)]
pub struct Obituaries {
    here: NodeId,
    patience: Duration,
    waiting: Vec<Obituary>,
    ending: Vec<(WorkerId, ReportWorkerDeathRequest)>,
}

impl Obituaries {
    /// Nobody on node `here` has died. The news of a death waits so long for its cause.
    pub fn new(here: NodeId, patience: Duration) -> Self {
        Self {
            here,
            patience,
            waiting: Vec::new(),
            ending: Vec::new(),
        }
    }

    /// The process of a dead worker has ended, and so its cause is known; its last words are awaited. If its death was told
    /// before, gives what the gcs is still to hear.
    fn note_end(&mut self, worker: WorkerId, exit: &Exit) -> Option<ReportWorkerDeathRequest> {
        let mut waiting = self.waiting.iter_mut();
        if let Some(obituary) = waiting.find(|obituary| obituary.worker == worker) {
            let report = &mut obituary.report;
            report.is_ending = false;
            if let (Some(death), false) = (&mut report.death, obituary.is_cause_known) {
                exit.cause.clone_into(&mut death.cause);
                death.is_out_of_memory = exit.is_out_of_memory;
            }
            return None;
        }
        let position = self
            .ending
            .iter()
            .position(|(ending, _)| *ending == worker)?;
        let (_, mut report) = self.ending.swap_remove(position);
        report.is_ending = false;
        Some(report)
    }

    /// The last words of the dead are known, and so everything.
    fn with_last_words(
        &mut self,
        worker: WorkerId,
        last_words: String,
    ) -> Option<ReportWorkerDeathRequest> {
        let mut waiting = self.waiting.iter();
        let position = waiting.position(|obituary| obituary.worker == worker)?;
        let mut report = self.waiting.swap_remove(position).report;
        if let Some(death) = &mut report.death {
            death.last_words = last_words;
        }
        Some(report)
    }

    /// Deaths that would be told now, of processes that are to be looked at first. Meanwhile they wait.
    fn take_to_look_at(&mut self, now: Instant) -> Vec<(WorkerId, u32)> {
        let due = self.waiting.iter_mut().filter(|one| one.until <= now);
        let look = due.filter_map(|obituary| {
            let pid = obituary.to_look_at()?;
            obituary.is_looked_at = true;
            obituary.until = now + self.patience;
            Some((obituary.worker, pid))
        });
        look.collect()
    }

    /// Somebody has looked at the process of a dead worker.
    fn note_look(&mut self, worker: WorkerId, has_ended: bool, now: Instant) {
        let mut waiting = self.waiting.iter_mut();
        if let Some(obituary) = waiting.find(|obituary| obituary.worker == worker) {
            let patience = if has_ended {
                ZYGOTE_PATIENCE
            } else {
                Duration::ZERO
            };
            obituary.until = now + patience;
        }
    }

    /// Deaths that are to be told with what is known. They wait no longer, but for the end of an actor's process, of which the gcs
    /// hears (`DEATH-1`).
    fn overdue(&mut self, now: Instant) -> Vec<ReportWorkerDeathRequest> {
        let due: Vec<Obituary> = self
            .waiting
            .extract_if(.., |obituary| obituary.until <= now)
            .collect();
        // Only an actor begins anew.
        let ending = due
            .iter()
            .filter(|due| due.report.is_ending && !due.report.actor_id.is_empty());
        self.ending
            .extend(ending.map(|due| (due.worker, due.report.clone())));
        due.into_iter().map(|due| due.report).collect()
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|obituary| obituary.until).min()
    }
}
