//! Without a GPU, what it says then; with one, copies and pinning.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::ptr::NonNull;

use aktis_cuda::{CopyStream, CudaDevice, CudaError, HostAccess, PinnedRange};

/// The first GPU, or `None` with a loud message.
fn gpu() -> Option<CudaDevice> {
    if !aktis_cuda::is_available() {
        eprintln!("SKIPPED: no GPU");
        return None;
    }
    Some(CudaDevice::open(0).unwrap())
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| (index * 31 + index / 251) as u8)
        .collect()
}

#[test]
fn asking_for_a_gpu_that_is_not_there_is_an_error_and_no_panic() {
    match CudaDevice::open(1000).unwrap_err() {
        CudaError::LibraryMissing => assert!(!aktis_cuda::is_available()),
        CudaError::NoSuchDevice { ordinal, count } => assert!(ordinal == 1000 && count < 1000),
        CudaError::Refused { .. } => assert!(!aktis_cuda::is_available()),
        other => panic!("unexpected: {other}"),
    }
}

#[test]
fn gpu_says_what_it_is() {
    let Some(gpu) = gpu() else { return };
    let info = gpu.info().unwrap();
    assert!(!info.name.is_empty());
    assert!(info.free_bytes <= info.total_bytes && info.total_bytes > 0);
    assert!(info.compute_capability.0 >= 3);
}

/// CUDA-1 (source-outlives-copy)
#[test]
fn bytes_survive_the_way_to_the_gpu_and_back() {
    let Some(gpu) = gpu() else { return };
    let stream = CopyStream::new(&gpu).unwrap();
    for bytes in [0, 1, 4096, 10_000_019] {
        let (on_gpu, source) = stream.to_device(noise(bytes)).unwrap().wait().unwrap();
        assert_eq!(on_gpu.len(), bytes);
        let (back, _) = stream
            .to_host(on_gpu, vec![0u8; bytes])
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(back, source);
    }
}

/// CUDA-1 (source-outlives-copy)
#[test]
fn bytes_inside_a_moved_value_are_copied_from_where_they_are() {
    let Some(gpu) = gpu() else { return };
    let stream = CopyStream::new(&gpu).unwrap();
    let uploads: Vec<_> = (0..50u8)
        .map(|value| stream.to_device([value; 64]).unwrap())
        .collect();
    for (value, upload) in uploads.into_iter().enumerate() {
        let (on_gpu, _) = upload.wait().unwrap();
        let (back, _) = stream.to_host(on_gpu, [0u8; 64]).unwrap().wait().unwrap();
        assert_eq!(back, [value as u8; 64]);
    }
}

/// CUDA-1 (source-outlives-copy)
#[test]
fn dropped_upload_is_waited_for() {
    let Some(gpu) = gpu() else { return };
    let stream = CopyStream::new(&gpu).unwrap();
    for _ in 0..20 {
        drop(stream.to_device(noise(1 << 20)).unwrap());
    }
}

#[test]
fn pinned_memory_is_pinned_in_chunks_and_let_go() {
    const PAGE: usize = 64 << 10;
    let Some(gpu) = gpu() else { return };
    let mut memory = vec![7u8; 40 * PAGE];
    let offset = memory.as_ptr().align_offset(PAGE);
    let start = NonNull::new(memory[offset..].as_mut_ptr()).unwrap();
    for _ in 0..2 {
        #[allow(unsafe_code, reason = "pinning is unsafe: the memory must outlive it")]
        // SAFETY: `memory` outlives the range and is pinned by nobody else; 35 pages lie within its 40.
        let range = unsafe {
            PinnedRange::start(&gpu, start, 35 * PAGE - 5, 16 * PAGE, HostAccess::ReadWrite)
        };
        let mut range = range.unwrap();
        range.wait().unwrap();
        let progress = range.progress();
        assert_eq!(
            (progress.pinned_bytes, progress.total_bytes),
            (35 * PAGE - 5, 35 * PAGE - 5)
        );
    }
    assert!(memory.iter().all(|&byte| byte == 7));
}
