//! The synchronisation primitives of this crate, in one place, so that loom can stand in for them.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::thread::{Thread, current as current_thread};

pub(crate) use parking_lot::Mutex;
