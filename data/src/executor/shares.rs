//! What the executions of a process may hold of the store that they share.
//!
//! An execution that is alone may hold a part of the store, its budget. A second one beside it gets a part of what the first one
//! leaves, and the first one a part of what the second leaves: both know what the other holds, and so each shrinks as the other
//! grows. `n` of them that could fill any budget come to rest at the same share, one `n + 1`th of the store each where the part is
//! a half, and one that is not read on keeps what it has and no more.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Executions of this process: the store that each is at, and what it holds of it.
static HELD: Mutex<Vec<(String, Weak<HeldBytes>)>> = Mutex::new(Vec::new());

/// Bytes that an execution holds. As long as it is kept, it counts.
#[derive(Debug, Default)]
pub(super) struct HeldBytes(Mutex<u64>);

impl HeldBytes {
    pub(super) fn set(&self, bytes: u64) {
        *self.0.lock() = bytes;
    }
}

/// The share of one execution.
pub(super) struct StoreShare {
    session: String,
    held: Arc<HeldBytes>,
    store_bytes: Option<u64>,
    alone_bytes: u64,
    /// What the executor knows that it may hold.
    known_bytes: u64,
}

impl StoreShare {
    /// One more execution at the store of `session`, which has `store_bytes`, if that is known. `alone_bytes`: what it may hold
    /// when it is alone.
    pub(super) fn new(session: String, store_bytes: Option<u64>, alone_bytes: u64) -> Self {
        let held = Arc::new(HeldBytes::default());
        {
            let mut all = HELD.lock();
            all.retain(|(_, other)| other.strong_count() > 0);
            all.push((session.clone(), Arc::downgrade(&held)));
        }
        let mut share = Self {
            session,
            held,
            store_bytes,
            alone_bytes,
            known_bytes: alone_bytes,
        };
        share.known_bytes = share.budget_bytes();
        share
    }

    /// What counts for it.
    pub(super) fn held(&self) -> &Arc<HeldBytes> {
        &self.held
    }

    /// What it may hold as far as the executor knows.
    pub(super) fn known_bytes(&self) -> u64 {
        self.known_bytes
    }

    /// What it may hold when there are no others.
    pub(super) fn alone_bytes(&self) -> u64 {
        self.alone_bytes
    }

    /// What it may hold now.
    fn budget_bytes(&self) -> u64 {
        self.beside_others().unwrap_or(self.alone_bytes)
    }

    /// Half of what others leave; `None`: there are none.
    fn beside_others(&self) -> Option<u64> {
        let store_bytes = self.store_bytes?;
        let mut others = 0;
        let mut is_alone = true;
        for (session, other) in HELD.lock().iter() {
            if let Some(other) = other.upgrade()
                && *session == self.session
                && !Arc::ptr_eq(&other, &self.held)
            {
                is_alone = false;
                others += *other.0.lock();
            }
        }
        let left = store_bytes.saturating_sub(others) / 2;
        (!is_alone).then(|| left.min(self.alone_bytes).max(1))
    }

    /// Tells others that it holds `used_bytes`. What it may hold now, if that is news: by an eighth, or as much as alone again.
    pub(super) fn news(&mut self, used_bytes: u64) -> Option<u64> {
        self.held.set(used_bytes);
        let now = self.budget_bytes();
        let is_news = now.abs_diff(self.known_bytes) > self.known_bytes / 8
            || (self.is_short() && now == self.alone_bytes);
        is_news.then(|| {
            self.known_bytes = now;
            now
        })
    }

    /// Whether it knows of less than it could have.
    pub(super) fn is_short(&self) -> bool {
        self.known_bytes < self.alone_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_leave_each_other_room_and_take_it_when_one_ends() {
        let share = |session: &str| StoreShare::new(session.to_owned(), Some(1200), 600);
        let mut first = share("shares");
        assert_eq!((first.news(600), first.is_short()), (None, false));
        let mut stranger = share("another store");
        assert_eq!(stranger.news(600), None);
        let mut second = share("shares");
        assert_eq!(second.budget_bytes(), 300);
        // Each holds what it may, and gives back what it may not hold any more.
        let (mut one, mut other) = (600, 300);
        for _ in 0..20 {
            other = second.news(other).unwrap_or(other);
            one = first.news(one).unwrap_or(one);
        }
        assert!(
            one.abs_diff(400) < 60 && other.abs_diff(400) < 60,
            "{one}, {other}"
        );
        let kept = Arc::clone(second.held());
        drop(second);
        assert_eq!(
            (first.news(one), first.is_short()),
            (None, true),
            "its rows are not read yet"
        );
        drop(kept);
        assert_eq!((first.news(one), first.is_short()), (Some(600), false));
    }

    #[test]
    fn execution_beside_others_that_hold_all_may_hold_something() {
        let full = StoreShare::new("full".to_owned(), Some(1200), 600);
        full.held().set(1300);
        let other = StoreShare::new("full".to_owned(), Some(1200), 600);
        assert_eq!(other.budget_bytes(), 1);
        let unknown = StoreShare::new("full".to_owned(), None, 600);
        assert_eq!(unknown.budget_bytes(), 600);
    }
}
