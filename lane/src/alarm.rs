//! What the lane thread sleeps on.

use std::os::fd::OwnedFd;
use std::time::Duration;

use aktis_common::fork;
use rustix::event::Timespec;
use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// A timer that one thread sleeps on and others set. Setting it costs a system call, and wakes nobody before it is due.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// For forked children, which inherit it; dropped before it.
    _registered: fork::Registration,
    timer: OwnedFd,
}

impl Alarm {
    pub(crate) fn new() -> Result<Self, Errno> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        Ok(Self {
            _registered: fork::register(&timer),
            timer,
        })
    }

    /// Rings after `delay`, or not at all; what was set before is forgotten.
    pub(crate) fn set(&self, delay: Option<Duration>) {
        const AT_ONCE: Duration = Duration::from_nanos(1);
        const OFF: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let it_value = delay.map_or(OFF, |delay| {
            // A delay beyond the clock's range is as good as the longest one.
            Timespec::try_from(delay.max(AT_ONCE)).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            })
        });
        let times = Itimerspec {
            it_interval: OFF,
            it_value,
        };
        // Fails only for times that are out of range.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &times);
    }

    /// Sleeps until it has rung. May return for no reason.
    pub(crate) fn wait(&self) {
        let _ = read(&self.timer, &mut [0u8; 8]);
    }
}
