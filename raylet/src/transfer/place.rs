//! Where a copy is written, and how far it has come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aktis_common::error::ErrorCode;
use aktis_object_store::{ArenaError, CreatingRange};
use aktis_proto::v1::Failure;
use parking_lot::Mutex;

use crate::core::event::PullFailure;

/// What one stream fetches at a time.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;

/// The place of a copy, in segments. Shared by the streams that fill it, and by the attempts to fetch it from different nodes.
#[derive(Debug, Clone)]
pub(crate) struct PullPlace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    total_bytes: u64,
    missing_bytes: AtomicU64,
    /// `None` once the place is no longer ours. Each has a lock of its own, held only while a chunk is written.
    segments: Vec<Mutex<Option<Segment>>>,
    /// Segments that are not whole and that nobody fetches.
    open: Mutex<VecDeque<usize>>,
}

#[derive(Debug)]
struct Segment {
    range: CreatingRange,
    /// Bytes that are there, from its beginning.
    arrived: u64,
}

impl PullPlace {
    /// An empty place.
    ///
    /// # Errors
    /// Never, as segments are cut within the range.
    pub(crate) fn new(mut range: CreatingRange) -> Result<Self, ArenaError> {
        let total_bytes = range.len_bytes();
        let mut segments = Vec::new();
        while range.len_bytes() > 0 {
            let rest = range.split_off(SEGMENT_BYTES.min(range.len_bytes()))?;
            segments.push(Mutex::new(Some(Segment { range, arrived: 0 })));
            range = rest;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                total_bytes,
                missing_bytes: AtomicU64::new(total_bytes),
                open: Mutex::new((0..segments.len()).collect()),
                segments,
            }),
        })
    }

    /// From now on nothing is written (`MOVE-2`): the copy is sealed, or the place goes to others. Waits for a chunk that is just
    /// being written.
    pub(crate) fn close(&self) {
        self.shared.open.lock().clear();
        for segment in &self.shared.segments {
            drop(segment.lock().take());
        }
    }

    /// Whether all of the copy is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing_bytes() == 0
    }

    /// How much of it is there.
    pub(crate) fn arrived_bytes(&self) -> u64 {
        self.total_bytes() - self.missing_bytes()
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.shared.total_bytes
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        self.shared.missing_bytes.load(Ordering::Acquire)
    }

    /// The next segment that nobody fetches.
    pub(super) fn claim(&self) -> Option<ChunkClaim> {
        loop {
            let index = self.shared.open.lock().pop_front()?;
            let segment = self.shared.segments[index].lock();
            // Closed meanwhile.
            let Some(segment) = segment.as_ref() else {
                continue;
            };
            let begin = index as u64 * SEGMENT_BYTES;
            return Some(ChunkClaim {
                place: self.clone(),
                index,
                offset: begin + segment.arrived,
                missing_bytes: segment.range.len_bytes() - segment.arrived,
            });
        }
    }
}

/// A segment that one stream fetches. What is still missing when it is dropped is for others to fetch.
#[derive(Debug)]
pub(super) struct ChunkClaim {
    place: PullPlace,
    index: usize,
    /// Where in the object the next byte goes.
    pub(super) offset: u64,
    pub(super) missing_bytes: u64,
}

impl ChunkClaim {
    /// Writes a chunk behind what is there (`MOVE-1`, `MOVE-3`). Its checksum was found right.
    pub(super) fn append(&mut self, chunk: &[u8]) -> Result<(), PullFailure> {
        let shared = &self.place.shared;
        let len = chunk.len() as u64;
        let mut segment = shared.segments[self.index].lock();
        let given_up = || PullFailure::Source("the transfer was given up".to_owned());
        let segment = segment.as_mut().ok_or_else(given_up)?;
        let written = segment.range.write_at(segment.arrived, &[chunk]);
        written.map_err(|error| {
            PullFailure::Here(Failure::of(ErrorCode::Internal, error.to_string()))
        })?;
        segment.arrived += len;
        self.offset += len;
        self.missing_bytes -= len;
        shared.missing_bytes.fetch_sub(len, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for ChunkClaim {
    fn drop(&mut self) {
        if self.missing_bytes > 0 {
            self.place.shared.open.lock().push_front(self.index);
        }
    }
}
