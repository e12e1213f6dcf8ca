//! Carries out what the core decided: files and pages, on threads of their own.

mod pages;
mod pool;
mod spill;

pub(crate) use pages::IdlePages;
pub(crate) use pool::{HeldByTable, IoJob, IoOutcome, IoPool, Workplace};
pub(crate) use spill::{MinFree, SpillFolder};
