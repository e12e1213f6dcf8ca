//! What callers know of actors that live, die and come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId, WorkerId};
use aktis_proto::v1 as wire;
use wire::lane_frame::Kind;

use super::*;
use crate::core::objects::{ObjectState, ResultValue};
use crate::core::tasks::{CallTemplate, Target, TaskRecord};
use crate::core::{Core, EndedResult};

const OLD_LANE: ConnectionId = ConnectionId(1);
const NEW_LANE: ConnectionId = ConnectionId(2);

fn process() -> ProcessAddress {
    ProcessAddress {
        node: NodeId::random(),
        worker: WorkerId::random(),
    }
}

/// One call at once, and two in the group "io".
fn limits() -> CallLimits {
    CallLimits {
        default_group: 1,
        groups: vec![("io".to_owned(), 2)],
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
        core.clock.set(start);
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
        core.actor_alive(self.actor, address, lane, limits(), effects);
    }

    fn die(&mut self) {
        let failure = TaskFailure::new(ErrorCode::ActorDied, "killed");
        let (core, effects) = (&mut self.core, &mut self.effects);
        core.actor_dead(self.actor, failure, effects);
    }

    fn unreachable(&mut self, shortage: Option<TaskFailure>) {
        let (core, effects) = (&mut self.core, &mut self.effects);
        core.actor_unreachable(self.actor, shortage, effects);
    }

    fn restart(&mut self) {
        self.core.actor_restarting(self.actor, &mut self.effects);
    }

    fn drop_handles(&mut self) {
        self.core.actors.end(self.actor, &mut self.effects);
    }

    fn is_known(&self) -> bool {
        self.core.actors.entries.contains_key(&self.actor)
    }

    fn close(&mut self, lane: ConnectionId) {
        self.core.actor_lane_closed(lane, &mut self.effects);
    }

    /// How often the core asks what has become of the actor, so many seconds after the start.
    fn questions_at(&mut self, seconds: u64) -> usize {
        self.core
            .clock
            .set(self.start + Duration::from_secs(seconds));
        let mut effects = Effects::default();
        self.core.tick(&mut effects);
        let is_question = |effect: &&Effect| matches!(effect, Effect::WatchActor { .. });
        effects.list.iter().filter(is_question).count()
    }

    fn call(&mut self, retries: i32) -> TaskId {
        self.call_in("", retries)
    }

    fn call_in(&mut self, group: &str, retries: i32) -> TaskId {
        let template = Arc::new(CallTemplate {
            shared: wire::CallTemplate {
                num_returns: 1,
                ..Default::default()
            },
            target: Target::Actor(self.actor),
            group: group.to_owned(),
            retries,
        });
        let call = TaskId::next();
        let result = ObjectId::of_return(call, 0);
        self.core.objects.hold(result, ObjectState::Pending);
        let nothing = Value::native(bytes::Bytes::new());
        let mut record = TaskRecord::new(call, template, nothing, Vec::new());
        record.set_sequence(self.core.actors.admit(self.actor).expect("no limit"));
        self.core.submit_call(self.actor, record, &mut self.effects);
        call
    }

    /// The actor answers: with a value, or with an exception on which the call is to be repeated.
    fn answer(&mut self, lane: ConnectionId, task: TaskId, failure: Option<TaskFailure>) {
        let ended = EndedResult {
            task,
            results: vec![ResultValue::Inline(Value::native(bytes::Bytes::new()))],
            is_retryable: failure.is_some(),
            failure,
            still_borrowed: Vec::new(),
            execution: Duration::ZERO,
            is_worker_exiting: false,
            stream_length: 0,
        };
        self.core.task_ended(lane, None, ended, &mut self.effects);
    }

    fn is_killed(&self) -> bool {
        let is_kill = |effect: &Effect| matches!(effect, Effect::KillActor { .. });
        self.effects.list.iter().any(is_kill)
    }

    fn end_of(&self, call: TaskId) -> Option<ErrorCode> {
        match self.core.objects.state(ObjectId::of_return(call, 0))? {
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
    caller.answer(NEW_LANE, repeated, None);
    assert_eq!(caller.core.actors.in_flight, 0);
}

#[test]
fn actor_whose_lane_closed_is_asked_about_with_pauses_until_there_is_news() {
    let mut caller = Caller::new();
    caller.alive_on(OLD_LANE);
    assert_eq!(caller.questions_at(100), 0);
    caller.start += Duration::from_secs(100);
    caller.close(OLD_LANE);
    let wish = caller.core.clock.take_tick_wish();
    assert_eq!(wish, Some(Duration::from_secs(2)));
    let asked = [1, 2, 3, 4].map(|seconds| caller.questions_at(seconds));
    assert_eq!(asked, [0, 1, 0, 1]);
    caller.restart();
    assert_eq!(caller.questions_at(100), 0);
}

#[test]
fn call_that_was_under_way_fails_when_the_actor_is_being_restarted_and_not_when_it_lives_again() {
    for is_news_first in [false, true] {
        let mut caller = Caller::new();
        caller.alive_on(OLD_LANE);
        let (repeated, single) = (caller.call(1), caller.call(0));
        if is_news_first {
            caller.restart();
            caller.close(OLD_LANE);
        } else {
            caller.close(OLD_LANE);
            assert_eq!(caller.end_of(single), None);
            caller.restart();
        }
        assert_eq!(caller.end_of(single), Some(ErrorCode::ActorUnavailable));
        let later = caller.call(0);
        assert_eq!(caller.end_of(repeated), None);
        caller.alive_on(NEW_LANE);
        assert_eq!(caller.pushed_on(NEW_LANE), [repeated, later]);
    }
}

#[test]
fn cancelled_call_ends_as_such_when_its_actor_ends_before_it_has_answered() {
    let ends: [fn(&mut Caller); 2] = [|caller| caller.close(OLD_LANE), Caller::die];
    for end in ends {
        let mut caller = Caller::new();
        caller.alive_on(OLD_LANE);
        let (cancelled, repeated) = (caller.call(-1), caller.call(-1));
        let gently = super::super::Cancel {
            is_forced: false,
            is_recursive: true,
        };
        let (core, effects) = (&mut caller.core, &mut caller.effects);
        core.cancel(cancelled, gently, effects)
            .expect("without force");
        end(&mut caller);
        assert_eq!(caller.end_of(cancelled), Some(ErrorCode::Cancelled));
        assert_ne!(caller.end_of(repeated), Some(ErrorCode::Cancelled));
        caller.alive_on(NEW_LANE);
        assert!(!caller.pushed_on(NEW_LANE).contains(&cancelled));
    }
}

#[test]
fn call_that_is_not_repeated_says_how_often_it_was() {
    let mut caller = Caller::new();
    caller.alive_on(OLD_LANE);
    let (single, repeated) = (caller.call(0), caller.call(1));
    caller.close(OLD_LANE);
    caller.alive_on(NEW_LANE);
    caller.close(NEW_LANE);
    caller.restart();
    let text_of = |call| match caller.core.objects.state(ObjectId::of_return(call, 0)) {
        Some(ObjectState::Failed(failure)) => failure.to_string(),
        _ => String::new(),
    };
    assert!(text_of(single).contains("max_task_retries=0"));
    assert!(text_of(repeated).contains("repeated 1 times already (max_task_retries=1)"));
}

#[test]
fn call_that_waits_says_for_what() {
    let mut caller = Caller::new();
    let call = caller.call(-1);
    let reason = |caller: &Caller| {
        let result = ObjectId::of_return(call, 0);
        caller.core.waits_for(result).expect("it waits")
    };
    assert!(reason(&caller).contains("has not started yet"));
    caller.alive_on(OLD_LANE);
    assert!(reason(&caller).contains("has not ended"));
    caller.close(OLD_LANE);
    assert!(reason(&caller).contains("news of its actor"));
    caller.restart();
    assert!(reason(&caller).contains("is being started again"));
    caller.alive_on(NEW_LANE);
    caller.answer(NEW_LANE, call, None);
    assert_eq!(caller.core.waits_for(ObjectId::of_return(call, 0)), None);
}

#[test]
fn cancelled_calls_leave_the_others_in_their_order() {
    let mut caller = Caller::new();
    let calls: Vec<TaskId> = (0..9).map(|_| caller.call(0)).collect();
    for at in [4, 0, 8, 5] {
        let Core { actors, tasks, .. } = &mut caller.core;
        actors.leave(caller.actor, calls[at], tasks);
    }
    caller.alive_on(NEW_LANE);
    let left = [1, 2, 3, 6, 7].map(|at| calls[at]);
    assert_eq!(caller.pushed_on(NEW_LANE), left);
}

#[test]
fn actor_that_could_not_be_reached_is_asked_about_until_a_lane_is_open() {
    let mut caller = Caller::new();
    caller.unreachable(None);
    assert_eq!(caller.questions_at(2), 1);
    caller.unreachable(None);
    assert_eq!(caller.questions_at(4), 1);
    caller.alive_on(NEW_LANE);
    assert_eq!(caller.questions_at(100), 0);
}

#[test]
fn calls_after_the_end_of_the_session_fail_as_those_before() {
    let mut caller = Caller::new();
    caller.alive_on(OLD_LANE);
    let before = caller.call(1);
    let failure = TaskFailure::new(ErrorCode::NotConnected, "the session is over");
    caller.core.fail_everything(&failure, &mut caller.effects);
    caller.close(OLD_LANE);
    let after = caller.call(1);
    for call in [before, after] {
        assert_eq!(caller.end_of(call), Some(ErrorCode::NotConnected));
    }
    assert_eq!(caller.questions_at(100), 0, "there is nobody to ask");
}

#[test]
fn shortage_that_lasts_is_told_to_calls_and_asked_about_until_it_is_over() {
    let mut caller = Caller::new();
    let shortage = || {
        Some(TaskFailure::new(
            ErrorCode::ActorUnavailable,
            "no descriptor",
        ))
    };
    let early = caller.call(0);
    caller.unreachable(shortage());
    assert_eq!(caller.end_of(early), None);
    assert_eq!(caller.questions_at(2), 1);
    caller.unreachable(shortage());
    let meanwhile = caller.call(0);
    for call in [early, meanwhile] {
        assert_eq!(caller.end_of(call), Some(ErrorCode::ActorUnavailable));
    }
    assert_eq!(caller.questions_at(4), 1);
    caller.alive_on(NEW_LANE);
    let later = caller.call(0);
    assert_eq!(caller.pushed_on(NEW_LANE), [later]);
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
    let template = Arc::downgrade(caller.core.tasks.template(calls[0]));
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

#[test]
fn full_window_of_one_concurrency_group_holds_back_no_call_of_another() {
    let mut caller = Caller::new();
    caller.alive_on(OLD_LANE);
    let stuck: Vec<TaskId> = (0..2000).map(|_| caller.call_in("io", 0)).collect();
    let sent = caller.pushed_on(OLD_LANE);
    assert!(sent.len() < stuck.len() && stuck.starts_with(&sent));
    let other = caller.call(0);
    assert_eq!(caller.pushed_on(OLD_LANE).last(), Some(&other));
    caller.effects = Effects::default();
    caller.answer(OLD_LANE, stuck[7], None);
    assert_eq!(caller.pushed_on(OLD_LANE), [stuck[sent.len()]]);
}

#[test]
fn calls_of_each_concurrency_group_are_repeated_in_their_order() {
    let mut caller = Caller::new();
    caller.alive_on(OLD_LANE);
    let plain: Vec<TaskId> = (0..3).map(|_| caller.call(1)).collect();
    let grouped: Vec<TaskId> = (0..3).map(|_| caller.call_in("io", 1)).collect();
    caller.close(OLD_LANE);
    let (later, later_grouped) = (caller.call(1), caller.call_in("io", 1));
    caller.alive_on(NEW_LANE);
    let sent = caller.pushed_on(NEW_LANE);
    let of = |calls: &[TaskId], last: TaskId| {
        let is_one = |call: &&TaskId| calls.contains(call) || **call == last;
        sent.iter().filter(is_one).copied().collect::<Vec<_>>()
    };
    assert_eq!(of(&plain, later), [&plain[..], &[later]].concat());
    assert_eq!(
        of(&grouped, later_grouped),
        [&grouped[..], &[later_grouped]].concat()
    );
}

#[test]
fn actor_without_handles_ends_after_its_last_call_also_if_that_is_repeated() {
    let mut caller = Caller::new();
    caller.alive_on(OLD_LANE);
    let call = caller.call(1);
    caller.drop_handles();
    let raised = TaskFailure::new(ErrorCode::Application, "flaky");
    caller.answer(OLD_LANE, call, Some(raised));
    assert_eq!(caller.pushed_on(OLD_LANE), [call, call]);
    assert!(!caller.is_killed());
    caller.answer(OLD_LANE, call, None);
    assert!(caller.is_killed());
    assert_eq!(caller.end_of(call), None);
}
