//! Giving memory back to the system after a burst.
#![allow(unsafe_code, reason = "the allocator's own call for it")]

/// Less memory than this is scarce.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SCARCE_BYTES: u64 = 1 << 30;

/// What is larger is never kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: libc::c_int = 4 << 20;

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
    set(&[
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, 256 << 10),
        (libc::M_TRIM_THRESHOLD, 1 << 20),
    ]);
}

/// From now on up to so many freed bytes stay with each thread that has allocated them, unless memory is scarce on this machine. By
/// itself the allocator gives back what is freed above 128 KiB until it has seen more, and whoever makes one batch after the other
/// waits for the kernel to clear the same memory again and again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_freed(bytes_per_thread: u64) {
    if aktis_common::machine::memory_bytes() <= SCARCE_BYTES {
        return;
    }
    let kept = libc::c_int::try_from(bytes_per_thread).unwrap_or(libc::c_int::MAX);
    set(&[
        (libc::M_MMAP_THRESHOLD, kept.min(LARGE_BYTES)),
        (libc::M_TRIM_THRESHOLD, kept),
    ]);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(settings: &[(libc::c_int, libc::c_int)]) {
    for &(setting, value) in settings {
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

/// Other allocators decide for themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_freed(_: u64) {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// How often this thread had to wait for memory from the kernel.
    fn faults() -> i64 {
        // SAFETY: numbers alone, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes no more than the struct that it is given.
        unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        }
        usage.ru_minflt
    }

    #[test]
    fn batches_get_the_memory_of_those_before_them() {
        if aktis_common::machine::memory_bytes() <= SCARCE_BYTES {
            return;
        }
        keep_freed(8 * MIB as u64);
        let batch = || -> Vec<Vec<u8>> { (0..5).map(|_| vec![1; MIB]).collect() };
        let begin = faults();
        drop(batch());
        let first = faults() - begin;
        let begin = faults();
        for _ in 0..20 {
            drop(std::hint::black_box(batch()));
        }
        let others = faults() - begin;
        assert!(
            others < 4 * first,
            "{first} for one batch, then {others} for 20"
        );
    }
}
