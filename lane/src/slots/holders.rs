//! Who holds a slot: `LANE-4 (slot-has-one-holder)`, apart from the memory.
//!
//! ```text
//!        sender: take                     sender: place, frame                receiver: release
//!  FREE ──────────────► TAKEN, being written ───────────► TAKEN, read by many ─────────────► FREE
//! ```
//! One word per slot, which both processes see. The sender alone takes, the receiver alone releases, so neither ever changes
//! a word that the other may change at that time. Knows nothing of memory, so that `tests/loom` runs the same code in every
//! order that two threads can take.

use std::collections::VecDeque;

use crate::sync::{AtomicU32, Ordering};

const FREE: u32 = 0;
const TAKEN: u32 = 1;

/// A slot that is there: only [`Slots`] and [`Slot::checked`] make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(usize);

impl Slot {
    /// A number that a peer sent, if it is that of one of so many slots.
    pub(crate) fn checked(number: u32, slots: usize) -> Option<Self> {
        let number = number as usize;
        (number < slots).then_some(Self(number))
    }

    /// Its place among all.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// Its number, as it is sent.
    pub(crate) fn number(self) -> u32 {
        u32::try_from(self.0).expect("slots are few")
    }
}

/// What the sender knows of its slots.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Never used, so that their pages need not exist, or found free while others were looked for.
    free: Vec<Slot>,
    /// Sent, in order; the receiver is likely to free them in that order.
    taken: VecDeque<Slot>,
}

impl Slots {
    /// So many, all free.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            free: (0..count).rev().map(Slot).collect(),
            taken: VecDeque::with_capacity(count),
        }
    }

    /// A slot that nobody holds, for the sender to write. `None`: all are held.
    pub(crate) fn take<'a>(&mut self, state: impl Fn(Slot) -> &'a AtomicU32) -> Option<Slot> {
        // The one that was sent first: its pages are there, and with few calls in flight it is in the caches. What the
        // receiver read of it was read before it was found free, and is not read again.
        let is_free = |slot: &Slot| state(*slot).load(Ordering::Acquire) == FREE;
        let slot = match self.taken.front() {
            Some(oldest) if is_free(oldest) => self.taken.pop_front(),
            _ => self.free.pop().or_else(|| {
                let position = self.taken.iter().position(is_free)?;
                self.taken.remove(position)
            }),
        }?;
        // The frame that tells the receiver comes by the socket, which puts this store before it.
        state(slot).store(TAKEN, Ordering::Relaxed);
        self.taken.push_back(slot);
        Some(slot)
    }
}

/// The receiver has dropped the last value in a slot.
pub(crate) fn release(state: &AtomicU32) {
    state.store(FREE, Ordering::Release);
}
