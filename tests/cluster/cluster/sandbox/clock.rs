//! Time and chance of a run.
//!
//! Gcs and raylets read `std::time::Instant`, tokio's timers and hash maps with random keys. All of these end in three
//! functions of the C library. This program has its own under the same names, which the linker takes; on the thread of a
//! run they answer with the run's clock and generator, on all other threads they ask the kernel.
//!
//! The clock stands still while anything can be done, on any thread of the process. When the runtime would sleep and all
//! other threads do, its `epoll_wait` moves the clock to where it would wake up: a minute of a cluster costs as much as
//! what happens in it. Work that is handed to a thread wakes it at once, so that there is no moment at which nobody has it.
//!
//! # Safety
//! The three functions are called by foreign code with pointers of its own, under the contracts of their namesakes. They
//! do not allocate, lock or unwind: their thread-locals are constants without destructors.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_uint, c_void, clockid_t, epoll_event, size_t, ssize_t, timespec};
use rustix::fs::{Mode, OFlags, RawDir, openat};

thread_local! {
    /// Nanoseconds since the machine was started, in a run. 0 outside of one.
    static NOW: Cell<u64> = const { Cell::new(0) };
    /// State of the generator.
    static CHANCE: Cell<u64> = const { Cell::new(0) };
}

/// Runs begin a while after the start of their machine, so that code may look back.
const BEGIN_NANOS: u64 = 1_000_000 * NANOS;
const NANOS: u64 = 1_000_000_000;
/// The wall clock of a run is this far ahead of its machine's.
const WALL_SECS: i64 = 1_700_000_000;
/// How long the runtime waits for news before it looks again whether other threads work.
const GLANCE_MILLIS: c_int = 1;

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
    if timeout_millis < 0 || !others_sleep() {
        return wait(GLANCE_MILLIS);
    }
    // What they had done before they went to sleep.
    let ready = wait(0);
    if ready != 0 {
        return ready;
    }
    NOW.set(now + timeout_millis as u64 * 1_000_000);
    0
}

/// Whether all other threads of this process wait for something. One that waits for a processor or a disk does not sleep.
fn others_sleep() -> bool {
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let is_own = |name: &CStr| name.to_str().is_ok_and(|name| name.parse() == Ok(own));
    let Ok(threads) = open(rustix::fs::CWD, c"/proc/self/task") else {
        return true;
    };
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&threads, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if !name.to_bytes().starts_with(b".") && !is_own(name) && !sleeps(&threads, name) {
            return false;
        }
    }
    true
}

/// Whether a thread sleeps, or has ended. Its state follows its name, which is in brackets.
fn sleeps(threads: &OwnedFd, thread: &CStr) -> bool {
    let mut text = [0; 256];
    let state = open(threads, thread)
        .and_then(|thread| open(&thread, c"stat"))
        .and_then(|stat| rustix::io::read(&stat, &mut text))
        .ok()
        .and_then(|length| {
            let end = text[..length].iter().rposition(|byte| *byte == b')')?;
            text.get(end + 2).copied()
        });
    state.is_none_or(|state| matches!(state, b'S' | b'Z' | b'X'))
}

fn open(folder: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(
        folder,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
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
