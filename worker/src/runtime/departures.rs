//! What is done about processes that are gone: their tasks are retried or fail, and what they owned cannot be had.

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::NodeId;
use aktis_lane::ConnectionId;

use super::Runtime;
use super::obituaries::{Death, Estate, Left, PATIENCE, PATIENCE_HERE};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;

impl Runtime {
    pub(super) fn on_lease_lane_closed(&self, id: ConnectionId) {
        let closed = self.with_core(|core, effects| core.leases.lane_closed(id, effects));
        if let Some((worker, tasks)) = closed
            && !tasks.is_empty()
        {
            self.on_gone(worker, "its connection closed", Left::Tasks(tasks));
        }
    }

    /// An owner cannot be asked any more.
    pub(super) fn on_owner_lost(&self, owner: ProcessAddress, seen: &str) {
        self.on_gone(owner, seen, Left::Objects);
    }

    fn on_gone(&self, worker: ProcessAddress, seen: &str, left: Left) {
        let here = NodeId::from_bytes(&self.greeting().node_id);
        let patience = if here.is_ok_and(|here| here == worker.node) {
            PATIENCE_HERE
        } else {
            PATIENCE
        };
        let mut obituaries = self.0.obituaries.lock();
        let estate = obituaries.gone(worker, seen, left, (Instant::now(), patience));
        drop(obituaries);
        match estate {
            Some(estate) => self.settle_estate(estate),
            None => {
                self.reactor().call_lane(patience);
            }
        }
    }

    /// The raylet has said why a worker died.
    pub(super) fn on_worker_died(&self, worker: ProcessAddress, death: &Death) {
        let estates = self.0.obituaries.lock().add(worker.worker, death);
        estates
            .into_iter()
            .for_each(|left| self.settle_estate(left));
        self.with_core(|core, effects| core.process_died(worker, &death.cause, effects));
    }

    /// What workers left whose death nobody explained. Says when to come again.
    pub(super) fn bury_unexplained(&self, now: Instant) -> Option<Duration> {
        let (overdue, next) = self.0.obituaries.lock().take_overdue(now);
        overdue
            .into_iter()
            .for_each(|left| self.settle_estate(left));
        next
    }

    fn settle_estate(&self, estate: Estate) {
        let Estate {
            worker,
            left,
            death,
        } = estate;
        match left {
            Left::Tasks(tasks) => {
                let failure = task_failure(worker, &death);
                self.with_core(|core, effects| {
                    for task in tasks {
                        core.retry_or_fail(task, failure.clone(), effects);
                    }
                });
            }
            Left::Objects => {
                self.with_core(|core, effects| core.owner_died(worker, &death.cause, effects));
            }
        }
    }
}

/// What the owner of a task is told when the worker that ran it died.
fn task_failure(worker: ProcessAddress, death: &Death) -> TaskFailure {
    let Death {
        cause,
        last_words,
        is_out_of_memory,
    } = death;
    let (code, advice) = if *is_out_of_memory {
        (
            ErrorCode::OutOfMemory,
            "let it have more (memory=), run fewer at a time (num_cpus=), or give each less to hold",
        )
    } else {
        (
            ErrorCode::WorkerCrashed,
            "common causes: the function called sys.exit or os._exit, or crashed in native code, or somebody killed the process",
        )
    };
    let words = if last_words.is_empty() {
        String::new()
    } else {
        format!("\n{last_words}")
    };
    let message = format!(
        "the worker process {} on node {} died while it ran the task: {cause}; {advice}{words}",
        worker.worker, worker.node
    );
    TaskFailure::new(code, message)
}
