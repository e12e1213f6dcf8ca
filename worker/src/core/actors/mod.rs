//! Actors this process calls.
//!
//! ```text
//!            address known        lane closed
//!  Unknown ───────────────► Alive ───────────► Away ── address of a new incarnation ─► Alive
//!   ▲ ▼ └────────────────── dead, for good ─────┴────────────────────────────────────► Dead
//!  Unplaceable: calls fail, but the cluster may grow
//! ```
//! An address that is the old one means that the lane failed and the actor lives on ([`away`]).
//!
//! - `ACTOR-1 (fifo)`: calls of this process to one actor leave in the order of submission, within a concurrency group.
//!
//! A call whose arguments are not ready holds the ones behind it, and
//! so do calls that the actor has not answered ([`window`]). Each concurrency group has a queue and a
//! window of its own ([`call_queues`]).

mod away;
mod call_queues;
mod check;
mod incarnations;
mod window;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, TaskId};
use aktis_lane::{ConnectionId, Urgency};
use rustc_hash::FxHashMap;

use self::away::AwayActors;
use self::call_queues::CallQueues;
use super::tasks::TaskTable;
use super::tasks::templates::TemplateSlots;
use super::{Effect, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use crate::value::Value;

pub(crate) use self::call_queues::CallLimits;
pub(super) use self::call_queues::Group;
pub(super) use self::incarnations::interruption;

/// Frames beyond this many unanswered calls of one actor may wait to be joined.
const DIRECT_WRITES: usize = 2;
/// The same for all actors together: each write to another one wakes another process.
const DIRECT_WRITES_IN_ALL: usize = 16;

#[derive(Debug, Clone)]
enum Reach {
    Unknown,
    /// Nothing can place it as the cluster is now, or this process cannot open a lane to it.
    Unplaceable(TaskFailure),
    Alive {
        connection: ConnectionId,
    },
    /// The lane is closed, the gcs has not said yet what becomes of the actor.
    Away,
    Dead(TaskFailure),
}

/// An actor as seen by this caller.
struct ActorEntry {
    reach: Reach,
    address: Option<ProcessAddress>,
    /// Calls that wait, and those on their way.
    calls: CallQueues,
    /// Sent to an incarnation that died, with no retry left: they fail when the cause is known.
    interrupted: Vec<TaskId>,
    next_sequence: u64,
    max_pending_calls: i32,
    /// Its handles are gone: it ends when its calls have ended.
    is_ending: bool,
    /// It was told to end. When it is dead it is forgotten.
    is_ended: bool,
    /// Its last incarnation is dead, and the next one is not known yet.
    is_restarting: bool,
    /// This process lacked what a lane to it needs, when it last tried.
    is_short: bool,
    /// The raylet was asked for news of it.
    is_watched: bool,
    /// Arguments of the constructor, held for restarts.
    creation_args: Option<Value>,
    /// What the living incarnation was told.
    templates: TemplateSlots,
}

impl ActorEntry {
    fn new() -> Self {
        Self {
            reach: Reach::Unknown,
            address: None,
            calls: CallQueues::default(),
            interrupted: Vec::new(),
            next_sequence: 0,
            max_pending_calls: -1,
            is_ending: false,
            is_ended: false,
            is_restarting: false,
            is_short: false,
            is_watched: false,
            creation_args: None,
            templates: TemplateSlots::default(),
        }
    }

    fn pending(&self) -> usize {
        self.calls.len() + self.interrupted.len()
    }

    /// A dead actor is remembered as long as there are handles. What its calls needed is given back.
    fn strip(&mut self) {
        self.calls.shrink();
        self.interrupted = Vec::new();
        self.templates = TemplateSlots::default();
    }
}

/// What is to become of a call that is the first to wait.
pub(super) enum NextCall {
    /// It waits on, or there is none.
    Waits,
    Leaves(TaskId, ConnectionId),
    /// It was taken out of its queue.
    Fails(TaskId, TaskFailure),
}

/// All actors this process knows.
#[derive(Default)]
pub(crate) struct CalleeTable {
    entries: FxHashMap<ActorId, ActorEntry>,
    by_connection: FxHashMap<ConnectionId, ActorId>,
    away: AwayActors,
    /// Calls that were sent and are unanswered, to all actors.
    in_flight: usize,
}

impl CalleeTable {
    /// What a call waits for that was not sent yet, for messages.
    pub(super) fn waits_for(&self, actor: ActorId) -> &'static str {
        match self.entries.get(&actor) {
            Some(entry) if entry.is_restarting => {
                "waits for its actor, which is being started again"
            }
            Some(entry) => match entry.reach {
                Reach::Alive { .. } => "waits for its actor, which is busy with earlier calls",
                Reach::Away => "waits for news of its actor, whose connection is lost",
                _ => "waits for its actor, which has not started yet",
            },
            None => "waits for its actor",
        }
    }

    /// Notes an actor. True: it was not known, and is to be watched.
    pub(crate) fn know(&mut self, actor: ActorId, max_pending_calls: i32) -> bool {
        let mut is_new = false;
        let entry = self.entries.entry(actor).or_insert_with(|| {
            is_new = true;
            ActorEntry::new()
        });
        if is_new {
            entry.max_pending_calls = max_pending_calls;
            entry.is_watched = true;
        }
        is_new
    }

    /// Whether the address is news: no lane to it is open.
    pub(crate) fn needs_lane(&self, actor: ActorId, address: ProcessAddress) -> bool {
        self.entries.get(&actor).is_some_and(|entry| {
            !matches!((&entry.reach, entry.address), (Reach::Alive { .. }, Some(known)) if known == address)
                && !matches!(entry.reach, Reach::Dead(_))
        })
    }

    fn actor_of(&self, connection: ConnectionId) -> Option<ActorId> {
        self.by_connection.get(&connection).copied()
    }

    /// Number of the next call, or why there can be none.
    pub(crate) fn admit(&mut self, actor: ActorId) -> Result<u64, TaskFailure> {
        let entry = self.entries.entry(actor).or_insert_with(ActorEntry::new);
        let limit = entry.max_pending_calls;
        if limit > 0 && entry.pending() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            let message = format!(
                "{} calls of this process wait for actor {actor}, as many as max_pending_calls={limit} allows; \
                 get() some results first or raise the limit",
                entry.pending()
            );
            return Err(TaskFailure::new(ErrorCode::PendingCallsLimit, message));
        }
        entry.next_sequence += 1;
        Ok(entry.next_sequence - 1)
    }
}

