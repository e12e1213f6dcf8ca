//! The synchronisation primitives of this crate, in one place, so that loom can stand in for them (`tests/loom`).

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::thread::{Thread, current as current_thread, park, park_timeout};

pub(crate) use parking_lot::Mutex;

pub(crate) use crate::alarm::Alarm;

/// The time by which turns are given.
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}
