//! GPUs when the code of a process has ended, and the process has not.
//!
//! CUDA keeps a context, and the memory in it, until the process ends or resets the device. What was loaded into this process
//! is asked to reset; nothing is loaded for it.
#![allow(unsafe_code, reason = "libcuda has a C interface")]

use std::ffi::{CStr, c_int, c_uint, c_void};

use rustix::process::{Pid, Signal, kill_process};

/// More devices than a machine has.
const MAX_DEVICES: c_int = 64;

/// Whether this process holds no memory of any device, after giving back what it can.
pub(crate) fn are_released() -> bool {
    !has_open_device() || reset_contexts()
}

/// Whether a compute device is open. What only asks for a device's state does not open these.
fn has_open_device() -> bool {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        // Not known.
        return true;
    };
    let is_device = |path: &std::path::Path| {
        let path = path.to_string_lossy();
        path.starts_with("/dev/nvidia-uvm") || path.starts_with("/dev/kfd")
    };
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|path| is_device(&path))
}

/// Destroys the primary contexts that frameworks use. True: there are none any more. Contexts of a program's own making are
/// not seen by this; no framework makes them.
fn reset_contexts() -> bool {
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type State = unsafe extern "C" fn(c_int, *mut c_uint, *mut c_int) -> c_int;
    type Reset = unsafe extern "C" fn(c_int) -> c_int;
    let (Some(get), Some(state), Some(reset)) = (
        symbol(c"cuDeviceGet"),
        symbol(c"cuDevicePrimaryCtxGetState"),
        symbol(c"cuDevicePrimaryCtxReset_v2"),
    ) else {
        return false;
    };
    // SAFETY: the symbol is CUDA's function of this name, whose signature this is.
    let get = unsafe { std::mem::transmute::<*mut c_void, Get>(get) };
    // SAFETY: as above.
    let state = unsafe { std::mem::transmute::<*mut c_void, State>(state) };
    // SAFETY: as above.
    let reset = unsafe { std::mem::transmute::<*mut c_void, Reset>(reset) };
    for ordinal in 0..MAX_DEVICES {
        let (mut device, mut flags, mut is_active) = (0, 0, 0);
        // SAFETY: the pointer is to a local number.
        if unsafe { get(&raw mut device, ordinal) } != 0 {
            break;
        }
        // SAFETY: the code that used the context has ended.
        unsafe { reset(device) };
        // SAFETY: the pointers are to local numbers.
        let asked = unsafe { state(device, &raw mut flags, &raw mut is_active) };
        if asked != 0 || is_active != 0 {
            return false;
        }
    }
    true
}

/// A function of libcuda, if that is loaded.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a zero; the library is not loaded by this, and if it is loaded it stays.
    let library = unsafe {
        libc::dlopen(
            c"libcuda.so.1".as_ptr(),
            libc::RTLD_NOLOAD | libc::RTLD_LAZY,
        )
    };
    if library.is_null() {
        return None;
    }
    // SAFETY: the library is open, and the name ends with a zero.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

/// Ends the processes that the ended code started: they would be ended with this process, and may hold devices.
pub(crate) fn end_children() {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return;
    };
    for thread in threads.flatten() {
        let children = std::fs::read_to_string(thread.path().join("children"));
        let children = children.unwrap_or_default();
        let pids = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        for pid in pids.filter_map(Pid::from_raw) {
            // One that has just ended is no child to worry about.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_that_has_used_no_device_holds_none() {
        assert!(are_released());
    }

    #[test]
    fn children_are_ended() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("a child");
        end_children();
        let status = child.wait().expect("its end");
        assert!(!status.success());
    }
}
