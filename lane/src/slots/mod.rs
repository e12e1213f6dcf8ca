//! Memory that the two ends of a lane share, so that long payloads need not pass through the kernel.
//!
//! A payload that goes through a socket is copied twice by the kernel, by way of pages that it takes and gives back each time:
//! some 25 µs for 80 kB. Here the sender copies it once, into a slot that the receiver has mapped, and the frame says which
//! one. The values that the receiver cuts out of it lie in the slot until they are dropped, which frees it. When no slot is
//! free, the payload goes through the socket like any other.
//!
//! ```text
//!  Possible ── first long payload: made, descriptor goes along ──► Offered ── peer says that it is mapped ──► On
//!     └───────────────── cannot be made ─► Refused                   └─ payloads go through the socket
//! ```
//! The peer may have no descriptor free, or no address space: then it says nothing, and the lane goes on as it began. Longer
//! payloads, which go to the object store, and lanes to other nodes do without.
#![allow(
    unsafe_code,
    reason = "raw memory that another process sees; every access is bounds-checked here"
)]

mod holders;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use aktis_common::fork::DroppedUnseen;
use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::io::Errno;

use self::holders::{Slot, Slots, release};
use crate::payload::PayloadParts;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// Shorter payloads are copied by the kernel faster than another process's cache lines are fetched.
const SHORTEST_BYTES: usize = 16 << 10;
const SLOT_BYTES: usize = 128 << 10;
const SLOTS: usize = 32;
/// Before the slots: whether they are taken, one cache line each.
const STATE_BYTES: usize = 64;
const HEAD_BYTES: usize = 4096;
const MAP_BYTES: usize = HEAD_BYTES + SLOTS * SLOT_BYTES;
/// Lanes of one process that send this way; others use their sockets alone. Bounds what is mapped, 4 MiB each.
const MOST_LANES: usize = 32;

static LANES: AtomicUsize = AtomicUsize::new(0);

/// Where a payload lies, as a frame says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    /// The number of the slot.
    pub slot: u32,
    /// How long the payload is.
    pub len_bytes: u32,
}

impl SlotRange {
    /// The slot and the length, if they are within the memory.
    fn checked(self) -> Option<(Slot, usize)> {
        let slot = Slot::checked(self.slot, SLOTS)?;
        let len = self.len_bytes as usize;
        (len <= SLOT_BYTES).then_some((slot, len))
    }
}

#[derive(Debug)]
struct Map(MmapRaw);

impl Map {
    fn new(memory: &OwnedFd) -> Result<Self, Errno> {
        let map = MmapOptions::new().len(MAP_BYTES).map_raw(memory);
        map.map(Self)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
    }

    fn state(&self, slot: Slot) -> &AtomicU32 {
        // SAFETY: a slot's number is below `SLOTS`, so that its state is within the mapping.
        let state = unsafe { self.0.as_mut_ptr().add(slot.index() * STATE_BYTES) };
        // SAFETY: the mapping lives as long as `self`; aligned, since the mapping begins on a page; both processes access it
        // atomically only.
        unsafe { AtomicU32::from_ptr(state.cast()) }
    }

    fn data(&self, slot: Slot) -> *mut u8 {
        // SAFETY: a slot's number is below `SLOTS`, so that it is within the mapping.
        unsafe {
            self.0
                .as_mut_ptr()
                .add(HEAD_BYTES + slot.index() * SLOT_BYTES)
        }
    }
}

/// The sender's end.
#[derive(Debug)]
pub(super) struct SentSlots {
    map: Map,
    slots: Slots,
}

impl SentSlots {
    /// Makes the memory. `None`: the process shares enough already, or the system cannot.
    pub(super) fn new() -> Option<(Self, OwnedFd)> {
        let more = |lanes| (lanes < MOST_LANES).then_some(lanes + 1);
        LANES
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let made = Self::make();
        if made.is_err() {
            LANES.fetch_sub(1, Ordering::Relaxed);
        }
        made.ok()
    }

    fn make() -> Result<(Self, OwnedFd), Errno> {
        let memory = memfd_create(
            "aktis-lane",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&memory, MAP_BYTES as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)?;
        let slots = Self {
            map: Map::new(&memory)?,
            slots: Slots::new(SLOTS),
        };
        Ok((slots, memory))
    }

    /// Whether payloads of this length are worth a slot, and fit.
    #[inline]
    pub(super) fn suits(len_bytes: usize) -> bool {
        (SHORTEST_BYTES..=SLOT_BYTES).contains(&len_bytes)
    }

