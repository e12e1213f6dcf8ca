//! Where the time of a call goes: marks of the stages that it passes, recorded on demand.
//!
//! Off, a mark costs one load of a flag. On, it costs reading the clock and an append. The clock is the machine's monotonic
//! one, so that marks of the two processes of a call can be put in one order. `benches/account` makes a table of them.

use std::time::Duration;

use crate::sync::{AtomicBool, Mutex, Ordering};

/// Marks that are kept at most; later ones are dropped.
const MOST_MARKS: usize = 1 << 20;

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A point that a call passes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Stage {
            $($(#[$doc])* $name,)*
        }

        impl Stage {
            /// Its name in tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

stages! {
    /// Caller: the native code was entered.
    Called = "called",
    /// Caller: the arguments are bytes.
    ArgsEncoded = "args_encoded",
    /// Either side: the frame lies in the outbox, the tables are up to date.
    Queued = "queued",
    /// Either side: the kernel has the bytes.
    Sent = "sent",
    /// Either side: bytes were read.
    Received = "received",
    /// Callee: the executor has the call.
    Taken = "taken",
    /// Callee: the arguments are objects.
    ArgsDecoded = "args_decoded",
    /// Callee: the user's function has returned.
    Returned = "returned",
    /// Caller: the waiting thread has the value, still as bytes.
    Woken = "woken",
    /// Caller: the value is an object.
    ValueDecoded = "value_decoded",
    /// The store gave memory for an object.
    StoreCreated = "store_created",
    /// The object is written.
    StoreWritten = "store_written",
    /// The store pinned an object for reading.
    StorePinned = "store_pinned",
}

static IS_ON: AtomicBool = AtomicBool::new(false);
static MARKS: Mutex<Vec<(Stage, u64)>> = Mutex::new(Vec::new());

/// Notes that the calling thread has come to a stage.
#[inline]
pub fn mark(stage: Stage) {
    if IS_ON.load(Ordering::Relaxed) {
        record(stage);
    }
}

#[cold]
fn record(stage: Stage) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).expect("the monotonic clock is positive");
    let mut marks = MARKS.lock();
    if marks.len() < MOST_MARKS {
        marks.push((
            stage,
            u64::try_from(now.as_nanos()).expect("fits for 580 years"),
        ));
    }
}

/// Begins or stops to record.
pub fn set_recording(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// The marks so far, in nanoseconds of the monotonic clock. They are forgotten.
pub fn take_marks() -> Vec<(Stage, u64)> {
    std::mem::take(&mut MARKS.lock())
}
