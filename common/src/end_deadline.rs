//! A deadline for the end of this process, which holds whatever its threads do.
//!
//! The kernel keeps it and its handler is no code of anybody's: it holds where a thread that waits would not, because foreign
//! code keeps the interpreter's lock, and costs no thread at each end.

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

static STATUS: AtomicI32 = AtomicI32::new(1);
static MESSAGE: OnceLock<Box<str>> = OnceLock::new();

/// In so long the process says `message` on standard error and ends with `status`, unless [`clear`] is called before. The first
/// message stays. Takes the signal SIGALRM and its timer.
pub fn set(patience: Duration, status: i32, message: &str) {
    STATUS.store(status, Ordering::Relaxed);
    MESSAGE.get_or_init(|| format!("{message}\n").into());
    install();
    arm(patience);
}

/// There is no deadline any more.
pub fn clear() {
    arm(Duration::ZERO);
}

#[allow(unsafe_code, reason = "there is no safe signal handler")]
fn install() {
    // SAFETY: all zero is a valid sigaction: no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = give_up as extern "C" fn(c_int) as usize;
    // SAFETY: the handler does nothing that a handler must not do.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
}

/// Zero: never.
#[allow(unsafe_code, reason = "rustix has no timers")]
fn arm(patience: Duration) {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(patience.subsec_micros()),
    };
    let once = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: value,
    };
    // SAFETY: the value outlives the call, and nobody asks for the old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut()) };
}

/// Only what may be called in the middle of anything: two atomic reads and two calls of the kernel.
#[allow(
    unsafe_code,
    reason = "std's output takes locks, and its exit runs code"
)]
extern "C" fn give_up(_signal: c_int) {
    let message = MESSAGE.get().map_or("", |message| message);
    // SAFETY: the text is static. `_exit` does not return.
    unsafe {
        libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
        libc::_exit(STATUS.load(Ordering::Relaxed));
    }
}
