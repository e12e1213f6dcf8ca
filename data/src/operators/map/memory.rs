//! Failures that say that there was no memory: smaller batches may do.

use aktis_inference::says_out_of_memory;
use aktis_worker::TaskFailure;

use crate::operators::failing::is_of_rows;

/// Whether a call failed for want of memory.
pub(super) fn is_out_of_memory(failure: &TaskFailure) -> bool {
    is_of_rows(failure) && says_out_of_memory(&failure.message)
}

#[cfg(test)]
mod tests {
    use aktis_common::error::ErrorCode;

    use super::*;

    #[test]
    fn what_libraries_say_of_memory_is_understood() {
        let said = [
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB",
            "RuntimeError: CUDA error: out of memory",
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
             allocate 400 bytes",
            "RuntimeException: [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. \
             Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate \
             memory for requested buffer of size 4294967296",
            "ValueError: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.",
            "_ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type int64",
            "MemoryError: ",
        ];
        for text in said {
            let failure = TaskFailure::new(ErrorCode::Application, text);
            assert!(is_out_of_memory(&failure), "{text}");
        }
        let other = TaskFailure::new(ErrorCode::Application, "ValueError: no such word");
        assert!(!is_out_of_memory(&other));
        // The job's own, not the function's.
        let own = TaskFailure::new(ErrorCode::Internal, "out of memory");
        assert!(!is_out_of_memory(&own));
    }
}
