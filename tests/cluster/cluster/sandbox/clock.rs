//! Time and chance of a run.
//!
//! Gcs and raylets read `std::time::Instant`, tokio's timers and hash maps with random keys. All of these end in three
//! functions of the C library. This program has its own under the same names, which the linker takes; on the thread of a
//! run they answer with the run's clock and generator, on all other threads they ask the kernel.
//!
//! The clock stands still while anything can be done. When the runtime would sleep, its `epoll_wait` moves the clock to
//! where it would wake up: a minute of a cluster costs as much as what happens in it.
//!
//! # Safety
//! The three functions are called by foreign code with pointers of its own, under the contracts of their namesakes. They
//! do not allocate, lock or unwind: their thread-locals are constants without destructors.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use libc::{c_int, c_uint, c_void, clockid_t, epoll_event, size_t, ssize_t, timespec};

thread_local! {
    /// Nanoseconds since the machine was started, in a run. 0 outside of one.
    static NOW: Cell<u64> = const { Cell::new(0) };
    /// Work on other threads that the clock waits for.
    static BUSY: Cell<u32> = const { Cell::new(0) };
    /// State of the generator.
    static CHANCE: Cell<u64> = const { Cell::new(0) };
}

/// Runs begin a while after the start of their machine, so that code may look back.
const BEGIN_NANOS: u64 = 1_000_000 * NANOS;
const NANOS: u64 = 1_000_000_000;
/// The wall clock of a run is this far ahead of its machine's.
const WALL_SECS: i64 = 1_700_000_000;
/// How long one look at other threads' work takes at most.
const GLANCE_MILLIS: c_int = 20;

/// From here on this thread has the clock and the generator of a run.
pub fn begin(seed: u64) {
    CHANCE.set(seed ^ 0x5851_f42d_4c95_7f2d);
    NOW.set(BEGIN_NANOS);
}

/// Time since the run began.
pub fn elapsed() -> Duration {
    Duration::from_nanos(NOW.get().saturating_sub(BEGIN_NANOS))
}

/// All processes of the run are stopped for so long, as a machine that sleeps.
pub fn leap(by: Duration) {
    NOW.set(NOW.get() + u64::try_from(by.as_nanos()).unwrap());
}

/// While this lives, other threads work for the run, and the clock waits for them.
#[derive(Debug)]
pub struct Busy(());

impl Busy {
    pub fn new() -> Self {
        BUSY.set(BUSY.get() + 1);
        Self(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(BUSY.get() - 1);
    }
}

/// Next number of a generator (splitmix64, Steele et al. 2014).
pub fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let now = NOW.try_with(Cell::get).unwrap_or(0);
    if now == 0 {
        // SAFETY: the caller's arguments, handed to the kernel.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let wall = if clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE {
        WALL_SECS
    } else {
        0
    };
    let value = timespec {
        tv_sec: wall + (now / NANOS) as i64,
        tv_nsec: (now % NANOS) as i64,
    };
    // SAFETY: by the contract of clock_gettime the caller gives room for one value.
    unsafe { time.write(value) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout_millis: c_int,
) -> c_int {
    let wait = |millis: c_int| {
        let no_mask = std::ptr::null::<c_void>();
        // SAFETY: the caller's arguments but for the time, handed to the kernel without a signal mask.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                epoll,
                events,
                room,
                millis,
                no_mask,
                8 as size_t,
            )
        };
        ready as c_int
    };
    let now = NOW.try_with(Cell::get).unwrap_or(0);
    if now == 0 {
        return wait(timeout_millis);
    }
    let ready = wait(0);
    if ready != 0 || timeout_millis == 0 {
        return ready;
    }
    if BUSY.get() > 0 || timeout_millis < 0 {
        return wait(GLANCE_MILLIS);
    }
    NOW.set(now + timeout_millis as u64 * 1_000_000);
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if NOW.try_with(Cell::get).unwrap_or(0) == 0 {
        // SAFETY: the caller's arguments, handed to the kernel.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as ssize_t;
    }
    let mut state = CHANCE.get();
    for at in 0..length {
        let byte = (next_random(&mut state) & 0xff) as u8;
        // SAFETY: by the contract of getrandom the caller gives room for `length` bytes.
        unsafe { buffer.cast::<u8>().add(at).write(byte) };
    }
    CHANCE.set(state);
    length as ssize_t
}
