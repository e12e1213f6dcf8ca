//! GPUs: how many, which, and a handle to one.

#![allow(
    unsafe_code,
    reason = "asking whether libcuda is there is an unsafe call of cudarc's"
)]

use std::sync::Arc;

use cudarc::driver::{CudaContext, sys};

use super::{CudaError, step};

/// What a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaDeviceInfo {
    /// Its number among the GPUs visible to this process.
    pub ordinal: usize,
    /// Its product name.
    pub name: String,
    /// All of its memory.
    pub total_bytes: usize,
    /// Its memory that nobody uses now.
    pub free_bytes: usize,
    /// Major and minor compute capability: (9, 0) for Hopper.
    pub compute_capability: (i32, i32),
}

/// One GPU, with its primary context, which all libraries in a process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CudaDevice {
    context: Arc<CudaContext>,
}

/// Whether there is libcuda and at least one GPU visible to this process.
pub fn is_available() -> bool {
    device_count().is_ok_and(|count| count > 0)
}

/// Number of GPUs visible to this process.
pub fn device_count() -> Result<usize, CudaError> {
    require_library()?;
    let count = CudaContext::device_count().map_err(step("count the GPUs"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Every other call of cudarc's panics where the library is missing.
fn require_library() -> Result<(), CudaError> {
    // SAFETY: the call opens libcuda and closes it again. Its start-up code is NVIDIA's own, which is made to
    // be loaded into any process, from any thread.
    let is_present = unsafe { sys::is_culib_present() };
    if is_present {
        Ok(())
    } else {
        Err(CudaError::LibraryMissing)
    }
}

impl CudaDevice {
    /// Opens a GPU. The first handle of a process creates the primary context, which takes a few hundred MB of the GPU.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        let count = device_count()?;
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice { ordinal, count });
        }
        let context = CudaContext::new(ordinal).map_err(step("create a context on the GPU"))?;
        Ok(Self { context })
    }

    /// Its number among the GPUs visible to this process.
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }

    /// What it is, and how much of its memory is free now.
    pub fn info(&self) -> Result<CudaDeviceInfo, CudaError> {
        let (free_bytes, total_bytes) = self
            .context
            .mem_get_info()
            .map_err(step("ask for the GPU's memory"))?;
        Ok(CudaDeviceInfo {
            ordinal: self.ordinal(),
            name: self
                .context
                .name()
                .map_err(step("ask for the GPU's name"))?,
            total_bytes,
            free_bytes,
            compute_capability: self
                .context
                .compute_capability()
                .map_err(step("ask for the GPU's compute capability"))?,
        })
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}