    /// Copies a payload into a slot. `None`: none is free.
    pub(super) fn place(&mut self, payload: &PayloadParts) -> Option<SlotRange> {
        let range = SlotRange {
            slot: 0,
            len_bytes: u32::try_from(payload.len_bytes()).ok()?,
        };
        range.checked()?;
        let slot = self.slots.take(|slot| self.map.state(slot))?;
        let mut to = self.map.data(slot);
        for part in payload.parts() {
            let part = part.as_slice();
            // SAFETY: the parts' lengths add up to `len_bytes`, which fits the slot (checked above). The receiver does not
            // read the slot while it is free, LANE-4 (slot-has-one-holder), and nobody else writes it: `self` is borrowed
            // mutably.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len()) };
            // SAFETY: at most the end of the slot, as above.
            to = unsafe { to.add(part.len()) };
        }
        Some(SlotRange {
            slot: slot.number(),
            ..range
        })
    }
}

impl Drop for SentSlots {
    fn drop(&mut self) {
        LANES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The receiver's end.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedSlots(Arc<Map>);

impl ReceivedSlots {
    /// Maps what the sender made.
    pub(super) fn new(memory: &OwnedFd) -> Result<Self, Errno> {
        // A sender that could make it shorter could crash this process.
        let is_sealed = fcntl_get_seals(memory)?.contains(SealFlags::SHRINK);
        let has_length = u64::try_from(fstat(memory)?.st_size) == Ok(MAP_BYTES as u64);
        if !is_sealed || !has_length {
            return Err(Errno::INVAL);
        }
        Ok(Self(Arc::new(Map::new(memory)?)))
    }

    /// A payload that was placed there. Its last clone frees the slot. `None`: there is no such place.
    pub(super) fn payload(&self, range: SlotRange) -> Option<Bytes> {
        let (slot, len) = range.checked()?;
        let slot = HeldSlot {
            map: Arc::clone(&self.0),
            slot,
        };
        Some(Bytes::from_owner(SlotBytes {
            slot: DroppedUnseen::new(slot),
            len,
        }))
    }
}

/// A payload that this process reads.
struct SlotBytes {
    slot: DroppedUnseen<HeldSlot>,
    len: usize,
}

/// A slot that is taken as long as this lives.
struct HeldSlot {
    map: Arc<Map>,
    slot: Slot,
}

impl AsRef<[u8]> for SlotBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` fits the slot (checked in `payload`). The sender wrote the bytes before it sent the frame, and does
        // not write them again before the slot is free, LANE-4 (slot-has-one-holder). What a sender can do that breaks its
        // word is what any process of the node can do to the arena, and is said in `aktis_object_store::ranges`.
        unsafe { std::slice::from_raw_parts(self.slot.map.data(self.slot.slot), self.len) }
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        release(self.map.state(self.slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (SentSlots, ReceivedSlots) {
        let (sent, memory) = SentSlots::new().expect("shared memory");
        let received = ReceivedSlots::new(&memory).expect("mapped");
        (sent, received)
    }

    fn payload(byte: u8, len: usize) -> PayloadParts {
        PayloadParts::from(vec![byte; len])
    }

    #[test]
    fn payload_is_read_as_it_was_placed_and_stays_until_it_is_dropped() {
        let (mut sent, received) = ends();
        let mut held = Vec::new();
        for byte in 0..SLOTS {
            let range = sent
                .place(&payload(byte as u8, 20_000 + byte))
                .expect("a free slot");
            held.push(received.payload(range).expect("a good place"));
        }
        assert_eq!(sent.place(&payload(0, 20_000)), None, "all are held");
        for (byte, bytes) in held.iter().enumerate() {
            assert!(bytes.len() >= 20_000 + byte);
            assert!(bytes[..20_000].iter().all(|read| *read == byte as u8));
        }
        let part = held.remove(7).slice(100..200);
        assert_eq!(sent.place(&payload(0, 20_000)), None, "a part is held");
        drop(part);
        assert_eq!(
            sent.place(&payload(0, 20_000)).map(|range| range.slot),
            Some(7)
        );
    }

    #[test]
    fn one_payload_at_a_time_uses_one_slot() {
        let (mut sent, received) = ends();
        for _ in 0..100 {
            let range = sent.place(&payload(1, 80_000)).expect("a free slot");
            assert_eq!(range.slot, 0);
            drop(received.payload(range));
        }
    }

    #[test]
    fn places_outside_are_refused() {
        let (_sent, received) = ends();
        let range = |slot, len_bytes| SlotRange { slot, len_bytes };
        assert!(received.payload(range(SLOTS as u32, 1)).is_none());
        assert!(received.payload(range(0, SLOT_BYTES as u32 + 1)).is_none());
    }

    #[test]
    fn memory_that_its_sender_could_shorten_is_refused() {
        let memory = memfd_create("test", MemfdFlags::CLOEXEC).expect("memfd");
        ftruncate(&memory, MAP_BYTES as u64).expect("sized");
        assert!(ReceivedSlots::new(&memory).is_err());
    }
}
