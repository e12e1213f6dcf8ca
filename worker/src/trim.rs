//! Giving memory back to the system after a burst.
#![allow(unsafe_code, reason = "the allocator's own call for it")]

/// Less memory than this is scarce.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SCARCE_BYTES: u64 = 1 << 30;

/// Gives back what the allocator keeps for the next time. Takes some milliseconds per GB, and other threads may wait.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    // SAFETY: takes no pointer, and locks what it changes.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Where memory is scarce, what is freed is given back at once: a process that keeps it for each of its threads keeps it from others.
/// Elsewhere it is kept, because memory that comes from the kernel is cleared first.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_little_if_scarce() {
    if aktis_common::machine::memory_bytes() > SCARCE_BYTES {
        return;
    }
    let settings = [
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, 256 << 10),
        (libc::M_TRIM_THRESHOLD, 1 << 20),
    ];
    for (setting, value) in settings {
        // SAFETY: takes no pointer; a value that it does not like changes nothing.
        unsafe {
            libc::mallopt(setting, value);
        }
    }
}

/// Other allocators decide for themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}

/// Other allocators decide for themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_little_if_scarce() {}
