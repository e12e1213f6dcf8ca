//! Loom models of `LANE-4 (slot-has-one-holder)`.
//!
//! `slots/holders.rs` of `aktis-lane` is compiled here a second time, over loom's primitives. What lies in the slots is in
//! loom's cells, which fail a model as soon as one thread may write what another may read at the same time. The socket is a
//! word per frame: it puts what the sender did before a frame before what the receiver does after it, and nothing the other
//! way round, so that only the slots' own words say when one is free again.

use std::sync::Arc;

use holders::{Slot, Slots, release};
use loom::cell::UnsafeCell;
use sync::{AtomicU32, Ordering};

#[path = "../../../lane/src/slots/holders.rs"]
mod holders;

/// Stands for `lane/src/sync.rs`.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
}

const NOT_SENT: u32 = 0;
/// No slot was free: the payload went through the socket.
const WITHOUT_SLOT: u32 = 1;
/// A slot's number is added.
const IN_SLOT: u32 = 2;

/// What both processes see.
struct Shared {
    states: Vec<AtomicU32>,
    data: Vec<UnsafeCell<u32>>,
    frames: Vec<AtomicU32>,
}

impl Shared {
    fn new(slots: usize, frames: usize) -> Arc<Self> {
        Arc::new(Self {
            states: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            data: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
            frames: (0..frames).map(|_| AtomicU32::new(NOT_SENT)).collect(),
        })
    }

    fn send_all(&self) {
        let mut slots = Slots::new(self.states.len());
        for (payload, frame) in (1..).zip(&self.frames) {
            let slot = slots.take(|slot| &self.states[slot.index()]);
            let said = slot.map_or(WITHOUT_SLOT, |slot| {
                self.data[slot.index()].with_mut(|data| {
                    // SAFETY: loom fails the model if any other thread may look at it now.
                    unsafe { *data = payload }
                });
                IN_SLOT + slot.number()
            });
            frame.store(said, Ordering::Release);
        }
    }

    fn receive(&self, frame: usize) -> Option<Slot> {
        loop {
            match self.frames[frame].load(Ordering::Acquire) {
                NOT_SENT => loom::thread::yield_now(),
                WITHOUT_SLOT => return None,
                said => return Slot::checked(said - IN_SLOT, self.states.len()),
            }
        }
    }

    fn read(&self, slot: Slot) -> u32 {
        self.data[slot.index()].with(|data| {
            // SAFETY: loom fails the model if any other thread may write it now.
            unsafe { *data }
        })
    }
}

/// Every payload is read as it was placed, whether the receiver drops each before it reads the next or holds one for longer.
fn exchange(slots: usize, frames: usize, held: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let shared = Shared::new(slots, frames);
        let sending = Arc::clone(&shared);
        let sender = loom::thread::spawn(move || sending.send_all());
        let mut kept: Vec<(u32, Slot)> = Vec::new();
        for (payload, frame) in (1..).zip(0..frames) {
            let Some(slot) = shared.receive(frame) else {
                continue;
            };
            assert!(kept.iter().all(|(_, other)| *other != slot));
            kept.push((payload, slot));
            if kept.len() > held {
                let (payload, slot) = kept.remove(0);
                assert_eq!(shared.read(slot), payload);
                release(&shared.states[slot.index()]);
            }
        }
        sender.join().expect("the sender ends");
        for (payload, slot) in kept {
            assert_eq!(shared.read(slot), payload);
        }
    });
}

#[test]
fn slot_is_written_again_only_after_it_was_read() {
    exchange(1, 3, 0);
}

#[test]
fn slots_are_used_in_turn_while_some_are_held() {
    exchange(2, 4, 0);
    exchange(2, 3, 1);
}

#[test]
fn without_a_free_slot_nothing_is_overwritten() {
    exchange(1, 2, 1);
}
