//! The turns in an actor's life: lost, placed again, over.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, NodeId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{Address, Failure, publication::Kind};
use bytes::Bytes;

use crate::core::actors::placing::placement_of;
use crate::core::actors::table::Phase;
use crate::core::{GcsCore, Table, Turn};

/// What is known of the loss of an actor's process.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Loss<'a> {
    pub(in crate::core) cause: &'a str,
    /// The last lines of its output; empty if there are none.
    pub(in crate::core) last_words: &'a str,
    pub(in crate::core) is_out_of_memory: bool,
    /// It may be running still.
    pub(in crate::core) is_ending: bool,
}

impl<'a> From<&'a str> for Loss<'a> {
    fn from(cause: &'a str) -> Self {
        Self {
            cause,
            last_words: "",
            is_out_of_memory: false,
            is_ending: false,
        }
    }
}

impl<'a> From<&'a String> for Loss<'a> {
    fn from(cause: &'a String) -> Self {
        cause.as_str().into()
    }
}

impl GcsCore {
    /// The actor's process is lost: restarts it when that has ended, or ends it (`ACT-3`, `ACT-4`).
    pub(in crate::core) fn incarnation_lost<'a>(
        &mut self,
        actor: ActorId,
        loss: impl Into<Loss<'a>>,
        turn: &mut Turn,
    ) {
        let loss = loss.into();
        self.is_placing_due = true;
        let Some(record) = self
            .actors
            .get_mut(actor)
            .filter(|record| !record.is_dead())
        else {
            return;
        };
        if matches!(record.phase, Phase::Ending { .. }) {
            // One loss, one restart: it was counted when the process was lost.
            if !loss.is_ending {
                self.queue_again(actor, turn);
                self.keep_actor(actor, turn);
            }
            return;
        }
        if !record.has_restarts_left() {
            let limit = record.options.max_restarts;
            let used_up = if limit > 0 {
                format!("; its {limit} restarts are used up")
            } else {
                String::new()
            };
            let words = if loss.last_words.is_empty() {
                String::new()
            } else {
                format!("\n{}", loss.last_words)
            };
            let code = if loss.is_out_of_memory {
                ErrorCode::OutOfMemory
            } else {
                ErrorCode::ActorDied
            };
            let message = format!("{}{used_up}{words}", died(loss.cause));
            self.bury(actor, Failure::of(code, message), turn);
            return;
        }
        record.restarts += 1;
        self.unanswered.remove(&actor);
        match (record.phase.node(), record.phase.worker()) {
            (Some(node), Some(worker)) if loss.is_ending => {
                record.phase = Phase::Ending { node, worker };
                let reason = "the process that it had is ending, and has not ended yet";
                self.reasons.insert(actor, reason.to_owned());
            }
            _ => self.queue_again(actor, turn),
        }
        self.actor_changed(actor, turn);
    }

    /// `ACT-5`: the process that made the actor is gone, and nobody counts its handles any more.
    pub(in crate::core) fn end_with_maker(&mut self, actor: ActorId, cause: &str, turn: &mut Turn) {
        self.bury(actor, Failure::of(ErrorCode::ActorDied, died(cause)), turn);
    }

    pub(in crate::core) fn place_again(&mut self, actor: ActorId, node: NodeId, turn: &mut Turn) {
        self.nodes.unbook(node, actor, &ResourceRequest::default());
        self.nodes.set_full(node);
        self.queue_again(actor, turn);
        self.keep_actor(actor, turn);
    }

    pub(in crate::core) fn queue_again(&mut self, actor: ActorId, turn: &mut Turn) {
        let Some(record) = self.actors.get_mut(actor) else {
            return;
        };
        record.phase = Phase::Queued;
        match placement_of(record) {
            // The last head may have given it a place, and could not keep that: the node that has it will tell (`GCS-3`).
            Ok(_) if self.nodes.has_unheard() => self.withheld.push(actor),
            Ok(placement) => self.waiting.push(actor, placement),
            Err(error) => {
                self.bury(
                    actor,
                    Failure::of(ErrorCode::InvalidArgument, error.to_string()),
                    turn,
                );
            }
        }
        self.is_placing_due = true;
    }

    /// The end of an actor (`ACT-1`). Its worker, if it has one, is killed.
    pub(in crate::core) fn bury(&mut self, actor: ActorId, failure: Failure, turn: &mut Turn) {
        if let Some(record) = self.actors.get(actor).filter(|record| !record.is_dead()) {
            self.kill_for_good(record, &failure.message, turn);
        }
        self.bury_ended(actor, failure, turn);
    }

    /// [`Self::bury`] of an actor whose worker ends by itself.
    pub(in crate::core) fn bury_ended(
        &mut self,
        actor: ActorId,
        failure: Failure,
        turn: &mut Turn,
    ) {
        self.waiting.remove(&actor);
        self.reasons.remove(&actor);
        self.unanswered.remove(&actor);
        self.displacing.forget(actor);
        self.is_placing_due = true;
        let Some(record) = self.actors.get(actor).filter(|record| !record.is_dead()) else {
            return;
        };
        if let Some(node) = record.phase.node() {
            if record.phase.worker().is_none() {
                self.withdraw_start(node, record, turn);
            }
            self.nodes.unbook(node, actor, &ResourceRequest::default());
        }
        if let Some(record) = self.actors.get_mut(actor) {
            record.phase = Phase::Dead;
            record.failure = Some(failure);
            record.args = Bytes::new();
            record.options.handle_state = Bytes::new();
        }
        self.actor_changed(actor, turn);
        if let Some(job) = self.actors.get(actor).map(|record| record.job) {
            self.release_keys(job, turn);
        }
        for forgotten in self.actors.bury(actor) {
            turn.forget(Table::Actors, forgotten.to_wire());
        }
    }

    /// `ACT-3`: kills a worker that is not the actor, although it says so.
    pub(in crate::core) fn kill_if_stale(
        &self,
        actor: ActorId,
        address: &Address,
        turn: &mut Turn,
    ) {
        let (Ok(node), Ok(worker)) = (address.node(), address.worker()) else {
            return;
        };
        let current = self
            .actors
            .get(actor)
            .and_then(|record| record.phase.worker());
        if current != Some(worker) {
            let cause = "another process is this actor now, or the actor is dead";
            self.kill_worker(node, worker, actor.to_wire(), cause, turn);
        }
    }

    pub(in crate::core) fn keep_actor(&self, actor: ActorId, turn: &mut Turn) {
        if let Some(record) = self.actors.get(actor) {
            turn.keep(Table::Actors, actor.to_wire(), &record.to_stored());
        }
    }

    pub(in crate::core) fn actor_changed(&mut self, actor: ActorId, turn: &mut Turn) {
        if let Some(record) = self.actors.get_mut(actor) {
            record.change += 1;
        }
        self.keep_actor(actor, turn);
        if let Some(record) = self.actors.get(actor) {
            turn.publish(Kind::Actor(record.news()));
        }
    }
}

/// How messages say it.
pub(in crate::core) fn died(cause: &str) -> String {
    format!("the actor died: {cause}")
}
