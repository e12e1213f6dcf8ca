//! Where the time of a call goes: marks of the points that it passes, recorded on demand.
//!
//! Off, a mark costs one load of a flag. On, it costs reading the clock and an append. The clock is the machine's monotonic
//! one, so that marks of the two processes of a call can be put in one order. The few points of a process's start are always
//! recorded. `benches/account` makes tables of both.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Marks that are kept at most; later ones are dropped.
const MOST_MARKS: usize = 1 << 20;

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A point that a call passes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            /// Its name in tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

points! {
    /// Caller: the native code was entered.
    Called = "called",
    /// Caller: the arguments are bytes.
    ArgsEncoded = "args_encoded",
    /// Either side: a frame lies in the outbox.
    Queued = "queued",
    /// Either side: a thread begins to write what waits in an outbox.
    Sending = "sending",
    /// Either side: the kernel has the bytes.
    Sent = "sent",
    /// Caller: the native code returns the reference.
    Submitted = "submitted",
    /// Either side: the kernel says that there is something to read.
    Readable = "readable",
    /// Either side: bytes were read.
    Received = "received",
    /// Either side: the frames among them are handled.
    Handled = "handled",
    /// Callee: the executor has the call.
    Taken = "taken",
    /// Callee: the arguments are objects.
    ArgsDecoded = "args_decoded",
    /// Callee: the user's function has returned.
    Returned = "returned",
    /// Caller: `get` was entered.
    Asked = "asked",
    /// Caller: the waiting thread has the values, still as bytes.
    Woken = "woken",
    /// Caller: the values are objects.
    ValueDecoded = "value_decoded",
    /// The last handle on a reference goes.
    Releasing = "releasing",
    /// The tables know it.
    Released = "released",
    /// The store gave memory for an object.
    StoreCreated = "store_created",
    /// The object is written.
    StoreWritten = "store_written",
    /// The store pinned an object for reading.
    StorePinned = "store_pinned",
    /// Start: the process, or the zygote that it was forked from, has loaded the native code.
    Loaded = "loaded",
    /// Start: the zygote takes requests.
    ZygoteReady = "zygote_ready",
    /// Start: the process of a worker exists.
    Forked = "forked",
    /// Start: the process has joined its node.
    Joined = "joined",
}

/// That a thread came to a point.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Where it came to.
    pub point: Point,
    /// The thread, as numbered in its process.
    pub thread: u64,
    /// Time of the monotonic clock.
    pub at_nanos: u64,
}

static IS_ON: AtomicBool = AtomicBool::new(false);
static MARKS: Mutex<Vec<Mark>> = Mutex::new(Vec::new());
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Notes that the calling thread has come to a point.
#[inline]
pub fn mark(point: Point) {
    if IS_ON.load(Ordering::Relaxed) {
        record(point);
    }
}

/// Notes a point of the process's start, which there is once. A worker has those of its zygote, too.
pub fn note(point: Point) {
    record(point);
}

#[cold]
fn record(point: Point) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).expect("the monotonic clock is positive");
    let mut marks = MARKS.lock();
    if marks.len() < MOST_MARKS {
        marks.push(Mark {
            point,
            thread: THREAD.with(|thread| *thread),
            at_nanos: u64::try_from(now.as_nanos()).expect("fits for 580 years"),
        });
    }
}

/// Begins or stops to record.
pub fn set_recording(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// The marks so far. They are forgotten.
pub fn take_marks() -> Vec<Mark> {
    std::mem::take(&mut MARKS.lock())
}
