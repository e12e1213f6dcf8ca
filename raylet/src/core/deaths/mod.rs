//! Deaths that wait for their cause.
//!
//! A process's connection ends a moment before the zygote can say how the process ended, and its last output is read after
//! that. The news of its death waits a little for both.
//!
//! ```text
//!  connection ended ──► waiting ── last words ─────────────────────────────► told
//!                          └── too late ──► told as ending ── process ended ──► told once more, to the gcs
//! ```
//! Processes may take their time to end: a driver of a GPU, or a file system that does not answer, holds them. Others are told
//! soon that nobody answers there any more. What must not begin before the process has ended waits for the second news.

use std::time::Instant;

use aktis_common::ids::WorkerId;
use aktis_proto::v1::ReportWorkerDeathRequest;

use crate::core::event::Exit;

/// A death to be told.
#[derive(Debug)]
pub struct Obituary {
    /// The dead.
    pub worker: WorkerId,
    /// What to tell; its cause is what is known so far.
    pub report: ReportWorkerDeathRequest,
    /// It said why it ends, or this raylet ended it: the system knows less.
    pub is_cause_known: bool,
    /// When to tell it at the latest.
    pub until: Instant,
}

/// Deaths that wait for their cause, and those that were told before the process had ended.
#[derive(Debug, Default)]
pub struct Obituaries {
    waiting: Vec<Obituary>,
    ending: Vec<(WorkerId, ReportWorkerDeathRequest)>,
}

impl Obituaries {
    /// A death whose cause is to come.
    pub fn push(&mut self, obituary: Obituary) {
        self.waiting.push(obituary);
    }

    /// The process of a dead worker has ended, and so its cause is known; its last words are awaited. If its death was told
    /// before, gives what the gcs is still to hear.
    pub fn note_end(&mut self, worker: WorkerId, exit: &Exit) -> Option<ReportWorkerDeathRequest> {
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
    pub fn with_last_words(
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

    /// Deaths that are to be told with what is known.
    pub fn overdue(&mut self, now: Instant) -> Vec<ReportWorkerDeathRequest> {
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
