//! Memory that is made ready before it is needed, and given back when it is not.
//!
//! Writing to a page for the first time costs several times what writing again costs: the kernel
//! has to find and clear it. Once big objects are being made, pages beyond the high-water mark
//! are therefore made in the background; a session without big objects never pays for that. Free
//! memory that has not been used for long goes back to the system.
//!
//! Both reserve the range in the allocator while it is worked on, so that no object can come to
//! lie in it.

use super::ObjectTable;
use crate::core::allocator::Extent;
use crate::core::effect::StoreEffect;

/// Objects from this size on count as big.
const BIG_OBJECT_BYTES: u64 = 1 << 20;
/// Pages are made in steps of this size, each of which can be used as soon as it is ready.
const POPULATE_STEP_BYTES: u64 = 32 << 20;
/// Shorter idle ranges are not worth a system call.
const MIN_DISCARD_BYTES: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Warmth {
    populating: Option<Extent>,
    discarding: Option<Extent>,
    /// How much more is to be made ready.
    goal_bytes: u64,
}

impl Warmth {
    /// Memory that is being worked on.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.reserved().map(|extent| extent.len).sum()
    }

    pub(super) fn reserved(&self) -> impl Iterator<Item = Extent> {
        self.populating.into_iter().chain(self.discarding)
    }
}

impl ObjectTable {
    /// Answer to [`StoreEffect::PopulatePages`], whether it worked or not.
    pub fn pages_populated(&mut self, extent: Extent) {
        assert_eq!(
            self.warmth.populating.take(),
            Some(extent),
            "{extent:?} was being populated"
        );
        self.allocator.free(extent, self.now);
        self.pump();
        self.populate_next();
    }

    /// Answer to [`StoreEffect::DiscardPages`], whether it worked or not.
    pub fn pages_discarded(&mut self, extent: Extent) {
        assert_eq!(
            self.warmth.discarding.take(),
            Some(extent),
            "{extent:?} was being discarded"
        );
        self.allocator.free_discarded(extent, self.now);
        self.pump();
        self.discard_idle();
    }

    /// An object of this size was made: the next one may be like it.
    pub(super) fn prefault_after(&mut self, size_bytes: u64) {
        let is_big = size_bytes >= BIG_OBJECT_BYTES;
        if is_big && self.allocator.largest_warm_bytes() < size_bytes {
            // In whole objects: what is left between them would be of no use to the next ones.
            let needed_bytes = self.allocator.footprint_bytes(size_bytes);
            self.warmth.goal_bytes = needed_bytes
                .saturating_mul(2)
                .min(self.config.max_prefault_bytes);
            self.populate_next();
        }
    }

    fn populate_next(&mut self) {
        if self.warmth.populating.is_some() || self.warmth.goal_bytes == 0 {
            return;
        }
        let step = self.warmth.goal_bytes.min(POPULATE_STEP_BYTES);
        // Whoever waits for room needs it more.
        let reserved = if self.queue.is_empty() {
            self.allocator.reserve_tail(step)
        } else {
            None
        };
        match reserved {
            Some(extent) => {
                self.warmth.goal_bytes = self.warmth.goal_bytes.saturating_sub(extent.len);
                self.warmth.populating = Some(extent);
                self.effects.push(StoreEffect::PopulatePages { extent });
            }
            None => self.warmth.goal_bytes = 0,
        }
    }

    pub(super) fn discard_idle(&mut self) {
        if self.warmth.discarding.is_some() {
            return;
        }
        let Some(idle_since) = self.now.checked_sub(self.config.idle_discard_after) else {
            return;
        };
        if let Some(extent) = self.allocator.reserve_idle(idle_since, MIN_DISCARD_BYTES) {
            self.warmth.discarding = Some(extent);
            self.effects.push(StoreEffect::DiscardPages { extent });
        }
    }
}
