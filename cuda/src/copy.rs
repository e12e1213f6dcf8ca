//! Copies between host and GPU that own their memory until they are done.
//!
//! cudarc's copies take any slice and believe it to be pageable, for which libcuda returns only when the slice has
//! been read. Over pinned memory it returns at once, and a source that is freed or reused then is read after free. Here
//! source and destination move into the copy (CUDA-1).

use std::mem;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaSlice, CudaStream};

use super::device::CudaDevice;
use super::{CudaError, step};

/// A queue of copies on one GPU; copies of one stream run in order, those of several side by side.
#[derive(Debug, Clone)]
pub struct CopyStream {
    stream: Arc<CudaStream>,
}

/// Bytes in a GPU's memory.
#[derive(Debug)]
pub struct DeviceBuffer {
    memory: CudaSlice<u8>,
}

/// A copy to the GPU under way. Dropping it waits for the copy.
#[must_use = "dropping an upload waits for it and throws the result away"]
pub struct Upload<S: AsRef<[u8]> + Send + 'static>(InFlight<S>);

/// A copy to the host under way. Dropping it waits for the copy.
#[must_use = "dropping a download waits for it and throws the result away"]
pub struct Download<D: AsMut<[u8]> + Send + 'static>(InFlight<D>);

/// Host memory and device memory that a copy uses, and the event that marks its end: before that, none of it is given back or
/// freed (`CUDA-1`).
struct InFlight<H> {
    /// Boxed, so that bytes inside the value itself stay where they are when the copy is moved. `None` once given back.
    parts: Option<(Box<H>, DeviceBuffer)>,
    is_done: CudaEvent,
}

impl CopyStream {
    /// A new stream on `device`.
    pub fn new(device: &CudaDevice) -> Result<Self, CudaError> {
        let stream = device
            .context()
            .new_stream()
            .map_err(step("create a stream for copies"))?;
        Ok(Self { stream })
    }

    /// Starts to copy `source` into new memory of the GPU. Asynchronous if the source lies in pinned memory.
    pub fn to_device<S: AsRef<[u8]> + Send + 'static>(
        &self,
        source: S,
    ) -> Result<Upload<S>, CudaError> {
        let source = Box::new(source);
        let bytes = (*source).as_ref();
        let mut memory = self
            .stream
            .alloc_zeros::<u8>(bytes.len())
            .map_err(step("allocate memory on the GPU"))?;
        let copied = if bytes.is_empty() {
            Ok(())
        } else {
            self.stream.memcpy_htod(bytes, &mut memory)
        };
        let is_done = self.end_of(copied.map_err(step("copy to the GPU")));
        self.under_way(source, DeviceBuffer { memory }, is_done)
            .map(Upload)
    }

    /// Starts to copy all of `source` to the front of `destination`, which must be at least as long.
    ///
    /// # Panics
    /// If `destination` is shorter than `source`.
    pub fn to_host<D: AsMut<[u8]> + Send + 'static>(
        &self,
        source: DeviceBuffer,
        destination: D,
    ) -> Result<Download<D>, CudaError> {
        let mut destination = Box::new(destination);
        let bytes = (*destination).as_mut();
        assert!(
            bytes.len() >= source.len(),
            "the destination has {} of {} bytes",
            bytes.len(),
            source.len()
        );
        let copied = if source.is_empty() {
            Ok(())
        } else {
            self.stream.memcpy_dtoh(&source.memory, bytes)
        };
        let is_done = self.end_of(copied.map_err(step("copy from the GPU")));
        self.under_way(destination, source, is_done).map(Download)
    }

    /// An event behind everything queued so far.
    fn end_of(&self, queued: Result<(), CudaError>) -> Result<CudaEvent, CudaError> {
        queued?;
        self.stream
            .record_event(None)
            .map_err(step("mark the end of a copy"))
    }

    fn under_way<H>(
        &self,
        host: Box<H>,
        device: DeviceBuffer,
        is_done: Result<CudaEvent, CudaError>,
    ) -> Result<InFlight<H>, CudaError> {
        match is_done {
            Ok(is_done) => Ok(InFlight {
                parts: Some((host, device)),
                is_done,
            }),
            Err(error) => {
                // The copy may have been queued all the same.
                if self.stream.synchronize().is_err() {
                    mem::forget(host);
                }
                Err(error)
            }
        }
    }
}

impl DeviceBuffer {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// The memory itself, for cudarc's kernels.
    pub fn memory(&self) -> &CudaSlice<u8> {
        &self.memory
    }
}

impl<S: AsRef<[u8]> + Send + 'static> Upload<S> {
    /// Whether the copy is done; asks and does not wait.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.0.is_done()
    }

    /// Waits for the copy; gives the GPU's memory, and the source back.
    pub fn wait(self) -> Result<(DeviceBuffer, S), CudaError> {
        let (source, memory) = self.0.wait()?;
        Ok((memory, *source))
    }
}

impl<D: AsMut<[u8]> + Send + 'static> Download<D> {
    /// Whether the copy is done; asks and does not wait.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.0.is_done()
    }

    /// Waits for the copy; gives the destination, and the GPU's memory back.
    pub fn wait(self) -> Result<(D, DeviceBuffer), CudaError> {
        let (destination, memory) = self.0.wait()?;
        Ok((*destination, memory))
    }
}

impl<H> InFlight<H> {
    fn is_done(&self) -> Result<bool, CudaError> {
        self.is_done
            .try_is_complete()
            .map_err(step("ask whether a copy is done"))
    }

    fn wait(mut self) -> Result<(Box<H>, DeviceBuffer), CudaError> {
        // On an error the parts stay, and dropping self leaks them.
        self.is_done
            .synchronize()
            .map_err(step("wait for a copy"))?;
        Ok(self
            .parts
            .take()
            .expect("only wait takes the parts, and it takes self"))
    }
}

impl<H> Drop for InFlight<H> {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take()
            && self.is_done.synchronize().is_err()
        {
            // The GPU may still be at it: better a leak than a copy into freed memory.
            mem::forget(parts);
        }
    }
}
