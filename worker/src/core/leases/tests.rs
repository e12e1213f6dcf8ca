use std::sync::Arc;

use aktis_common::ids::{JobId, NodeId, ObjectId, WorkerId};
use wire::lane_frame::Kind;

use super::*;
use crate::core::objects::{ObjectState, ResultValue};
use crate::core::tasks::{CallTemplate, Target, TaskRecord};
use crate::core::{Cancel, Core, EndedResult};
use crate::value::Value;

const LONG: ConnectionId = ConnectionId(7);
const OTHER: ConnectionId = ConnectionId(8);

struct Fixture {
    core: Core,
    class: ClassId,
    effects: Effects,
}

impl Fixture {
    fn new() -> Self {
        let mut core = Core::new(process(), 1 << 20, Duration::from_secs(60));
        core.clock.set(Instant::now());
        let class = core.leases.class_of(&Default::default(), JobId::random());
        Self {
            core,
            class,
            effects: Effects::default(),
        }
    }

    /// A class whose tasks have all been short, and one worker that has just begun another one.
    fn with_a_busy_worker() -> (Self, TaskId) {
        let mut fixture = Self::new();
        let short = fixture.submit();
        fixture.grant(LONG);
        fixture.end(LONG, short);
        let long = fixture.submit();
        assert_eq!(fixture.pushed_to(LONG), [short, long]);
        (fixture, long)
    }

    fn submit(&mut self) -> TaskId {
        self.submit_with(Vec::new())
    }

    fn submit_with(&mut self, dependencies: Vec<(ObjectId, ProcessAddress)>) -> TaskId {
        let template = Arc::new(CallTemplate {
            shared: wire::CallTemplate {
                num_returns: 1,
                name: "work".to_owned(),
                ..Default::default()
            },
            target: Target::Class(self.class),
            group: String::new(),
            retries: 3,
        });
        let task = TaskId::next();
        let result = ObjectId::of_return(task, 0);
        self.core.objects.hold(result, ObjectState::Pending);
        let record = TaskRecord::new(task, template, Value::default(), dependencies);
        self.core.submit(record, &mut self.effects);
        task
    }

    fn pass(&mut self, time: Duration) {
        self.core.clock.set(self.core.clock.now() + time);
        self.core
            .leases
            .tick(&mut self.core.clock, &mut self.effects);
    }

    fn condemned_tick(&mut self) -> Option<Duration> {
        let now = self.core.clock.now();
        self.core.leases.condemned_tick(now, &mut self.effects)
    }

    /// The requests that were made and not withdrawn.
    fn requests(&self) -> Vec<LeaseRequestKey> {
        self.core.leases.classes[0].open_requests.clone()
    }

    fn grant(&mut self, connection: ConnectionId) {
        let key = *self.requests().first().expect("a worker was asked for");
        self.core
            .lease_granted(key, connection.0, process(), connection, &mut self.effects);
    }

    fn end(&mut self, connection: ConnectionId, task: TaskId) {
        let ended = EndedResult {
            task,
            results: vec![ResultValue::Inline(Value::default())],
            failure: None,
            is_retryable: false,
            still_borrowed: Vec::new(),
            execution: Duration::from_micros(50),
            is_worker_exiting: false,
            stream_length: 0,
        };
        self.core
            .task_ended(connection, None, ended, &mut self.effects);
    }

    fn sent_to(&self, lane: ConnectionId) -> impl Iterator<Item = &Kind> {
        self.effects
            .list
            .iter()
            .filter_map(move |effect| match effect {
                Effect::Send {
                    connection, frame, ..
                } if *connection == lane => frame.kind.as_ref(),
                _ => None,
            })
    }

    fn pushed_to(&self, lane: ConnectionId) -> Vec<TaskId> {
        self.sent_to(lane)
            .filter_map(|kind| match kind {
                Kind::PushTask(push) => {
                    Some(TaskId::from_words(push.task_prefix, push.task_number))
                }
                _ => None,
            })
            .collect()
    }

    fn steals_from(&self, lane: ConnectionId) -> usize {
        self.sent_to(lane)
            .filter(|kind| matches!(kind, Kind::StealTasks(_)))
            .count()
    }
}

fn process() -> ProcessAddress {
    ProcessAddress {
        node: NodeId::random(),
        worker: WorkerId::random(),
    }
}

#[test]
fn request_for_a_worker_names_the_task_that_waits_first() {
    let mut fixture = Fixture::new();
    fixture.submit();
    let named = fixture.effects.list.iter().find_map(|effect| match effect {
        Effect::RequestLease { request, .. } => Some(request.function_name.as_str()),
        _ => None,
    });
    assert_eq!(named, Some("work"));
}

