//! What was lost while an execution ran: workers, blocks, nodes.

use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use prost::Message;

use super::failed_rows::Death;
use super::main_loop::ExecutionLoop;
use crate::executor::core::event::{BlockKey, Event, WorkerKey};
use crate::operators::failing::letters::class_and_message;
use crate::wire::failing::NotedCall;

impl ExecutionLoop {
    /// A call that failed: was it the worker's process or the user's function?
    pub(super) fn failed(&mut self, worker: WorkerKey, failure: TaskFailure) -> Option<Event> {
        // Calls of a worker that was stopped fail as they should.
        let stage = self.roles.get(&worker)?.stage;
        self.failed_stage = Some(stage);
        self.expectations.forget(worker);
        if is_loss(failure.code)
            && let Some(blocks) = self.lost_blocks(worker, &failure)
        {
            tracing::warn!(%failure, blocks = blocks.len(), "blocks are lost and made again");
            self.failed_rows.forget(worker);
            self.queued.remove(&worker);
            self.calls.give_up(worker);
            self.times.gives_back(worker, Instant::now());
            return Some(Event::InputLost { worker, blocks });
        }
        if !is_death(failure.code) {
            return Some(Event::WorkerFailed { worker, failure });
        }
        self.forget_worker(worker);
        self.times.died(worker, Instant::now());
        self.pool.stop_worker(worker);
        self.stats.lock().stages[stage].deaths += 1;
        tracing::warn!(worker = worker.0, %failure, "a stage worker died");
        let is_explained = match self.cause_of_death(worker, &failure) {
            Death::Ends(failure) => return Some(Event::WorkerFailed { worker, failure }),
            Death::NeedsMemory(kinds) => {
                self.executor.bind(worker, &kinds);
                true
            }
            death => death == Death::OfRows,
        };
        for (kind, step, rows) in self.failed_rows.most_rows(stage) {
            let mut stats = self.stats.lock();
            let stage = &mut stats.stages[stage];
            let of_kind = stage.kinds.get_mut(kind).map(|kind| &mut kind.operators);
            let operators = of_kind.unwrap_or(&mut stage.operators);
            // The first operator of a stage is its source.
            operators[step as usize + 1].most_rows = Some(rows);
        }
        Some(Event::WorkerLost {
            worker,
            failure,
            is_explained,
            at: self.began.elapsed(),
        })
    }

    /// The worker is no more, and has nothing in work.
    pub(super) fn forget_worker(&mut self, worker: WorkerKey) {
        self.roles.remove(&worker);
        self.calls.ended(worker);
        self.given.remove(&worker);
        self.queued.remove(&worker);
        self.working.remove(&worker);
        self.sunk.remove(&worker);
        self.expectations.forget(worker);
    }

    /// A worker could not make its functions ready.
    pub(super) fn not_ready(&mut self, worker: WorkerKey, failure: TaskFailure) -> Option<Event> {
        if !may_pass(&failure) {
            return self.failed(worker, failure);
        }
        let stage = self.roles.get(&worker)?.stage;
        self.forget_worker(worker);
        self.times.died(worker, Instant::now());
        self.failed_stage = Some(stage);
        self.pool.stop_worker(worker);
        let name = &self.stages[stage].spec().name;
        tracing::warn!(stage = name, %failure, "a function could not be made ready");
        Some(Event::ConstructorFailed { worker, failure })
    }

    /// What the worker has died of, by the note that it may have left.
    fn cause_of_death(&mut self, worker: WorkerKey, failure: &TaskFailure) -> Death {
        let note = self.failed_rows.note_key(worker).and_then(|key| {
            let note = self.pool.note(key).unwrap_or_else(|failure| {
                tracing::warn!(%failure, "what a worker was doing when it died cannot be asked for");
                None
            })?;
            NotedCall::decode(note).ok()
        });
        // The cluster tells the death of an actor whose node is lost as any other.
        let note = note.filter(|call| !self.is_node_lost(call));
        self.failed_rows.died(worker, note, failure)
    }

    /// Whether the worker that left this note died with its node, which is not the fault of a row.
    fn is_node_lost(&self, call: &NotedCall) -> bool {
        if call.node.is_empty() {
            return false;
        }
        self.pool
            .is_node_lost(&call.node)
            .unwrap_or_else(|failure| {
                tracing::warn!(%failure, "whether a worker's node is lost cannot be asked for");
                true
            })
    }

    /// Which of its blocks a worker could not get: those that the failure names, and if it names none, any may be.
    fn lost_blocks(&self, worker: WorkerKey, failure: &TaskFailure) -> Option<Vec<BlockKey>> {
        let queued = self.queued.get(&worker).map(|queued| &queued.blocks);
        let given = self.given.get(&worker).into_iter().chain(queued);
        let given: Vec<BlockKey> = given.flatten().copied().collect();
        if given.is_empty() {
            return None;
        }
        let is_named = |block: &&BlockKey| {
            let handle = self.blocks.get(**block);
            handle.is_some_and(|handle| self.pool.is_named(handle, failure))
        };
        let named: Vec<BlockKey> = given.iter().filter(is_named).copied().collect();
        Some(if named.is_empty() { given } else { named })
    }

    /// What the cluster has now, if a death may have changed it.
    pub(super) fn look_at_nodes(&mut self) -> Option<Event> {
        match self.pool.look()() {
            Ok(view) => Some(Event::NodesChanged(view)),
            Err(failure) => {
                tracing::debug!(%failure, "the nodes cannot be asked for");
                None
            }
        }
    }

    /// A lost block is there again, under the name that it had.
    pub(super) fn restored(&mut self, lost: BlockKey, made: BlockKey) {
        let Some(handle) = self.blocks.rename(made, lost) else {
            return;
        };
        let (waiting, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.readers)
            .into_iter()
            .partition(|(block, _)| *block == lost);
        self.readers = others;
        for (_, reader) in waiting {
            // It may have gone away.
            let _ = reader.send(handle.clone());
        }
    }
}

/// Whether something that was stored is gone. Functions that meet such a failure themselves report it as their own.
pub(super) fn is_loss(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ObjectLost | ErrorCode::ReconstructionFailed | ErrorCode::OwnerDied
    )
}

/// Whether a constructor that failed so may do better another time, in another process. What is wrong with the code, or with a name
/// of a file in it, stays wrong.
fn may_pass(failure: &TaskFailure) -> bool {
    const STAYS: [&str; 14] = [
        "TypeError",
        "NameError",
        "UnboundLocalError",
        "AttributeError",
        "SyntaxError",
        "IndentationError",
        "ImportError",
        "ModuleNotFoundError",
        "NotImplementedError",
        "AssertionError",
        "FileNotFoundError",
        "NotADirectoryError",
        "IsADirectoryError",
        "PermissionError",
    ];
    let (class, _) = class_and_message(failure);
    failure.code == ErrorCode::Application && !STAYS.contains(&class)
}

/// Whether the worker's process, and not what it ran, has failed. One that cannot read what is there is of no more use than a dead one:
/// another may have fewer files open.
fn is_death(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ActorDied
            | ErrorCode::WorkerCrashed
            | ErrorCode::NodeDied
            | ErrorCode::ActorUnavailable
            | ErrorCode::OutOfMemory
            | ErrorCode::ObjectUnreadable
    )
}
