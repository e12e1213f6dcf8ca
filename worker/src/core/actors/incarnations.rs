//! Where an actor is, as the gcs and its lanes tell: alive, away, dead.

use aktis_common::error::ErrorCode;
use aktis_common::ids::ActorId;
use aktis_lane::ConnectionId;

use super::Reach;
use super::call_queues::CallLimits;
use crate::core::tasks::templates::TemplateSlots;
use crate::core::tasks::{Place, TaskRecord};
use crate::core::{Core, Effect, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;

impl Core {
    /// A lane to the living actor is open.
    pub(crate) fn actor_alive(
        &mut self,
        actor: ActorId,
        address: ProcessAddress,
        connection: ConnectionId,
        limits: CallLimits,
        effects: &mut Effects,
    ) {
        self.leave_incarnation(actor, effects);
        self.actors.away.remove(actor);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            effects.push(Effect::CloseLane { connection });
            return;
        };
        entry.calls.set_limits(limits);
        entry.reach = Reach::Alive { connection };
        entry.is_short = false;
        let is_same = entry.address.replace(address) == Some(address);
        entry.templates = TemplateSlots::default();
        entry.is_restarting = false;
        self.actors.by_connection.insert(connection, actor);
        self.fail_interrupted(actor, is_same, effects);
        self.pump_actor(actor, effects);
        self.settle(effects);
    }

    /// A lane to the next incarnation is open. The end of the lane to the last one may come later than this news: what was
    /// sent on it is not answered there any more.
    fn leave_incarnation(&mut self, actor: ActorId, effects: &mut Effects) {
        let reach = self.actors.entries.get(&actor).map(|entry| &entry.reach);
        if let Some(&Reach::Alive { connection }) = reach {
            self.actor_lane_closed(connection, effects);
            effects.push(Effect::CloseLane { connection });
        }
    }

    /// The gcs places the actor anew, and will say where. What its last incarnation was doing is over, however long the
    /// next one takes to begin.
    pub(crate) fn actor_restarting(&mut self, actor: ActorId, effects: &mut Effects) {
        self.actors.away.remove(actor);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        entry.is_restarting = true;
        self.fail_interrupted(actor, false, effects);
        self.settle(effects);
        self.end_if_drained(actor, effects);
    }

    /// Calls that were under way and are not repeated. `is_same`: the process that they were sent to lives on.
    fn fail_interrupted(&mut self, actor: ActorId, is_same: bool, effects: &mut Effects) {
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        for call in std::mem::take(&mut entry.interrupted) {
            let Some(record) = self.tasks.records.get(&call) else {
                continue;
            };
            let message = interruption(actor, is_same, record.template.retries);
            let failure = TaskFailure::new(ErrorCode::ActorUnavailable, message);
            self.fail_task(call, failure, effects);
        }
    }

    /// The actor is dead for good.
    pub(crate) fn actor_dead(
        &mut self,
        actor: ActorId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        if matches!(entry.reach, Reach::Dead(_)) {
            return;
        }
        self.actors.away.remove(actor);
        if let Reach::Alive { connection } = entry.reach {
            self.actors.by_connection.remove(&connection);
            effects.push(Effect::CloseLane { connection });
        }
        entry.reach = Reach::Dead(failure.clone());
        let mut lost = entry.calls.take_sent();
        self.actors.in_flight -= lost.len();
        lost.append(&mut entry.interrupted);
        if let Some(args) = entry.creation_args.take() {
            effects.discard_value(args);
        }
        for call in lost {
            let cancelled = self.cancelled_end(call);
            self.fail_task(call, cancelled.unwrap_or_else(|| failure.clone()), effects);
        }
        self.pump_actor(actor, effects);
        self.settle(effects);
        match self.actors.entries.get_mut(&actor) {
            Some(entry) if entry.is_ended => self.forget_actor(actor),
            Some(entry) => entry.strip(),
            None => {}
        }
    }

    /// Nobody is left who could say where actors are: calls fail, those to come too.
    pub(in crate::core) fn lose_actors(&mut self, failure: &TaskFailure, effects: &mut Effects) {
        let known: Vec<ActorId> = self.actors.entries.keys().copied().collect();
        for actor in known {
            self.actor_dead(actor, failure.clone(), effects);
        }
    }

    /// The actor waits for a place. `failure`: nothing can place it as the cluster is now, so calls fail until that
    /// changes.
    pub(crate) fn actor_pending(
        &mut self,
        actor: ActorId,
        failure: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        self.actors.away.remove(actor);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        if matches!(entry.reach, Reach::Unknown | Reach::Unplaceable(_)) {
            entry.reach = failure.map_or(Reach::Unknown, Reach::Unplaceable);
            self.pump_actor(actor, effects);
            self.settle(effects);
        }
    }

    /// The lane of an actor is closed. Calls with retries left wait for the next incarnation, others for the cause.
    pub(crate) fn actor_lane_closed(&mut self, connection: ConnectionId, effects: &mut Effects) {
        let Some(actor) = self.actors.by_connection.remove(&connection) else {
            return;
        };
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        if !matches!(&entry.reach, Reach::Alive { connection: open } if *open == connection) {
            return;
        }
        entry.reach = Reach::Away;
        self.ask_later(actor);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        let sent = entry.calls.take_sent();
        self.actors.in_flight -= sent.len();
        for call in sent.into_iter().rev() {
            let has_retry = self
                .tasks
                .records
                .get_mut(&call)
                .is_some_and(TaskRecord::take_retry);
            if has_retry {
                if let Some(record) = self.tasks.records.get_mut(&call) {
                    record.place = Place::Queued;
                }
                self.requeue_call(actor, call, effects);
            } else if let Some(failure) = self.cancelled_end(call) {
                self.fail_task(call, failure, effects);
            } else if let Some(entry) = self.actors.entries.get_mut(&actor) {
                entry.interrupted.push(call);
            }
        }
        if self
            .actors
            .entries
            .get(&actor)
            .is_some_and(|entry| entry.is_restarting)
        {
            // The news of the restart came before the end of the lane.
            self.fail_interrupted(actor, false, effects);
        }
        self.settle(effects);
    }

    /// The actor is said to be alive, but no lane to it could be opened. `shortage`: because this process lacks what a
    /// lane needs. That may be over at once; if it is not, calls are told of it instead of waiting without a word.
    pub(crate) fn actor_unreachable(
        &mut self,
        actor: ActorId,
        shortage: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        let was_short = std::mem::replace(&mut entry.is_short, shortage.is_some());
        match entry.reach {
            Reach::Away => {}
            Reach::Unknown | Reach::Unplaceable(_) => {
                let lasting = shortage.filter(|_| was_short);
                entry.reach = lasting.map_or(Reach::Unknown, Reach::Unplaceable);
            }
            // The lane to the last incarnation is still to report its end.
            Reach::Alive { .. } | Reach::Dead(_) => return,
        }
        self.ask_later(actor);
        self.pump_actor(actor, effects);
        self.settle(effects);
    }
}

/// Why a call that was sent is not repeated. `is_same`: the process that it was sent to lives on. `retries`: those that it had
/// to begin with.
fn interruption(actor: ActorId, is_same: bool, retries: i32) -> String {
    let what = if is_same {
        format!(
            "the connection to actor {actor} broke while the call was running; the actor lives on"
        )
    } else {
        format!(
            "the call was running on actor {actor} when its process ended; the actor is restarted"
        )
    };
    if retries == 0 {
        return format!(
            "{what}, but the call is not repeated (max_task_retries=0): call again, or set max_task_retries"
        );
    }
    format!(
        "{what}, but the call was repeated {retries} times already (max_task_retries={retries})"
    )
}
