//! What comes of asking a raylet to start an actor.
//!
//! A raylet that was asked may have begun: an answer that is lost says nothing of the constructor. So the same raylet is asked
//! again (`HOST-1`: it names the process that it has begun, and begins no other), and not another one. A raylet that reports and
//! stays silent all the same is to register anew: it hears then that the actor is not there, ends what it may have begun, and
//! the actor is placed anew.

use aktis_common::ids::{ActorId, NodeId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{Address, Failure};

use crate::core::actors::life::Loss;
use crate::core::actors::table::Phase;
use crate::core::{GcsCore, Turn};

/// What came of asking a raylet to start an actor.
#[derive(Debug, Clone, PartialEq)]
pub enum StartOutcome {
    /// A worker has got the creating task.
    Started {
        /// The worker.
        address: Address,
        /// Its process id.
        pid: u32,
    },
    /// There is not enough free there any more.
    NoRoom,
    /// The raylet could not do it.
    Failed(Failure),
    /// No connection came about: the raylet was not asked.
    Unreachable(String),
    /// The raylet may have been asked, and its answer is lost.
    Unanswered(String),
}

impl GcsCore {
    /// A raylet has answered a [`StartActor`](crate::core::Effect::StartActor), or has not.
    pub fn start_answered(
        &mut self,
        actor: ActorId,
        asked: u64,
        node: NodeId,
        outcome: StartOutcome,
        turn: &mut Turn,
    ) {
        let is_current = self.actors.get(actor).is_some_and(
            |record| matches!(record.phase, Phase::Starting { attempt, .. } if attempt == asked),
        );
        if !is_current {
            // Asked again, this node names the process that the actor is, maybe this one.
            let is_asked_again = self.actors.get(actor).is_some_and(|record| {
                matches!(record.phase, Phase::Starting { node: there, worker: None, .. } if there == node)
            });
            if let StartOutcome::Started { address, .. } = outcome
                && !is_asked_again
            {
                self.kill_if_stale(actor, &address, turn);
            }
            return;
        }
        match outcome {
            StartOutcome::Unanswered(cause) => {
                return self.start_unanswered(actor, node, &cause, turn);
            }
            // An earlier request may have arrived.
            StartOutcome::Unreachable(cause) if self.unanswered.contains_key(&actor) => {
                return self.start_unanswered(actor, node, &cause, turn);
            }
            StartOutcome::Unreachable(cause) => {
                tracing::info!(%actor, %node, cause, "the raylet could not be asked to start the actor");
                self.place_again(actor, node, turn);
            }
            StartOutcome::Started { address, pid } => {
                self.started(actor, asked, node, &address, pid, turn);
            }
            StartOutcome::NoRoom => {
                self.displacing.came_back(actor, turn.now);
                self.place_again(actor, node, turn);
            }
            // Trying again helps only against what the system did.
            StartOutcome::Failed(failure) if failure.error_code().is_system_failure() => {
                self.nodes.unbook(node, actor, &ResourceRequest::default());
                self.incarnation_lost(actor, &failure.message, turn);
            }
            StartOutcome::Failed(failure) => self.bury(actor, failure, turn),
        }
        self.is_answered(actor);
    }

    fn started(
        &mut self,
        actor: ActorId,
        attempt: u64,
        node: NodeId,
        address: &Address,
        pid: u32,
        turn: &mut Turn,
    ) {
        let worker = address.worker().ok();
        self.displacing.forget(actor);
        if let Some(record) = self.actors.get_mut(actor) {
            record.phase = Phase::Starting {
                node,
                worker,
                attempt,
            };
            record.pid = pid;
        }
        self.keep_actor(actor, turn);
        if let Some(worker) = worker {
            self.die_if_departed(actor, worker, turn);
        }
    }

    /// The news of a process's death may have overtaken that of its start, and is heard now.
    pub(in crate::core) fn die_if_departed(
        &mut self,
        actor: ActorId,
        worker: WorkerId,
        turn: &mut Turn,
    ) {
        let Some(end) = self.departed.get(worker).cloned() else {
            return;
        };
        let process = format!("its process {}", end.cause);
        let cause = if end.is_intended {
            &end.cause
        } else {
            &process
        };
        let loss = Loss {
            is_ending: end.is_ending,
            ..Loss::from(cause)
        };
        self.actor_worker_died(actor, worker, loss, end.is_intended, turn);
    }

    /// Asks again; and if that was in vain for too long, the node is to register anew.
    fn start_unanswered(&mut self, actor: ActorId, node: NodeId, cause: &str, turn: &mut Turn) {
        tracing::info!(%actor, %node, cause, "the raylet did not answer the start of the actor");
        let since = *self.unanswered.entry(actor).or_insert(turn.now);
        if since + self.timeouts.silence <= turn.now {
            self.nodes.demand_registration(node);
        }
        let reason = format!("node {node} does not answer whether it has started it: {cause}");
        self.reasons.insert(actor, reason);
        self.ask_again_to_start(actor, turn);
    }

    /// It is known what came of the start, which is unanswered no more (`GCS-7`).
    pub(in crate::core) fn is_answered(&mut self, actor: ActorId) {
        if self.unanswered.remove(&actor).is_some() {
            self.reasons.remove(&actor);
        }
    }

    /// The node registers: what it did not answer for too long is not to be there, and is placed anew.
    pub(in crate::core) fn withdraw_unanswered(&mut self, node: NodeId, turn: &mut Turn) {
        for (actor, worker) in self.actors.on_node(node) {
            let since = self.unanswered.get(&actor);
            let is_overdue = since.is_some_and(|at| *at + self.timeouts.silence <= turn.now);
            if is_overdue && worker.is_none() {
                self.is_answered(actor);
                self.place_again(actor, node, turn);
            }
        }
    }
}
