//! Deaths that wait for their cause.
//!
//! A process's connection ends a moment before the zygote can say how the process ended. Its resources are free at once;
//! the news of its death waits a little for the cause.

use std::time::Instant;

use aktis_proto::v1::ReportWorkerDeathRequest;

/// A death to be told.
#[derive(Debug)]
pub struct Obituary {
    /// Process id of the dead.
    pub pid: u32,
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

    /// The cause of a death is known.
    pub fn with_cause(&mut self, pid: u32, cause: &str) -> Option<ReportWorkerDeathRequest> {
        let position = self
            .waiting
            .iter()
            .position(|obituary| obituary.pid == pid)?;
        let mut report = self.waiting.swap_remove(position).report;
        if let Some(death) = &mut report.death {
            cause.clone_into(&mut death.cause);
        }
        Some(report)
    }

    /// Deaths that are to be told without a cause.
    pub fn overdue(&mut self, now: Instant) -> Vec<ReportWorkerDeathRequest> {
        let (due, waiting) = self
            .waiting
            .drain(..)
            .partition(|obituary| obituary.until <= now);
        self.waiting = waiting;
        let due: Vec<Obituary> = due;
        due.into_iter().map(|obituary| obituary.report).collect()
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|obituary| obituary.until).min()
    }
}