impl CalleeTable {
    /// Holds the constructor's arguments (and the references in them) while the actor may be restarted.
    pub(crate) fn hold_creation_args(
        &mut self,
        actor: ActorId,
        args: Value,
        effects: &mut Effects,
    ) {
        match self.entries.get_mut(&actor) {
            Some(entry) if !matches!(entry.reach, Reach::Dead(_)) => {
                entry.creation_args = Some(args);
            }
            _ => effects.discard_value(args),
        }
    }

    /// A new call, after those of its group that wait.
    pub(super) fn add_call(
        &mut self,
        actor: ActorId,
        call: TaskId,
        group: &str,
        effects: &mut Effects,
    ) {
        if let Some(entry) = self.entries.get_mut(&actor) {
            entry.calls.of(group).push(call);
            // A handle that does not keep the actor alive may be left when the actor is forgotten.
            if !std::mem::replace(&mut entry.is_watched, true) {
                effects.push(Effect::WatchActor { actor });
            }
        }
    }

    /// The groups in which the actor was called.
    pub(super) fn groups(&self, actor: ActorId) -> Option<impl Iterator<Item = Group> + use<>> {
        Some(self.entries.get(&actor)?.calls.groups())
    }

    /// What is to become of the first call of a group that waits.
    pub(super) fn next_call(
        &mut self,
        actor: ActorId,
        group: Group,
        tasks: &TaskTable,
    ) -> NextCall {
        let Some(entry) = self.entries.get_mut(&actor) else {
            return NextCall::Waits;
        };
        let Some(queue) = entry.calls.get_mut(group) else {
            return NextCall::Waits;
        };
        let Some(front) = queue.front() else {
            return NextCall::Waits;
        };
        match &entry.reach {
            Reach::Alive { connection } if queue.has_room() && tasks.has_arguments(front) => {
                NextCall::Leaves(front, *connection)
            }
            Reach::Dead(failure) | Reach::Unplaceable(failure) => {
                queue.pop();
                NextCall::Fails(front, failure.clone())
            }
            Reach::Alive { .. } | Reach::Unknown | Reach::Away => NextCall::Waits,
        }
    }

