//! The CUDA calls of the project: what a GPU is, pinning host memory, and copies that cannot outlive their memory.
//!
//! Owns: every call into libcuda, which is found at run time; nothing of CUDA is needed to build. Does
//! not own: discovery for scheduling (that is NVML's, in the raylet), kernels, the contexts of the model backends, and the
//! memory that is pinned or copied. It is for whoever has such memory: the object store's clients, models.
//!
//! ```text
//!  object store's arena ── PinnedRange ──► pages stay put, known to the GPU's copy engines
//!         │
//!     object (Bytes) ── CopyStream::to_device ──► Upload { source, event } ── wait ──► DeviceBuffer
//!     DeviceBuffer ──── CopyStream::to_host ────► Download { destination, event } ── wait ──► destination
//! ```
//!
//! CUDA-1 (source-outlives-copy): over pinned memory a copy is truly asynchronous, so whatever is copied from or to is
//! owned by the value that stands for the copy until an event says that it is done; if libcuda cannot say so, the
//! memory is leaked rather than freed.
//!
//! Nothing here may be called before a process forks: libcuda does not survive a fork.

mod copy;
mod device;
mod pinned;

pub use self::copy::{CopyStream, DeviceBuffer, Download, Upload};
pub use self::device::{CudaDevice, CudaDeviceInfo, device_count, is_available};
pub use self::pinned::{DEFAULT_CHUNK_BYTES, HostAccess, PinProgress, PinnedRange};

use cudarc::driver::DriverError;

/// A CUDA call failed, or there is no CUDA.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// libcuda, which comes with NVIDIA's kernel module, is not installed.
    #[error("use CUDA: the NVIDIA driver's library (libcuda) is not installed")]
    LibraryMissing,
    /// There is no such GPU.
    #[error("use GPU number {ordinal}: {count} are visible to this process")]
    NoSuchDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A call of libcuda failed.
    #[error("{step}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What libcuda says.
        source: DriverError,
    },
    /// A part of a range of memory could not be pinned.
    #[error(
        "pin {length_bytes} bytes of host memory at offset {offset_bytes}; \
         the limit of locked memory (ulimit -l) or the memory itself may be too small"
    )]
    Pin {
        /// Start of the part in its range.
        offset_bytes: usize,
        /// Length of the part.
        length_bytes: usize,
        /// What libcuda says.
        source: DriverError,
    },
    /// A range of memory is not made of whole pages.
    #[error(
        "pin host memory: its start and the chunk size must be multiples of {page_bytes} bytes"
    )]
    Unaligned {
        /// The page size.
        page_bytes: usize,
    },
    /// The operating system gave no thread.
    #[error("start the thread that pins host memory")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

/// Adds what was tried to an error of libcuda.
fn step(step: &'static str) -> impl FnOnce(DriverError) -> CudaError {
    move |source| CudaError::Refused { step, source }
}
