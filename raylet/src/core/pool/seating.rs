//! Idle workers are given away and come back.

use std::time::Instant;

use aktis_common::ids::{JobId, WorkerId};

use super::{Devices, DevicesInUse, Duty, WorkerPool, WorkerState};
use crate::core::keys::ConnectionId;
use crate::core::out::Out;

/// For whom a worker is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// An actor, which ends with the process.
    Actor,
    /// Tasks of this process, which may have them cancelled by force. It is not to be killed on its own account.
    TasksOf(WorkerId),
}

/// What somebody wants a worker for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The job it is to serve.
    pub job: JobId,
    /// The GPUs it is to see.
    pub devices: Devices,
    /// Python modules that it must not have to import itself.
    pub modules: Vec<String>,
    /// For whom.
    pub guest: Guest,
    /// What it may hold of the machine's memory.
    pub memory_limit: Option<u64>,
}

/// What the pool has for a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// This worker.
    Worker(WorkerId),
    /// None: one is to be forked.
    Nothing,
    /// One, once nobody else holds memory of its GPUs.
    NotYet,
}

/// A worker that was given away, and how to speak to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The worker.
    pub worker: WorkerId,
    /// Its process id.
    pub pid: u32,
    /// Its connection.
    pub connection: Option<ConnectionId>,
}

impl WorkerPool {
    /// An idle worker for a wish. Others that hold memory of the GPUs which were granted are asked to end (`POOL-5`), also when
    /// no worker is ready: it may take as long to start as the others to go.
    pub fn offer(&mut self, wish: &Wish, in_use: &DevicesInUse, out: &mut Out) -> Offer {
        let idle = self.find_idle(wish);
        let is_vacated = self.vacate(idle, in_use, out);
        match idle {
            Some(worker) if is_vacated => Offer::Worker(worker),
            Some(_) => Offer::NotYet,
            None => Offer::Nothing,
        }
    }

    /// Asks idle workers to end that hold memory which was granted, as far as the `guest` that is to have it does not hold it
    /// itself. True once no process holds any of it (`POOL-5`).
    fn vacate(&mut self, guest: Option<WorkerId>, in_use: &DevicesInUse, out: &mut Out) -> bool {
        let mut is_vacated = true;
        for (device, free) in &in_use.free {
            let held = self.held_of(*device, guest, |worker| in_use.leased.contains(&worker));
            let Some(rivals) = held.too_much(*free) else {
                continue;
            };
            is_vacated = false;
            for rival in rivals {
                self.ask_to_end(rival, "its GPUs were given to another worker", out);
            }
        }
        is_vacated
    }

    /// Gives a worker away that was offered; people know it by this label.
    pub fn give_away(
        &mut self,
        worker: WorkerId,
        duty: Duty,
        wish: &Wish,
        label: Option<&str>,
    ) -> Seat {
        self.assign(worker, duty, wish);
        let given = self
            .workers
            .get_mut(&worker)
            .expect("it was assigned a line ago");
        if let Some(label) = label {
            label.clone_into(&mut given.label);
        }
        Seat {
            worker,
            pid: given.pid.unwrap_or(0),
            connection: given.connection,
        }
    }

    /// An owner gives a lease back. True if what it held is free: not as long as a process may hold it (`NODE-2`).
    pub fn take_back(&mut self, worker: WorkerId, is_unusable: bool, out: &mut Out) -> bool {
        let state = self.get(worker).map(|it| (it.state, it.is_cut_off));
        match state {
            Some((_, true) | (WorkerState::Lingering, _)) => false,
            // Said once more, its owner has waited for its end in vain.
            Some((WorkerState::Retiring { .. }, _)) if is_unusable => {
                self.kill(worker, "it did not end when its owner wanted it to", out);
                false
            }
            _ if is_unusable => {
                self.ask_to_end(worker, "its owner cannot use it any more", out);
                false
            }
            _ => {
                self.release(worker, out.now());
                true
            }
        }
    }

    /// An idle worker as it is wished for: one of the same job first, then a fresh one. One that lends nothing if it is to be killed one
    /// day (`guest`).
    pub(super) fn find_idle(&self, wish: &Wish) -> Option<WorkerId> {
        let suits = |id: &&WorkerId| {
            let worker = &self.workers[*id];
            let shared = &self.shared_modules[..worker.shared_modules];
            let spares = match wish.guest {
                Guest::Actor => !worker.is_lending,
                Guest::TasksOf(owner) => worker.id != owner,
            };
            spares
                && worker.suits(wish.job, &wish.devices, wish.memory_limit)
                && wish.modules.iter().all(|module| shared.contains(module))
        };
        let is_of_job = |id: &&WorkerId| self.workers[*id].job == Some(wish.job);
        let newest_first = || self.idle.iter().rev();
        newest_first()
            .filter(suits)
            .find(is_of_job)
            .or_else(|| newest_first().find(suits))
            .copied()
    }

    /// Gives an idle worker away.
    pub(super) fn assign(&mut self, id: WorkerId, duty: Duty, wish: &Wish) {
        self.leave_idle(id);
        let worker = self
            .workers
            .get_mut(&id)
            .expect("assign names a worker of the pool");
        debug_assert!(
            worker.suits(wish.job, &wish.devices, wish.memory_limit),
            "POOL-2, POOL-3: {worker:?}"
        );
        worker.state = WorkerState::Busy(duty);
        worker.job = Some(wish.job);
        worker.devices.clone_from(&wish.devices);
        worker.memory_limit = wish.memory_limit;
        worker.has_served = true;
    }

    /// A busy worker is free again. False if it is gone or ending.
    pub(super) fn release(&mut self, id: WorkerId, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        if worker.duty().is_none() {
            return false;
        }
        if worker.exit.is_some() {
            worker.state = WorkerState::Retiring { since: now };
            return false;
        }
        worker.state = WorkerState::Idle { since: now };
        self.idle.push(id);
        true
    }
}
