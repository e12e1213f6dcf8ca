//! Giving memory back to the system after a burst.
#![allow(unsafe_code, reason = "the allocator's own call for it")]

/// Gives back what the allocator keeps for the next time. Takes some milliseconds per GB, and other threads may wait.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    // SAFETY: takes no pointer, and locks what it changes.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators decide for themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}
