//! Threads that wait for one of many objects, and are to know when another one fails.

use std::sync::Arc;

use aktis_common::ids::ObjectId;

use super::ReferenceTable;
use aktis_lane::Waiter;
use std::sync::atomic::{AtomicBool, Ordering};

/// Those threads, by number.
#[derive(Default)]
pub(super) struct Getters {
    waiting: Vec<Getter>,
    last_number: u64,
}

struct Getter {
    number: u64,
    waiter: Option<Arc<Waiter>>,
    /// What has failed since it looked last.
    failed: Vec<ObjectId>,
    /// Whether that is anything, to be seen without the core's lock.
    has_failures: Arc<AtomicBool>,
}

impl Getters {
    fn get_mut(&mut self, number: u64) -> Option<&mut Getter> {
        self.waiting.iter_mut().find(|one| one.number == number)
    }

    /// An object has failed.
    pub(super) fn tell(&mut self, object: ObjectId) {
        for getter in &mut self.waiting {
            getter.failed.push(object);
            getter.has_failures.store(true, Ordering::Release);
            if let Some(waiter) = &getter.waiter {
                waiter.count_down();
            }
        }
    }
}

impl ReferenceTable {
    /// A thread gets many objects.
    pub(crate) fn add_getter(&mut self, has_failures: Arc<AtomicBool>) -> u64 {
        self.getters.last_number += 1;
        self.getters.waiting.push(Getter {
            number: self.getters.last_number,
            waiter: None,
            failed: Vec::new(),
            has_failures,
        });
        self.getters.last_number
    }

    /// It waits now; at once for nothing, if something has failed since it looked last.
    pub(crate) fn getter_waits(&mut self, number: u64, waiter: &Arc<Waiter>) {
        if let Some(getter) = self.getters.get_mut(number) {
            if !getter.failed.is_empty() {
                waiter.count_down();
            }
            getter.waiter = Some(Arc::clone(waiter));
        }
    }

    /// What has failed since this was asked last.
    pub(crate) fn take_failed(&mut self, number: u64) -> Vec<ObjectId> {
        let getter = self.getters.get_mut(number);
        getter.map_or_else(Vec::new, |getter| {
            getter.has_failures.store(false, Ordering::Release);
            std::mem::take(&mut getter.failed)
        })
    }

    /// The thread is done.
    pub(crate) fn remove_getter(&mut self, number: u64) {
        self.getters.waiting.retain(|one| one.number != number);
    }
}
