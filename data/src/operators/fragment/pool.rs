//! The memory of the operators of a plan: what can go to files leaves room for what cannot.
//!
//! ```text
//!  │ rows that wait to be sorted, groups │ merging, hash tables, what is asked for last │
//!  │ an equal part for each, 3/4 at most │ all that is left, 1/4 at least               │
//! ```
//! The engine's own pool of this kind lets sorts have everything, and then the merging of what they have sorted gets nothing: it cannot
//! wait, because the sorts give back only what it takes from them.

use std::collections::HashMap;
use std::fmt;

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;

/// What can be put into files has so many of four parts at most.
const SPILLABLE_QUARTERS: usize = 3;

/// Memory of one plan.
#[derive(Debug)]
pub(super) struct PlanMemory {
    bytes: usize,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// What each of those has who can put it into files. One that does so holds it in many reservations.
    spillers: HashMap<usize, usize>,
    spillable: usize,
    unspillable: usize,
}

impl PlanMemory {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            state: Mutex::new(PoolState::default()),
        }
    }

    /// What a consumer may take more.
    fn available(&self, state: &PoolState, consumer: &MemoryConsumer) -> usize {
        if consumer.can_spill() {
            let held = state.spillers.get(&consumer.id()).copied().unwrap_or(0);
            let most = self.bytes / 4 * SPILLABLE_QUARTERS;
            let all = most.min(self.bytes.saturating_sub(state.unspillable));
            return (all / state.spillers.len().max(1)).saturating_sub(held);
        }
        self.bytes
            .saturating_sub(state.spillable + state.unspillable)
    }
}

impl PoolState {
    fn grow(&mut self, consumer: &MemoryConsumer, bytes: usize) {
        if consumer.can_spill() {
            *self.spillers.entry(consumer.id()).or_default() += bytes;
            self.spillable += bytes;
        } else {
            self.unspillable += bytes;
        }
    }

    fn shrink(&mut self, consumer: &MemoryConsumer, bytes: usize) {
        if consumer.can_spill() {
            *self.spillers.entry(consumer.id()).or_default() -= bytes;
            self.spillable -= bytes;
        } else {
            self.unspillable -= bytes;
        }
    }
}

impl MemoryPool for PlanMemory {
    fn name(&self) -> &str {
        "plan"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.state.lock().spillers.entry(consumer.id()).or_default();
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.state.lock().spillers.remove(&consumer.id());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.state.lock().grow(reservation.consumer(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.state.lock().shrink(reservation.consumer(), shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut state = self.state.lock();
        let consumer = reservation.consumer();
        let available = self.available(&state, consumer);
        if additional > available {
            let text = format!(
                "{} has {} and needs {} more, of which {} are free of {}",
                consumer.name(),
                human_readable_size(reservation.size()),
                human_readable_size(additional),
                human_readable_size(available),
                human_readable_size(self.bytes),
            );
            return Err(DataFusionError::ResourcesExhausted(text));
        }
        state.grow(consumer, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        let state = self.state.lock();
        state.spillable + state.unspillable
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

impl fmt::Display for PlanMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plan({})", human_readable_size(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_can_go_to_files_leaves_a_quarter() {
        let pool: Arc<dyn MemoryPool> = Arc::new(PlanMemory::new(1000));
        let of = |name: &str, can_spill| {
            MemoryConsumer::new(name)
                .with_can_spill(can_spill)
                .register(&pool)
        };
        let (one, other, merge) = (of("one", true), of("other", true), of("merge", false));
        one.try_grow(375).expect("half of three quarters");
        other.try_grow(375).expect("the other half");
        let error = one.try_grow(1).expect_err("its part is full").to_string();
        assert!(error.contains("one has 375.0 B and needs 1"), "{error}");
        merge.try_grow(250).expect("nobody else may have these");
        merge.try_grow(1).expect_err("there is no more");
        one.shrink(100);
        merge.try_grow(100).expect("what others gave back");
        drop(other);
        merge.shrink(350);
        one.try_grow(475).expect("it is alone");
        assert_eq!(pool.reserved(), 750);
        merge.try_grow(600).expect_err("others hold it");
        one.free();
        merge
            .try_grow(600)
            .expect("what cannot go to files may have all");
        one.try_grow(200).expect("half of the rest");
        let part = one.split(200);
        one.try_grow(201).expect_err("what it has split off counts");
        drop(part);
        one.try_grow(401).expect_err("it is held already");
        one.try_grow(400).expect("the rest");
    }
}
