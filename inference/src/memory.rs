//! What libraries say when there was no memory: smaller batches may do.

/// In small letters.
const SAID: [&str; 12] = [
    // torch (CUDA, ROCm, Apple), cudarc and with it candle, TensorFlow, cupy
    "out of memory",
    "outofmemoryerror",
    "cuda_error_out_of_memory",
    "defaultcpuallocator: can't allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    // ONNX Runtime
    "failed to allocate memory",
    "bfcarena::allocaterawinternal",
    // JAX and TensorFlow
    "resource_exhausted",
    "resourceexhaustederror",
    // numpy, and Python itself
    "unable to allocate",
    "memoryerror",
];

/// Whether a library that says this had no memory. The class of an exception may come first.
///
/// ```
/// use aktis_inference::says_out_of_memory;
///
/// assert!(says_out_of_memory("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"));
/// assert!(!says_out_of_memory("DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid argument\")"));
/// ```
pub fn says_out_of_memory(text: &str) -> bool {
    let said = text.to_lowercase();
    SAID.iter().any(|known| said.contains(known))
}