/// CLASS-2.
#[test]
fn task_stolen_back_from_a_busy_worker_goes_to_another_one() {
    let (mut fixture, long) = Fixture::with_a_busy_worker();
    let quick = fixture.submit();
    assert_eq!(fixture.pushed_to(LONG).last(), Some(&quick));
    assert!(fixture.requests().is_empty());
    fixture.pass(STEAL_AFTER);
    assert_eq!(fixture.steals_from(LONG), 1);
    let pushed = fixture.pushed_to(LONG).len();
    fixture
        .core
        .tasks_returned(LONG, &[quick], false, &mut fixture.effects);
    for _ in 0..10 {
        fixture.pass(STEAL_AFTER);
    }
    assert_eq!(fixture.pushed_to(LONG).len(), pushed);
    assert_eq!(fixture.steals_from(LONG), 1);
    fixture.grant(OTHER);
    assert_eq!(fixture.pushed_to(OTHER), [quick]);
    fixture.end(OTHER, quick);
    fixture.end(LONG, long);
}

/// CLASS-2.
#[test]
fn nothing_is_pushed_behind_a_task_that_runs_for_long_already() {
    let (mut fixture, long) = Fixture::with_a_busy_worker();
    fixture.pass(STEAL_AFTER);
    let (first, second) = (fixture.submit(), fixture.submit());
    assert_eq!(fixture.pushed_to(LONG).last(), Some(&long));
    assert_eq!(fixture.requests().len(), 1);
    // It ends before another worker comes: its worker is as good as any again.
    fixture.end(LONG, long);
    assert!(fixture.pushed_to(LONG).ends_with(&[first, second]));
    assert!(fixture.requests().is_empty());
}

#[test]
fn tasks_that_a_first_steal_left_behind_are_stolen_when_the_one_before_them_turns_out_long() {
    let (mut fixture, _long) = Fixture::with_a_busy_worker();
    let behind: Vec<TaskId> = (0..3).map(|_| fixture.submit()).collect();
    fixture
        .core
        .tasks_returned(LONG, &behind[2..], false, &mut fixture.effects);
    let next = fixture.core.clock.take_tick_wish();
    assert!(next.is_some_and(|next| next <= STEAL_AFTER));
    fixture.pass(STEAL_AFTER);
    assert_eq!(fixture.steals_from(LONG), 1);
}

#[test]
fn cancelled_tasks_ask_for_no_worker() {
    let mut fixture = Fixture::new();
    let tasks: Vec<TaskId> = (0..20).map(|_| fixture.submit()).collect();
    assert_eq!(fixture.requests().len(), 20);
    let gently = Cancel {
        is_forced: false,
        is_recursive: false,
    };
    for task in &tasks[1..] {
        fixture
            .core
            .cancel(*task, gently, &mut fixture.effects)
            .unwrap();
    }
    fixture.grant(LONG);
    assert_eq!(fixture.pushed_to(LONG), tasks[..1]);
    assert!(fixture.requests().is_empty());
}

#[test]
fn worker_that_does_not_end_itself_when_it_is_to_is_ended_by_its_raylet() {
    let (mut fixture, long) = Fixture::with_a_busy_worker();
    let by_force = Cancel {
        is_forced: true,
        is_recursive: false,
    };
    fixture
        .core
        .cancel(long, by_force, &mut fixture.effects)
        .unwrap();
    let returns = |fixture: &Fixture| {
        let effects = fixture.effects.list.iter();
        let unusable = |effect: &&Effect| matches!(effect, Effect::ReturnLease { returned } if returned.is_worker_unusable);
        effects.filter(unusable).count()
    };
    assert_eq!(fixture.condemned_tick(), Some(CONDEMNED_FOR));
    assert_eq!(returns(&fixture), 0);
    // Its raylet asks it to end, and then kills it.
    for (told, again) in [(1, Some(CONDEMNED_FOR)), (2, None), (2, None)] {
        fixture
            .core
            .clock
            .set(fixture.core.clock.now() + CONDEMNED_FOR);
        assert_eq!(fixture.condemned_tick(), again);
        assert_eq!(returns(&fixture), told);
    }
    let closed = fixture.core.leases.lane_closed(LONG, &mut fixture.effects);
    assert_eq!(closed.map(|(_, tasks)| tasks), Some(vec![long]));
}

#[test]
fn thousands_of_small_arguments_do_not_all_travel_with_their_task() {
    let mut fixture = Fixture::new();
    let value = Value::inband(crate::value::Format::Bytes, vec![7; 90_000]);
    let me = fixture.core.objects.me();
    let dependencies: Vec<(ObjectId, ProcessAddress)> = (0..1000)
        .map(|_| {
            let id = ObjectId::for_put();
            let state = ObjectState::Inline(value.clone());
            fixture.core.objects.hold(id, state);
            (id, me)
        })
        .collect();
    let task = fixture.submit_with(dependencies);
    fixture.grant(LONG);
    assert_eq!(fixture.pushed_to(LONG), [task]);
    let sent = fixture.effects.list.iter().find_map(|effect| match effect {
        Effect::Send { frame, payload, .. } => match &frame.kind {
            Some(Kind::PushTask(push)) => Some((push, payload.len_bytes())),
            _ => None,
        },
        _ => None,
    });
    let (push, payload_bytes) = sent.expect("pushed");
    assert_eq!(push.dependencies.len(), 1000);
    assert!(!push.inlined.is_empty() && push.inlined.len() < 60);
    assert!(payload_bytes < 5 << 20);
}
