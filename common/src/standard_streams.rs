//! Descriptors 0, 1 and 2, which everybody takes for input, output and errors.

use std::os::fd::{AsRawFd, IntoRawFd};

use rustix::fs::{Mode, OFlags, open};

/// Opens those that are closed, on nothing; to be called before anything else is opened.
///
/// A supervisor may start a program without them. The system then gives their numbers to what is opened next, and what a library
/// prints, or a child is given as its input, is a socket of the session. Programs in Rust begin with this; Python's do not.
pub fn hold_standard_streams() {
    // The lowest number that is free. Children are to have them, too.
    while let Ok(opened) = open("/dev/null", OFlags::RDWR, Mode::empty()) {
        if opened.as_raw_fd() > 2 {
            return;
        }
        let _held = opened.into_raw_fd();
    }
}
