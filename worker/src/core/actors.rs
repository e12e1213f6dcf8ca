//! Actors this process calls.
//!
//! ```text
//!            address known        lane closed
//!  Unknown ───────────────► Alive ───────────► Away ── address of a new incarnation ─► Alive
//!   ▲ ▼ └────────────────── dead, for good ─────┴────────────────────────────────────► Dead
//!  Unplaceable: calls fail, but the cluster may grow
//! ```
//! An address that is the old one means that the lane failed and the actor lives on ([`super::away`]).
//!
//! Calls leave in the order of submission (`ACTOR-1`): a call whose arguments are not ready holds the ones behind it, and
//! so do calls that the actor has not answered ([`super::window`]).

use std::collections::VecDeque;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, TaskId};
use rustc_hash::FxHashMap;

use super::away::AwayActors;
use super::tasks::{Assembled, Place, TaskRecord};
use super::templates::TemplateSlots;
use super::window::CallWindow;
use super::{Core, Effect, Effects};
use crate::error::TaskFailure;
use crate::lane::connection::{ConnectionId, Urgency};
use crate::reference::ProcessAddress;
use crate::value::Value;

/// Frames beyond this many unanswered calls of one actor may wait to be joined.
const DIRECT_WRITES: usize = 2;
/// The same for all actors together: each write to another one wakes another process.
const DIRECT_WRITES_IN_ALL: usize = 16;

#[derive(Debug, Clone)]
enum Reach {
    Unknown,
    /// Nothing can place it as the cluster is now.
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
    /// Not sent yet, in order.
    calls: VecDeque<TaskId>,
    in_flight: CallWindow,
    /// Sent to an incarnation that died, with no retry left: they fail when the cause is known.
    interrupted: Vec<TaskId>,
    next_sequence: u64,
    max_pending_calls: i32,
    /// Its handles are gone: it ends when its calls have ended.
    is_ending: bool,
    /// It was told to end. When it is dead it is forgotten.
    is_ended: bool,
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
            calls: VecDeque::new(),
            in_flight: CallWindow::default(),
            interrupted: Vec::new(),
            next_sequence: 0,
            max_pending_calls: -1,
            is_ending: false,
            is_ended: false,
            is_watched: false,
            creation_args: None,
            templates: TemplateSlots::default(),
        }
    }

    fn pending(&self) -> usize {
        self.calls.len() + self.in_flight.len() + self.interrupted.len()
    }

    /// A dead actor is remembered as long as there are handles. What its calls needed is given back.
    fn strip(&mut self) {
        self.calls.shrink_to_fit();
        self.in_flight = CallWindow::default();
        self.interrupted = Vec::new();
        self.templates = TemplateSlots::default();
    }
}

