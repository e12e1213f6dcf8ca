//! Carries out what the core decided: files and pages, on threads of their own.

mod pool;
mod spill;

pub(crate) use pool::{IoJob, IoOutcome, IoPool, Workplace};
pub(crate) use spill::SpillFolder;
