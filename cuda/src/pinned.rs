//! Pinning of host memory that is mapped already, such as the object store's arena.
//!
//! Pinned pages cannot move, so a GPU copies from them by itself at the full speed of the bus (55 GB/s against 10-17 on
//! an H200). Pinning takes time per page, so it is done chunk by chunk on a thread of its own, from the front: memory is
//! usable all the while, and copies get faster as the pinning goes on.

#![allow(
    unsafe_code,
    reason = "cuMemHostRegister is a raw call of libcuda on a range of addresses"
)]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use cudarc::driver::{CudaContext, DriverError, sys};
use parking_lot::Mutex;

use super::device::CudaDevice;
use super::{CudaError, step};

/// Chunk size that hides the time per call and still lets a waiting process end soon.
pub const DEFAULT_CHUNK_BYTES: usize = 512 << 20;
/// Chunks start and end at whole pages; no supported system has larger ordinary ones.
const PAGE_BYTES: usize = 64 << 10;

/// How the pages are mapped into this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAccess {
    /// Readable and writable.
    ReadWrite,
    /// Readable only. libcuda refuses such pages unless it is told.
    ReadOnly,
}

/// How far the pinning of a range has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinProgress {
    /// Bytes pinned, from the front.
    pub pinned_bytes: usize,
    /// Bytes in the range.
    pub total_bytes: usize,
}

/// A range of host memory that is pinned, or is being pinned. Dropping it unpins.
pub struct PinnedRange {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    context: Arc<CudaContext>,
    start: Address,
    total_bytes: usize,
    chunk_bytes: usize,
    flags: u32,
    pinned_bytes: AtomicUsize,
    is_cancelled: AtomicBool,
    failure: Mutex<Option<CudaError>>,
}

/// An address that is only ever handed to libcuda.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: the address is never read or written through; pinning and unpinning by any thread is allowed by libcuda.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

impl PinnedRange {
    /// Starts to pin `length_bytes` bytes from `start` for all GPUs of this process, in chunks, on a thread named
    /// `aktis-pin`. Start and chunk size must be multiples of 64 KiB; the last chunk may be shorter.
    ///
    /// # Safety
    /// The range must be mapped as `access` says, and stay mapped until the `PinnedRange` is dropped. No other part of
    /// the process may pin any of it.
    pub unsafe fn start(
        device: &CudaDevice,
        start: NonNull<u8>,
        length_bytes: usize,
        chunk_bytes: usize,
        access: HostAccess,
    ) -> Result<Self, CudaError> {
        let is_aligned = start.as_ptr().addr().is_multiple_of(PAGE_BYTES);
        if !is_aligned || chunk_bytes == 0 || !chunk_bytes.is_multiple_of(PAGE_BYTES) {
            return Err(CudaError::Unaligned {
                page_bytes: PAGE_BYTES,
            });
        }
        let shared = Arc::new(Shared {
            context: Arc::clone(device.context()),
            start: Address(start),
            total_bytes: length_bytes,
            chunk_bytes,
            flags: match access {
                HostAccess::ReadWrite => sys::CU_MEMHOSTREGISTER_PORTABLE,
                HostAccess::ReadOnly => {
                    sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_READ_ONLY
                }
            },
            pinned_bytes: AtomicUsize::new(0),
            is_cancelled: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("aktis-pin".to_owned())
            .spawn(move || worker.pin_all())
            .map_err(|source| CudaError::Thread { source })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> PinProgress {
        PinProgress {
            pinned_bytes: self.shared.pinned_bytes.load(Ordering::Acquire),
            total_bytes: self.shared.total_bytes,
        }
    }

    /// Waits until all of the range is pinned, or a chunk failed; what was pinned before stays so.
    pub fn wait(&mut self) -> Result<(), CudaError> {
        self.join();
        self.shared.failure.lock().take().map_or(Ok(()), Err)
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread only calls libcuda; a panic in it leaves the rest unpinned, which is always allowed.
            let _ = thread.join();
        }
    }
}

impl Drop for PinnedRange {
    fn drop(&mut self) {
        self.shared.is_cancelled.store(true, Ordering::Release);
        self.join();
        self.shared.unpin_all();
    }
}

impl Shared {
    fn pin_all(&self) {
        if let Err(source) = self.context.bind_to_thread() {
            *self.failure.lock() = Some(step("use the GPU's context on another thread")(source));
            return;
        }
        let mut offset = 0;
        while offset < self.total_bytes && !self.is_cancelled.load(Ordering::Acquire) {
            let length = self.chunk_bytes.min(self.total_bytes - offset);
            if let Err(source) = self.pin_chunk(offset, length) {
                let failure = CudaError::Pin {
                    offset_bytes: offset,
                    length_bytes: length,
                    source,
                };
                *self.failure.lock() = Some(failure);
                return;
            }
            offset += length;
            self.pinned_bytes.store(offset, Ordering::Release);
        }
    }

    fn chunk(&self, offset: usize) -> *mut c_void {
        self.start.0.as_ptr().wrapping_add(offset).cast()
    }

    fn pin_chunk(&self, offset: usize, length: usize) -> Result<(), DriverError> {
        // SAFETY: the caller of `start` promised that the range is mapped with this access and pinned by nobody else;
        // the chunk lies within it, and this thread has bound the context.
        unsafe { sys::cuMemHostRegister_v2(self.chunk(offset), length, self.flags) }.result()
    }

    fn unpin_all(&self) {
        if let Err(error) = self.context.bind_to_thread() {
            tracing::warn!(%error, "host memory stays pinned: the GPU's context cannot be used");
            return;
        }
        let pinned = self.pinned_bytes.load(Ordering::Acquire);
        for offset in (0..pinned).step_by(self.chunk_bytes) {
            // SAFETY: the chunk was pinned by `pin_chunk` with this very start, and is unpinned once, here.
            let unpinned = unsafe { sys::cuMemHostUnregister(self.chunk(offset)) }.result();
            if let Err(error) = unpinned {
                tracing::warn!(%error, offset, "a chunk of host memory stays pinned");
            }
        }
    }
}
