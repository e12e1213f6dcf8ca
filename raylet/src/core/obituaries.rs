//! Deaths that wait for their cause.
//!
//! A process's connection ends a moment before the zygote can say how the process ended, and its last output is read after
//! that. The news of its death waits a little for both.

use std::time::Instant;

use aktis_common::ids::WorkerId;
use aktis_proto::v1::ReportWorkerDeathRequest;

use super::event::Exit;

/// A death to be told.
#[derive(Debug)]
pub struct Obituary {
    /// The dead.
    pub worker: WorkerId,
    /// What to tell; its cause is what is known so far.
    pub report: ReportWorkerDeathRequest,
    /// When to tell it at the latest.
    pub until: Instant,
}

/// Deaths that wait for their cause.
#[derive(Debug, Default)]
pub struct Obituaries {
    waiting: Vec<Obituary>,
}

impl Obituaries {
    /// A death whose cause is to come.
    pub fn push(&mut self, obituary: Obituary) {
        self.waiting.push(obituary);
    }

    /// The cause of a death is known; its last words are awaited.
    pub fn note_cause(&mut self, worker: WorkerId, exit: &Exit) {
        let mut waiting = self.waiting.iter_mut();
        let Some(obituary) = waiting.find(|obituary| obituary.worker == worker) else {
            return;
        };
        if let Some(death) = &mut obituary.report.death {
            exit.cause.clone_into(&mut death.cause);
            death.is_out_of_memory = exit.is_out_of_memory;
        }
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
        let due = self
            .waiting
            .extract_if(.., |obituary| obituary.until <= now);
        due.map(|obituary| obituary.report).collect()
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|obituary| obituary.until).min()
    }
}