    /// The first call of the group leaves. Returns what the actor knows of methods, and how soon the frame is to be written.
    pub(super) fn push(
        &mut self,
        actor: ActorId,
        group: Group,
        bytes: usize,
    ) -> Option<(&mut TemplateSlots, Urgency)> {
        let entry = self.entries.get_mut(&actor)?;
        let queue = entry.calls.get_mut(group)?;
        let is_quiet = queue.in_flight() < DIRECT_WRITES && self.in_flight < DIRECT_WRITES_IN_ALL;
        let urgency = if is_quiet {
            Urgency::Now
        } else {
            Urgency::Soon
        };
        queue.send(bytes);
        self.in_flight += 1;
        Some((&mut entry.templates, urgency))
    }

    /// The first call of the group ends without being sent.
    pub(super) fn skip(&mut self, actor: ActorId, group: Group) {
        let entry = self.entries.get_mut(&actor);
        if let Some(queue) = entry.and_then(|entry| entry.calls.get_mut(group)) {
            queue.pop();
        }
    }

    /// A call was answered: its group has room for another. To be followed by [`Self::end_if_drained`] when the call has
    /// ended, or waits again: an actor without handles lives until then.
    pub(super) fn answered(
        &mut self,
        connection: ConnectionId,
        call: TaskId,
    ) -> Option<(ActorId, Group)> {
        let actor = self.actor_of(connection)?;
        let entry = self.entries.get_mut(&actor)?;
        let group = entry.calls.answered(call)?;
        self.in_flight -= 1;
        Some((actor, group))
    }

    /// A call that is retried goes back in front of the calls that are not sent (`ACTOR-1`). False: nobody knows it.
    pub(super) fn requeue(&mut self, actor: ActorId, call: TaskId, tasks: &TaskTable) -> bool {
        let (Some(entry), Some(group)) = (self.entries.get_mut(&actor), tasks.group(call)) else {
            return false;
        };
        let sequence = tasks.sequence(call);
        let is_later = |id: TaskId| tasks.sequence(id) > sequence;
        entry.calls.of(group).insert(call, is_later);
        true
    }

    /// A cancelled call that was not sent.
    pub(super) fn leave(&mut self, actor: ActorId, call: TaskId, tasks: &TaskTable) {
        let (Some(entry), Some(group)) = (self.entries.get_mut(&actor), tasks.group(call)) else {
            return;
        };
        let sequence = tasks.sequence(call);
        let is_earlier = |id: TaskId| {
            tasks
                .sequence(id)
                .is_some_and(|other| Some(other) < sequence)
        };
        entry.calls.of(group).remove(call, is_earlier);
    }

    /// The last handle is gone: the actor ends after its calls.
    pub(crate) fn end(&mut self, actor: ActorId, effects: &mut Effects) {
        if let Some(entry) = self.entries.get_mut(&actor) {
            entry.is_ending = true;
        }
        self.end_if_drained(actor, effects);
    }

    /// The actor is dead, and nothing keeps it.
    fn forget(&mut self, actor: ActorId) {
        let entry = self.entries.remove(&actor);
        // Dropping references locks the core again.
        debug_assert!(entry.is_none_or(|entry| entry.creation_args.is_none()));
    }

    /// An actor without handles ends after its last call.
    pub(super) fn end_if_drained(&mut self, actor: ActorId, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&actor) else {
            return;
        };
        if !entry.is_ending || entry.pending() > 0 {
            return;
        }
        if let Reach::Dead(_) = entry.reach {
            self.forget(actor);
        } else {
            entry.is_ending = false;
            entry.is_ended = true;
            effects.push(Effect::KillActor { actor });
        }
    }
}

#[cfg(test)]
mod tests;
