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
//! Calls leave in the order of submission (`ACTOR-1`): a call whose arguments are not ready holds the ones behind it, and
//! so do calls that the actor has not answered ([`window`]). Both hold within a concurrency group
//! ([`call_queues`]).

mod away;
pub(crate) mod call_queues;
mod incarnations;
mod window;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, TaskId};
use aktis_lane::{ConnectionId, Urgency};
use rustc_hash::FxHashMap;

use self::away::AwayActors;
use self::call_queues::{CallQueues, Group};
use super::tasks::templates::TemplateSlots;
use super::tasks::{Assembled, Place, TaskRecord};
use super::{Core, Effect, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use crate::value::Value;

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

/// All actors this process knows.
#[derive(Default)]
pub(crate) struct ActorTable {
    entries: FxHashMap<ActorId, ActorEntry>,
    by_connection: FxHashMap<ConnectionId, ActorId>,
    pub(in crate::core) away: AwayActors,
    /// Calls that were sent and are unanswered, to all actors.
    in_flight: usize,
}

impl ActorTable {
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

    pub(crate) fn actor_of(&self, connection: ConnectionId) -> Option<ActorId> {
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

impl Core {
    /// Holds the constructor's arguments (and the references in them) while the actor may be restarted.
    pub(crate) fn hold_creation_args(
        &mut self,
        actor: ActorId,
        args: Value,
        effects: &mut Effects,
    ) {
        match self.actors.entries.get_mut(&actor) {
            Some(entry) if !matches!(entry.reach, Reach::Dead(_)) => {
                entry.creation_args = Some(args);
            }
            _ => effects.discard_value(args),
        }
    }

    /// Takes a new call, in order.
    pub(crate) fn submit_call(
        &mut self,
        actor: ActorId,
        record: TaskRecord,
        effects: &mut Effects,
    ) {
        let id = record.id;
        if let Some(entry) = self.actors.entries.get_mut(&actor) {
            entry.calls.of(&record.template.group).push(id);
            // A handle that does not keep the actor alive may be left when the actor is forgotten.
            if !std::mem::replace(&mut entry.is_watched, true) {
                effects.push(Effect::WatchActor { actor });
            }
        }
        self.submit(record, effects);
    }

    /// Sends the calls that are ready, in order.
    pub(in crate::core) fn pump_actor(&mut self, actor: ActorId, effects: &mut Effects) {
        let Some(entry) = self.actors.entries.get(&actor) else {
            return;
        };
        for group in entry.calls.groups() {
            self.pump_group(actor, group, effects);
        }
        self.end_if_drained(actor, effects);
    }

    fn pump_group(&mut self, actor: ActorId, group: Group, effects: &mut Effects) {
        loop {
            let Some(entry) = self.actors.entries.get_mut(&actor) else {
                return;
            };
            let Some(queue) = entry.calls.get_mut(group) else {
                return;
            };
            let Some(front) = queue.front() else {
                return;
            };
            let connection = match &entry.reach {
                Reach::Alive { connection } => *connection,
                Reach::Dead(failure) | Reach::Unplaceable(failure) => {
                    let failure = failure.clone();
                    queue.pop();
                    self.fail_task(front, failure, effects);
                    continue;
                }
                Reach::Unknown | Reach::Away => return,
            };
            if !queue.has_room() {
                return;
            }
            let is_ready = self
                .tasks
                .records
                .get(&front)
                .is_none_or(|record| record.unresolved == 0);
            if !is_ready || !self.send_call(actor, group, front, connection, effects) {
                return;
            }
        }
    }

    /// False: the call has to wait after all.
    fn send_call(
        &mut self,
        actor: ActorId,
        group: Group,
        call: TaskId,
        connection: ConnectionId,
        effects: &mut Effects,
    ) -> bool {
        let assembled = self.assemble(call, effects);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return false;
        };
        let Some(queue) = entry.calls.get_mut(group) else {
            return false;
        };
        match assembled {
            Assembled::Waits => return false,
            Assembled::Ended => queue.pop(),
            Assembled::Frame(push, payload) => {
                let is_quiet = queue.in_flight() < DIRECT_WRITES
                    && self.actors.in_flight < DIRECT_WRITES_IN_ALL;
                let urgency = if is_quiet {
                    Urgency::Now
                } else {
                    Urgency::Soon
                };
                queue.send(payload.len_bytes());
                self.actors.in_flight += 1;
                if let Some(record) = self.tasks.records.get_mut(&call) {
                    record.place = Place::Pushed(connection);
                    let (template, slots) = (&record.template, &mut entry.templates);
                    Self::send_push(
                        template,
                        slots,
                        connection,
                        (push, payload),
                        urgency,
                        effects,
                    );
                }
            }
        }
        true
    }

    /// A call was answered: its group has room for another. To be followed by [`Core::continue_calls`] when the call has
    /// ended, or waits again: an actor without handles lives until then.
    pub(in crate::core) fn call_answered(
        &mut self,
        connection: ConnectionId,
        call: TaskId,
    ) -> Option<(ActorId, Group)> {
        let actor = self.actors.actor_of(connection)?;
        let entry = self.actors.entries.get_mut(&actor)?;
        let group = entry.calls.answered(call)?;
        self.actors.in_flight -= 1;
        Some((actor, group))
    }

    /// Sends what there is room for, or ends the actor after its last call.
    pub(in crate::core) fn continue_calls(
        &mut self,
        (actor, group): (ActorId, Group),
        effects: &mut Effects,
    ) {
        self.pump_group(actor, group, effects);
        self.end_if_drained(actor, effects);
    }

    /// A call that is retried goes back in front of the calls that are not sent.
    pub(in crate::core) fn requeue_call(
        &mut self,
        actor: ActorId,
        call: TaskId,
        effects: &mut Effects,
    ) {
        let records = &self.tasks.records;
        let (Some(entry), Some(record)) = (self.actors.entries.get_mut(&actor), records.get(&call))
        else {
            return;
        };
        let is_later = |id: TaskId| {
            let other = records.get(&id);
            other.is_some_and(|other| other.sequence > record.sequence)
        };
        entry
            .calls
            .of(&record.template.group)
            .insert(call, is_later);
        self.resolve_dependencies(call, effects);
    }

    /// A cancelled call that was not sent.
    pub(in crate::core) fn leave_calls(&mut self, actor: ActorId, call: TaskId) {
        let records = &self.tasks.records;
        let (Some(entry), Some(record)) = (self.actors.entries.get_mut(&actor), records.get(&call))
        else {
            return;
        };
        let is_earlier = |id: TaskId| {
            let other = records.get(&id);
            other.is_some_and(|other| other.sequence < record.sequence)
        };
        entry
            .calls
            .of(&record.template.group)
            .remove(call, is_earlier);
    }

    /// The last handle is gone: the actor ends after its calls.
    pub(crate) fn end_actor(&mut self, actor: ActorId, effects: &mut Effects) {
        if let Some(entry) = self.actors.entries.get_mut(&actor) {
            entry.is_ending = true;
        }
        self.end_if_drained(actor, effects);
    }

    /// The actor is dead, and nothing keeps it.
    fn forget_actor(&mut self, actor: ActorId) {
        let entry = self.actors.entries.remove(&actor);
        // Dropping references locks the core again.
        debug_assert!(entry.is_none_or(|entry| entry.creation_args.is_none()));
    }

    fn end_if_drained(&mut self, actor: ActorId, effects: &mut Effects) {
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        if !entry.is_ending || entry.pending() > 0 {
            return;
        }
        if let Reach::Dead(_) = entry.reach {
            self.forget_actor(actor);
        } else {
            entry.is_ending = false;
            entry.is_ended = true;
            effects.push(Effect::KillActor { actor });
        }
    }
}

#[cfg(test)]
mod tests;
