//! What processes may hold of GPUs.
//!
//! A process keeps memory of the devices that it used after its task has ended: frameworks cache it. So what an idle worker was
//! given last counts as held until its process has ended, or the next lease that it serves holds it.
//!
//! - `POOL-5 (vacated-first)`: a worker gets its lease when of none of its devices the leases, and the processes without one, hold
//!   more than there is.

use aktis_common::ids::WorkerId;
use aktis_common::resources::{Allocation, Quantity};
use rustc_hash::FxHashSet;

use super::{Worker, WorkerPool, WorkerState};

/// Devices, and how much of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    ids: Vec<u32>,
    share: Quantity,
}

impl Devices {
    /// These devices, each to this share.
    pub fn new(ids: &[u32], share: Quantity) -> Self {
        Self {
            ids: ids.to_vec(),
            share,
        }
    }

    /// Their ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

impl From<&Allocation> for Devices {
    fn from(allocation: &Allocation) -> Self {
        Self::new(allocation.gpu_ids(), allocation.gpu_share())
    }
}

/// What leases leave of some devices.
#[derive(Debug, Default)]
pub struct DevicesInUse {
    /// The share of each that no lease holds.
    pub free: Vec<(u32, Quantity)>,
    /// Workers that have a lease.
    pub leased: FxHashSet<WorkerId>,
}

/// What processes without a lease hold of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Workers that are ending, or stay for what they own with memory of the device.
    pub(super) by_ending: Quantity,
    /// Idle workers, the longest idle first, each with what it holds.
    pub(super) by_idle: Vec<(WorkerId, Quantity)>,
}

impl Held {
    /// The idle workers that are to end so that no more than `free` is held; `None` when it is not more.
    pub(super) fn too_much(&self, free: Quantity) -> Option<Vec<WorkerId>> {
        let idle = || self.by_idle.iter();
        let mut kept: Quantity = idle().map(|(_, share)| *share).sum();
        if self.by_ending + kept <= free {
            return None;
        }
        // What is ending will be gone.
        let mut rivals = Vec::new();
        for (worker, share) in idle() {
            if kept <= free {
                break;
            }
            kept -= *share;
            rivals.push(*worker);
        }
        Some(rivals)
    }
}

impl WorkerPool {
    /// What workers other than `guest` hold of a device that no lease accounts for.
    pub(super) fn held_of(
        &self,
        device: u32,
        guest: Option<WorkerId>,
        has_lease: impl Fn(WorkerId) -> bool,
    ) -> Held {
        let is_meant = |worker: &Worker| {
            worker.devices.ids.contains(&device)
                && guest != Some(worker.id)
                && !has_lease(worker.id)
        };
        let idle = self.idle.iter().map(|id| &self.workers[id]);
        let by_idle = idle
            .filter(|worker| is_meant(worker))
            .map(|worker| (worker.id, worker.devices.share));
        let ending = self.workers.values().filter(|worker| match worker.state {
            WorkerState::Retiring { .. } => is_meant(worker),
            WorkerState::Lingering => worker.holds_devices && is_meant(worker),
            _ => false,
        });
        Held {
            by_ending: ending.map(|worker| worker.devices.share).sum(),
            by_idle: by_idle.collect(),
        }
    }
}
