//! What the child of a fork in user code lets go of.
//!
//! A fork copies one thread, all memory and all descriptors. The child must not use the locks that other threads of its
//! parent held, nor write into the parent's sockets, nor keep them open: their end is how others learn of the parent's
//! death. So the child calls [`abandon`] before anything else, which
//! - marks the process, so that handles do nothing and calls are refused ([`is_abandoned`]);
//! - puts `/dev/null` in the place of the parent's sockets. Their numbers stay taken, because their owners in the copied
//!   memory may still close them.
//!
//! Sockets are recognised by their names, which lie in a session's folder; descriptors without a name are registered.
//!
//! The parent, for its part, keeps memory that the child may read ([`DroppedUnseen`]).

mod kept;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::net::{SocketAddrAny, SocketAddrUnix, getpeername, getsockname};

pub use kept::{DroppedUnseen, after_fork_in_parent, before_fork, drop_unseen, set_alarm};

static IS_ABANDONED: AtomicBool = AtomicBool::new(false);
static DESCRIPTORS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Keeps a descriptor registered. To be dropped before the descriptor is closed.
#[derive(Debug)]
pub struct Registration(RawFd);

/// A forked child is to let go of this descriptor.
pub fn register(descriptor: impl AsFd) -> Registration {
    let number = descriptor.as_fd().as_raw_fd();
    DESCRIPTORS.lock().insert(number);
    Registration(number)
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !is_abandoned() {
            DESCRIPTORS.lock().remove(&self.0);
        }
    }
}

/// A forked child is to let go of the sockets whose names lie in this folder.
pub fn register_folder(folder: impl Into<PathBuf>) {
    FOLDERS.lock().insert(folder.into());
}

/// Whether this process was forked from one with a session.
pub fn is_abandoned() -> bool {
    IS_ABANDONED.load(Ordering::Relaxed)
}

/// Lets go of what the parent of this process uses. For a fresh child, with one thread.
///
/// # Errors
/// When `/dev/null` or the list of descriptors cannot be read. The process is marked all the same.
pub fn abandon() -> io::Result<()> {
    IS_ABANDONED.store(true, Ordering::Relaxed);
    // Another thread of the parent may have held a lock: then its session was just beginning or ending.
    let registered = DESCRIPTORS
        .try_lock()
        .map(|numbers| numbers.clone())
        .unwrap_or_default();
    let folders = FOLDERS
        .try_lock()
        .map(|folders| folders.clone())
        .unwrap_or_default();
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for number in open_descriptors()? {
        if registered.contains(&number) || is_socket_of(number, &folders) {
            replace(number, null.as_fd())?;
        }
    }
    Ok(())
}

fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let names = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

#[allow(unsafe_code, reason = "descriptors are known only by their numbers")]
fn is_socket_of(number: RawFd, folders: &BTreeSet<PathBuf>) -> bool {
    // SAFETY: the number was just listed as open, and this process has one thread: nobody closes it meanwhile. The
    // listing's own descriptor, closed since, is refused by the kernel.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let names = [
        getsockname(descriptor).ok(),
        getpeername(descriptor).ok().flatten(),
    ];
    names
        .into_iter()
        .flatten()
        .any(|name| lies_in(name, folders))
}

fn lies_in(name: SocketAddrAny, folders: &BTreeSet<PathBuf>) -> bool {
    let Ok(name) = SocketAddrUnix::try_from(name) else {
        return false;
    };
    let Some(path) = name.path() else {
        return false;
    };
    let path = path.to_string_lossy();
    folders
        .iter()
        .any(|folder| Path::new(path.as_ref()).starts_with(folder))
}

#[allow(
    unsafe_code,
    reason = "rustix wants to own the descriptor that is replaced"
)]
fn replace(number: RawFd, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: dup3 touches no memory. Whoever owns the number in this process's copy of its parent's memory closes
    // `/dev/null` in its place, once.
    let replaced = unsafe { libc::dup3(with.as_raw_fd(), number, libc::O_CLOEXEC) };
    if replaced < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