/// All actors this process knows.
#[derive(Default)]
pub(crate) struct ActorTable {
    entries: FxHashMap<ActorId, ActorEntry>,
    by_connection: FxHashMap<ConnectionId, ActorId>,
    pub(super) away: AwayActors,
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
            entry.calls.push_back(id);
            // A handle that does not keep the actor alive may be left when the actor is forgotten.
            if !std::mem::replace(&mut entry.is_watched, true) {
                effects.push(Effect::WatchActor { actor });
            }
        }
        self.submit(record, effects);
    }

    /// Sends the calls that are ready, in order.
    pub(super) fn pump_actor(&mut self, actor: ActorId, effects: &mut Effects) {
        loop {
            let Some(entry) = self.actors.entries.get(&actor) else {
                return;
            };
            let Some(front) = entry.calls.front().copied() else {
                break;
            };
            let connection = match &entry.reach {
                Reach::Alive { connection } => *connection,
                Reach::Dead(failure) | Reach::Unplaceable(failure) => {
                    let failure = failure.clone();
                    self.actors
                        .entries
                        .get_mut(&actor)
                        .expect("just looked up")
                        .calls
                        .pop_front();
                    self.fail_task(front, failure, effects);
                    continue;
                }
                Reach::Unknown | Reach::Away => return,
            };
            if !entry.in_flight.has_room() {
                return;
            }
            let is_ready = self
                .tasks
                .records
                .get(&front)
                .is_none_or(|record| record.unresolved == 0);
            if !is_ready || !self.send_call(actor, front, connection, effects) {
                return;
            }
        }
        self.end_if_drained(actor, effects);
    }

    /// False: the call has to wait after all.
    fn send_call(
        &mut self,
        actor: ActorId,
        call: TaskId,
        connection: ConnectionId,
        effects: &mut Effects,
    ) -> bool {
        let assembled = self.assemble(call, effects);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return false;
        };
        match assembled {
            Assembled::Waits => return false,
            Assembled::Ended => {
                entry.calls.retain(|id| *id != call);
            }
            Assembled::Frame(push, payload) => {
                let is_quiet = entry.in_flight.len() < DIRECT_WRITES
                    && self.actors.in_flight < DIRECT_WRITES_IN_ALL;
                let urgency = if is_quiet {
                    Urgency::Now
                } else {
                    Urgency::Soon
                };
                entry.calls.pop_front();
                entry.in_flight.sent(call, payload.len_bytes());
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

    /// A call was answered. The caller ends it.
    pub(crate) fn call_ended(
        &mut self,
        connection: ConnectionId,
        call: TaskId,
        effects: &mut Effects,
    ) {
        let Some(actor) = self.actors.actor_of(connection) else {
            return;
        };
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        if entry.in_flight.answered(call) {
            self.actors.in_flight -= 1;
        }
        if entry.calls.is_empty() {
            self.end_if_drained(actor, effects);
        } else {
            self.pump_actor(actor, effects);
        }
    }

    /// A call that is retried goes back in front of the calls that are not sent.
    pub(super) fn requeue_call(&mut self, actor: ActorId, call: TaskId, effects: &mut Effects) {
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        let sequence_of = |id: &TaskId| self.tasks.records.get(id).map(|record| record.sequence);
        let own = sequence_of(&call);
        let position = entry
            .calls
            .iter()
            .position(|id| sequence_of(id) > own)
            .unwrap_or(entry.calls.len());
        entry.calls.insert(position, call);
        self.resolve_dependencies(call, effects);
    }

    /// A cancelled call that was not sent.
    pub(super) fn leave_calls(&mut self, actor: ActorId, call: TaskId) {
        if let Some(entry) = self.actors.entries.get_mut(&actor) {
            entry.calls.retain(|id| *id != call);
        }
    }

    /// A lane to the living actor is open.
    pub(crate) fn actor_alive(
        &mut self,
        actor: ActorId,
        address: ProcessAddress,
        connection: ConnectionId,
        calls_at_once: u32,
        effects: &mut Effects,
    ) {
        self.leave_incarnation(actor, effects);
        self.actors.away.remove(actor);
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            effects.push(Effect::CloseLane { connection });
            return;
        };
        entry.in_flight.set_calls_at_once(calls_at_once as usize);
        entry.reach = Reach::Alive { connection };
        let is_same = entry.address.replace(address) == Some(address);
        entry.templates = TemplateSlots::default();
        let interrupted = std::mem::take(&mut entry.interrupted);
        self.actors.by_connection.insert(connection, actor);
        let message = interruption(actor, is_same);
        for call in interrupted {
            self.fail_task(
                call,
                TaskFailure::new(ErrorCode::ActorUnavailable, message.clone()),
                effects,
            );
        }
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
        let mut lost = entry.in_flight.take();
        self.actors.in_flight -= lost.len();
        lost.append(&mut entry.interrupted);
        if let Some(args) = entry.creation_args.take() {
            effects.discard_value(args);
        }
        for call in lost {
            self.fail_task(call, failure.clone(), effects);
        }
        self.pump_actor(actor, effects);
        self.settle(effects);
        match self.actors.entries.get_mut(&actor) {
            Some(entry) if entry.is_ended => self.forget_actor(actor),
            Some(entry) => entry.strip(),
            None => {}
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
        let sent = entry.in_flight.take();
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
            } else if let Some(entry) = self.actors.entries.get_mut(&actor) {
                entry.interrupted.push(call);
            }
        }
        self.settle(effects);
    }

    /// The actor is said to be alive, but no lane to it could be opened.
    pub(crate) fn actor_unreachable(&mut self, actor: ActorId) {
        let Some(entry) = self.actors.entries.get_mut(&actor) else {
            return;
        };
        match entry.reach {
            Reach::Unknown | Reach::Away => {}
            Reach::Unplaceable(_) => entry.reach = Reach::Unknown,
            // The lane to the last incarnation is still to report its end.
            Reach::Alive { .. } | Reach::Dead(_) => return,
        }
        self.ask_later(actor);
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

/// Why a call that was sent is not repeated. `is_same`: the process that it was sent to lives on.
fn interruption(actor: ActorId, is_same: bool) -> String {
    let what = if is_same {
        format!(
            "the connection to actor {actor} broke while the call was running; the actor lives on"
        )
    } else {
        format!(
            "the call was running on actor {actor} when its process ended; the actor is restarted"
        )
    };
    format!(
        "{what}, but the call is not repeated (max_task_retries=0): call again, or set max_task_retries"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use aktis_common::ids::{NodeId, ObjectId, WorkerId};
    use aktis_proto::v1 as wire;
    use wire::lane_frame::Kind;

    use super::super::objects::ObjectState;
    use super::super::tasks::{CallTemplate, Target};
    use super::*;

    const OLD_LANE: ConnectionId = ConnectionId(1);
    const NEW_LANE: ConnectionId = ConnectionId(2);

    fn process() -> ProcessAddress {
        ProcessAddress {
            node: NodeId::random(),
            worker: WorkerId::random(),
        }
    }

    /// A core that calls one actor.
    struct Caller {
        core: Core,
        actor: ActorId,
        start: Instant,
        effects: Effects,
    }

    impl Caller {
        fn new() -> Self {
            let mut core = Core::new(process(), 1 << 20, Duration::from_secs(1));
            let start = Instant::now();
            core.leases.now = Some(start);
            let actor = ActorId::random();
            core.actors.know(actor, -1);
            Self {
                core,
                actor,
                start,
                effects: Effects::default(),
            }
        }

        fn alive_on(&mut self, lane: ConnectionId) {
            self.alive_at(process(), lane);
        }

        fn alive_at(&mut self, address: ProcessAddress, lane: ConnectionId) {
            let (core, effects) = (&mut self.core, &mut self.effects);
            core.actor_alive(self.actor, address, lane, 1, effects);
        }

        fn die(&mut self) {
            let failure = TaskFailure::new(ErrorCode::ActorDied, "killed");
            let (core, effects) = (&mut self.core, &mut self.effects);
            core.actor_dead(self.actor, failure, effects);
        }

        fn drop_handles(&mut self) {
            self.core.end_actor(self.actor, &mut self.effects);
        }

        fn is_known(&self) -> bool {
            self.core.actors.entries.contains_key(&self.actor)
        }

        fn close(&mut self, lane: ConnectionId) {
            self.core.actor_lane_closed(lane, &mut self.effects);
        }

        /// How often the core asks what has become of the actor, so many seconds after the start.
        fn questions_at(&mut self, seconds: u64) -> usize {
            self.core.leases.now = Some(self.start + Duration::from_secs(seconds));
            let mut effects = Effects::default();
            self.core.tick(&mut effects);
            let is_question = |effect: &&Effect| matches!(effect, Effect::WatchActor { .. });
            effects.list.iter().filter(is_question).count()
        }

        fn call(&mut self, retries: i32) -> TaskId {
            let template = Arc::new(CallTemplate {
                shared: wire::CallTemplate {
                    num_returns: 1,
                    ..Default::default()
                },
                target: Target::Actor(self.actor),
                retries,
            });
            let call = TaskId::next();
            let result = ObjectId::of_return(call, 0);
            self.core
                .objects
                .insert_owned(result, ObjectState::Pending)
                .handles = 1;
            let nothing = Value::native(bytes::Bytes::new());
            let mut record = TaskRecord::new(call, template, nothing, Vec::new());
            record.sequence = self.core.actors.admit(self.actor).expect("no limit");
            self.core.submit_call(self.actor, record, &mut self.effects);
            call
        }

        fn end_of(&self, call: TaskId) -> Option<ErrorCode> {
            match &self.core.objects.get(ObjectId::of_return(call, 0))?.state {
                ObjectState::Failed(failure) => Some(failure.code),
                _ => None,
            }
        }

        fn pushed_on(&self, lane: ConnectionId) -> Vec<TaskId> {
            let pushed = |effect: &Effect| match effect {
                Effect::Send {
                    connection, frame, ..
                } if *connection == lane => match &frame.kind {
                    Some(Kind::PushTask(push)) => {
                        Some(TaskId::from_words(push.task_prefix, push.task_number))
                    }
                    _ => None,
                },
                _ => None,
            };
            self.effects.list.iter().filter_map(pushed).collect()
        }

        fn is_closed(&self, lane: ConnectionId) -> bool {
            let is_close = |effect: &Effect| matches!(effect, Effect::CloseLane { connection } if *connection == lane);
            self.effects.list.iter().any(is_close)
        }
    }

    #[test]
    fn calls_in_flight_end_when_the_next_incarnation_is_known_before_the_lane_closes() {
        let mut caller = Caller::new();
        caller.alive_on(OLD_LANE);
        let (repeated, single) = (caller.call(1), caller.call(0));
        let later = caller.call(0);
        assert_eq!(caller.pushed_on(OLD_LANE), [repeated, single, later]);
        caller.alive_on(NEW_LANE);
        assert!(caller.is_closed(OLD_LANE));
        assert_eq!(caller.pushed_on(NEW_LANE), [repeated]);
        assert_eq!(caller.end_of(repeated), None);
        for call in [single, later] {
            assert_eq!(caller.end_of(call), Some(ErrorCode::ActorUnavailable));
        }
        caller.close(OLD_LANE);
        assert_eq!(caller.pushed_on(NEW_LANE), [repeated]);
        caller
            .core
            .call_ended(NEW_LANE, repeated, &mut caller.effects);
        assert_eq!(caller.core.actors.in_flight, 0);
    }

    #[test]
    fn actor_whose_lane_closed_is_asked_about_with_pauses_until_there_is_news() {
        let mut caller = Caller::new();
        caller.alive_on(OLD_LANE);
        assert_eq!(caller.questions_at(100), 0);
        caller.start += Duration::from_secs(100);
        caller.close(OLD_LANE);
        let wish = caller.core.leases.take_tick_wish();
        assert_eq!(wish, Some(Duration::from_secs(2)));
        let asked = [1, 2, 3, 4].map(|seconds| caller.questions_at(seconds));
        assert_eq!(asked, [0, 1, 0, 1]);
        caller.core.actor_restarting(caller.actor);
        assert_eq!(caller.questions_at(100), 0);
    }

    #[test]
    fn actor_that_could_not_be_reached_is_asked_about_until_a_lane_is_open() {
        let mut caller = Caller::new();
        caller.core.actor_unreachable(caller.actor);
        assert_eq!(caller.questions_at(2), 1);
        caller.core.actor_unreachable(caller.actor);
        assert_eq!(caller.questions_at(4), 1);
        caller.alive_on(NEW_LANE);
        assert_eq!(caller.questions_at(100), 0);
    }

    #[test]
    fn calls_to_an_actor_that_lived_on_go_on_after_its_lane_failed() {
        let (mut caller, address) = (Caller::new(), process());
        caller.alive_at(address, OLD_LANE);
        let (repeated, single) = (caller.call(1), caller.call(0));
        caller.close(OLD_LANE);
        let later = caller.call(0);
        assert!(caller.core.actors.needs_lane(caller.actor, address));
        caller.alive_at(address, NEW_LANE);
        assert_eq!(caller.pushed_on(NEW_LANE), [repeated, later]);
        assert_eq!(caller.end_of(single), Some(ErrorCode::ActorUnavailable));
        assert_eq!(caller.questions_at(100), 0);
    }

    #[test]
    fn dead_actor_is_remembered_without_what_its_calls_needed() {
        let mut caller = Caller::new();
        caller.alive_on(OLD_LANE);
        let calls = [caller.call(0), caller.call(0)];
        let template = {
            let record = &caller.core.tasks.records[&calls[0]];
            Arc::downgrade(&record.template)
        };
        caller.die();
        caller.effects = Effects::default();
        assert!(template.upgrade().is_none());
        for call in [calls[0], calls[1], caller.call(0)] {
            assert_eq!(caller.end_of(call), Some(ErrorCode::ActorDied));
        }
    }

    #[test]
    fn actor_whose_handles_are_gone_is_forgotten_when_it_is_dead() {
        let mut ended = Caller::new();
        ended.alive_on(OLD_LANE);
        ended.drop_handles();
        assert!(ended.is_known());
        ended.die();
        assert!(!ended.is_known());
        let mut killed = Caller::new();
        killed.die();
        assert!(killed.is_known());
        killed.drop_handles();
        assert!(!killed.is_known());
    }

    /// Handles by name are not counted.
    #[test]
    fn call_to_an_actor_that_is_forgotten_learns_what_became_of_it() {
        let mut caller = Caller::new();
        caller.die();
        caller.drop_handles();
        let call = caller.call(0);
        let is_question = |effect: &&Effect| matches!(effect, Effect::WatchActor { .. });
        assert_eq!(caller.effects.list.iter().filter(is_question).count(), 1);
        caller.die();
        assert_eq!(caller.end_of(call), Some(ErrorCode::ActorDied));
    }
}
