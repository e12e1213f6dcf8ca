//! Where an actor is, as the gcs and its lanes tell: alive, away, dead.

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, TaskId};

use super::{CallLimits, CalleeTable, Reach};
use crate::core::clock::Clock;
use crate::core::tasks::templates::TemplateSlots;
use crate::core::{Effect, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;

impl CalleeTable {
    /// A lane to the living actor is open. Returns whether it is the process that was known before. `None`: nobody calls it
    /// any more.
    pub(in crate::core) fn alive(
        &mut self,
        actor: ActorId,
        address: ProcessAddress,
        connection: ConnectionId,
        limits: CallLimits,
    ) -> Option<bool> {
        self.away.remove(actor);
        let entry = self.entries.get_mut(&actor)?;
        entry.calls.set_limits(limits);
        entry.reach = Reach::Alive { connection };
        entry.is_short = false;
        let is_same = entry.address.replace(address) == Some(address);
        entry.templates = TemplateSlots::default();
        entry.is_restarting = false;
        self.by_connection.insert(connection, actor);
        Some(is_same)
    }

    /// The lane on which the actor is called.
    pub(in crate::core) fn lane_of(&self, actor: ActorId) -> Option<ConnectionId> {
        match self.entries.get(&actor)?.reach {
            Reach::Alive { connection } => Some(connection),
            _ => None,
        }
    }

    /// The gcs places the actor anew, and will say where.
    pub(in crate::core) fn restarting(&mut self, actor: ActorId) {
        self.away.remove(actor);
        if let Some(entry) = self.entries.get_mut(&actor) {
            entry.is_restarting = true;
        }
    }

    /// Whether the news of the restart came before the end of the lane.
    pub(in crate::core) fn is_restarting(&self, actor: ActorId) -> bool {
        let entry = self.entries.get(&actor);
        entry.is_some_and(|entry| entry.is_restarting)
    }

    /// The call was under way, and is not repeated: it fails when the cause is known.
    pub(in crate::core) fn interrupt(&mut self, actor: ActorId, call: TaskId) {
        if let Some(entry) = self.entries.get_mut(&actor) {
            entry.interrupted.push(call);
        }
    }

    /// Calls that were under way and are not repeated.
    pub(in crate::core) fn take_interrupted(&mut self, actor: ActorId) -> Vec<TaskId> {
        let entry = self.entries.get_mut(&actor);
        entry.map_or_else(Vec::new, |entry| std::mem::take(&mut entry.interrupted))
    }

    /// The actor is dead for good. Returns the calls that were sent. `None`: it was dead before. To be followed by
    /// [`Self::dispose`], when its calls have ended.
    pub(in crate::core) fn dead(
        &mut self,
        actor: ActorId,
        failure: &TaskFailure,
        effects: &mut Effects,
    ) -> Option<Vec<TaskId>> {
        let entry = self.entries.get_mut(&actor)?;
        if matches!(entry.reach, Reach::Dead(_)) {
            return None;
        }
        self.away.remove(actor);
        if let Reach::Alive { connection } = entry.reach {
            self.by_connection.remove(&connection);
            effects.push(Effect::CloseLane { connection });
        }
        entry.reach = Reach::Dead(failure.clone());
        let mut lost = entry.calls.take_sent();
        self.in_flight -= lost.len();
        lost.append(&mut entry.interrupted);
        if let Some(args) = entry.creation_args.take() {
            effects.discard_value(args);
        }
        Some(lost)
    }

    /// A dead actor is remembered as long as there are handles.
    pub(in crate::core) fn dispose(&mut self, actor: ActorId) {
        match self.entries.get_mut(&actor) {
            Some(entry) if entry.is_ended => self.forget(actor),
            Some(entry) => entry.strip(),
            None => {}
        }
    }

    /// All actors.
    pub(in crate::core) fn known(&self) -> Vec<ActorId> {
        self.entries.keys().copied().collect()
    }

    /// The actor waits for a place. `failure`: nothing can place it as the cluster is now, so calls fail until that
    /// changes. False: that is no news.
    pub(in crate::core) fn pending(
        &mut self,
        actor: ActorId,
        failure: Option<TaskFailure>,
    ) -> bool {
        self.away.remove(actor);
        let Some(entry) = self.entries.get_mut(&actor) else {
            return false;
        };
        let is_news = matches!(entry.reach, Reach::Unknown | Reach::Unplaceable(_));
        if is_news {
            entry.reach = failure.map_or(Reach::Unknown, Reach::Unplaceable);
        }
        is_news
    }

    /// The lane of an actor is closed. Returns the calls that were sent on it, in order: those with retries left wait for the
    /// next incarnation, others are interrupted.
    pub(in crate::core) fn lane_closed(
        &mut self,
        connection: ConnectionId,
        clock: &mut Clock,
    ) -> Option<(ActorId, Vec<TaskId>)> {
        let actor = self.by_connection.remove(&connection)?;
        let entry = self.entries.get_mut(&actor)?;
        if !matches!(&entry.reach, Reach::Alive { connection: open } if *open == connection) {
            return None;
        }
        entry.reach = Reach::Away;
        let sent = entry.calls.take_sent();
        self.in_flight -= sent.len();
        self.ask_later(actor, clock);
        Some((actor, sent))
    }

    /// The actor is said to be alive, but no lane to it could be opened. `shortage`: because this process lacks what a
    /// lane needs. That may be over at once; if it is not, calls are told of it instead of waiting without a word. False:
    /// that is no news.
    pub(in crate::core) fn unreachable(
        &mut self,
        actor: ActorId,
        shortage: Option<TaskFailure>,
        clock: &mut Clock,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&actor) else {
            return false;
        };
        let was_short = std::mem::replace(&mut entry.is_short, shortage.is_some());
        match entry.reach {
            Reach::Away => {}
            Reach::Unknown | Reach::Unplaceable(_) => {
                let lasting = shortage.filter(|_| was_short);
                entry.reach = lasting.map_or(Reach::Unknown, Reach::Unplaceable);
            }
            // The lane to the last incarnation is still to report its end.
            Reach::Alive { .. } | Reach::Dead(_) => return false,
        }
        self.ask_later(actor, clock);
        true
    }

    /// The actor cannot be reached now. If it lives it is to be tried again.
    fn ask_later(&mut self, actor: ActorId, clock: &mut Clock) {
        let ask_at = self.away.add(actor, clock.now());
        clock.tick_by(ask_at);
    }

    /// Asks what has become of actors that are away. Says when to come again.
    pub(in crate::core) fn tick(
        &mut self,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Duration> {
        for actor in self.away.take_due(now) {
            effects.push(Effect::WatchActor { actor });
        }
        self.away.next(now)
    }
}

/// Why a call that was sent is not repeated. `is_same`: the process that it was sent to lives on. `retries`: those that it had
/// to begin with.
pub(in crate::core) fn interruption(actor: ActorId, is_same: bool, retries: i32) -> TaskFailure {
    let what = if is_same {
        format!(
            "the connection to actor {actor} broke while the call was running; the actor lives on"
        )
    } else {
        format!(
            "the call was running on actor {actor} when its process ended; the actor is restarted"
        )
    };
    let message = if retries == 0 {
        format!(
            "{what}, but the call is not repeated (max_task_retries=0): call again, or set max_task_retries"
        )
    } else {
        format!(
            "{what}, but the call was repeated {retries} times already (max_task_retries={retries})"
        )
    };
    TaskFailure::new(ErrorCode::ActorUnavailable, message)
}
