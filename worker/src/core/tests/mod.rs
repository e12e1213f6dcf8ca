//! A core, and everybody around it.

mod arguments;
mod random;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, NodeId, ObjectId, TaskId, WorkerId};
use aktis_proto::v1 as wire;
use thin_vec::ThinVec;
use wire::lane_frame::Kind;

use super::actors::CallLimits;
use super::leases::{ClassId, LeaseRequestKey};
use super::objects::{ObjectState, ResultValue};
use super::tasks::{CallTemplate, Target, TaskRecord};
use super::*;
use crate::error::TaskFailure;
use crate::value::Value;
use aktis_lane::ConnectionId;
use aktis_lane::Waiter;

const ACTORS: usize = 2;
const NODES: usize = 2;
/// Of a task that is no generator.
const RESULTS: u32 = 2;

/// How a task ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Inline,
    Stored(usize),
    Raised,
    RaisedAndRetried,
}

/// A task on its way.
#[derive(Clone, Copy)]
struct Sent {
    lane: ConnectionId,
    task: TaskId,
    /// That it has yielded.
    items: u64,
    /// Values of references that came along.
    inlined: usize,
}

/// A core, and everybody around it.
struct World {
    core: Core,
    now: Instant,
    class: ClassId,
    me: ProcessAddress,
    other: ProcessAddress,
    readers: [WorkerId; 2],
    nodes: [NodeId; NODES],
    actors: [ActorId; ACTORS],
    /// Where they live, or are going to.
    addresses: [ProcessAddress; ACTORS],
    next_lane: u64,
    /// Those that are open, and the actor at the other end.
    lanes: Vec<(ConnectionId, Option<usize>)>,
    requests: Vec<LeaseRequestKey>,
    sent: Vec<Sent>,
    asked: Vec<ObjectId>,
    /// With one handle each.
    held: Vec<(ObjectId, ProcessAddress)>,
    tasks: Vec<TaskId>,
    generators: Vec<TaskId>,
    waiters: Vec<(ObjectId, Arc<Waiter>)>,
}

fn process() -> ProcessAddress {
    ProcessAddress {
        node: NodeId::random(),
        worker: WorkerId::random(),
    }
}

fn failure(code: ErrorCode) -> TaskFailure {
    TaskFailure::new(code, "as it happens")
}

fn pick<T: Copy>(of: &[T], index: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[index % of.len()])
}

impl World {
    /// Some tasks are forgotten for want of room.
    fn new() -> Self {
        Self::with_lineage(3000)
    }

    fn with_lineage(lineage_bytes: u64) -> Self {
        let me = process();
        let mut core = Core::new(me, lineage_bytes, Duration::from_secs(1));
        let actors = [(); ACTORS].map(|()| ActorId::random());
        for actor in actors {
            core.actors.know(actor, -1);
        }
        Self {
            now: Instant::now(),
            class: core.leases.class_of(&Default::default(), JobId::random()),
            core,
            me,
            other: process(),
            readers: [(); 2].map(|()| WorkerId::random()),
            nodes: [(); NODES].map(|()| NodeId::random()),
            actors,
            addresses: [(); ACTORS].map(|()| process()),
            next_lane: 0,
            lanes: Vec::new(),
            requests: Vec::new(),
            sent: Vec::new(),
            asked: Vec::new(),
            held: Vec::new(),
            tasks: Vec::new(),
            generators: Vec::new(),
            waiters: Vec::new(),
        }
    }

    /// One event, after which every invariant holds, and what the process does about it.
    fn event<R>(&mut self, event: impl FnOnce(&mut Core, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        self.core.begin(self.now);
        let result = event(&mut self.core, &mut effects);
        self.core.end(&mut effects);
        let list = std::mem::take(&mut effects.list);
        for effect in &list {
            if let Effect::CloseLane { connection } = effect {
                self.forget_lane(*connection);
            }
        }
        // Frames are in the outboxes before anything else is done.
        let is_frame = |effect: &Effect| matches!(effect, Effect::Send { .. });
        let (frames, others): (Vec<Effect>, Vec<Effect>) = list.into_iter().partition(is_frame);
        for effect in frames.into_iter().chain(others) {
            self.carry_out(effect);
        }
        result
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                connection, frame, ..
            } => {
                if let Some(Kind::PushTask(push)) = frame.kind {
                    let task = TaskId::from_words(push.task_prefix, push.task_number);
                    let is_twice = self.sent.iter().any(|sent| sent.task == task);
                    assert!(!is_twice, "CLASS-1: task {task} is in two places");
                    assert!(
                        self.lanes.iter().any(|(open, _)| *open == connection),
                        "CLASS-1: task {task} is sent on a lane that is closed"
                    );
                    self.sent.push(Sent {
                        lane: connection,
                        task,
                        items: 0,
                        inlined: push.inlined.len(),
                    });
                }
            }
            Effect::RequestLease { key, .. } => self.requests.push(key),
            Effect::CancelLease { key } => self.requests.retain(|open| *open != key),
            Effect::CloseLane { connection } => self.close(connection),
            Effect::AskOwner { object, .. } => self.asked.push(object),
            Effect::EndActor { actor } => {
                self.event(|core, effects| core.actors.end(actor, effects));
            }
            _ => {}
        }
    }

    fn forget_lane(&mut self, lane: ConnectionId) {
        self.lanes.retain(|(open, _)| *open != lane);
        self.sent.retain(|sent| sent.lane != lane);
    }

    fn close(&mut self, lane: ConnectionId) {
        self.forget_lane(lane);
        let left = self.event(|core, effects| {
            core.actor_lane_closed(lane, effects);
            core.leases.lane_closed(lane, effects)
        });
        for task in left.into_iter().flat_map(|(_, tasks)| tasks) {
            let crash = failure(ErrorCode::WorkerCrashed);
            self.event(|core, effects| core.retry_or_fail(task, crash, effects));
        }
    }

    fn open_lane(&mut self, actor: Option<usize>) -> ConnectionId {
        self.next_lane += 1;
        let lane = ConnectionId(self.next_lane);
        self.lanes.push((lane, actor));
        lane
    }

    fn result(&self, end: End) -> Option<ResultValue> {
        match end {
            End::Inline => Some(ResultValue::Inline(Value::default())),
            End::Stored(node) => Some(ResultValue::Stored {
                node: self.nodes[node],
                size_bytes: 1,
                making: 0,
                contained: ThinVec::new(),
            }),
            End::Raised | End::RaisedAndRetried => None,
        }
    }

    /// A generator, or a task with two results.
    fn submit(&mut self, actor: Option<usize>, given: &[usize], retries: i32, is_generator: bool) {
        let results = if is_generator { 0 } else { RESULTS };
        let actor = actor.map(|actor| self.actors[actor]);
        let template = Arc::new(CallTemplate {
            shared: wire::CallTemplate {
                num_returns: results,
                is_streaming: is_generator,
                max_unread_items: u32::from(is_generator),
                ..Default::default()
            },
            target: actor.map_or(Target::Class(self.class), Target::Actor),
            group: String::new(),
            retries,
        });
        let task = TaskId::next();
        let given = given
            .iter()
            .filter_map(|at| pick(&self.held, *at))
            .collect();
        let mut record = TaskRecord::new(task, template, Value::default(), given);
        self.tasks.push(task);
        if is_generator {
            self.generators.push(task);
        }
        let results = (0..results).map(|index| ObjectId::of_return(task, index));
        for result in results.clone() {
            self.held.push((result, self.me));
        }
        self.event(|core, effects| {
            if is_generator {
                core.streams.open(task);
            }
            for result in results {
                core.objects.hold(result, ObjectState::Pending);
            }
            match actor {
                Some(actor) => {
                    record.set_sequence(core.actors.admit(actor).expect("without limit"));
                    core.submit_call(actor, record, effects);
                }
                None => core.submit(record, effects),
            }
        });
    }

    fn put(&mut self, end: End) {
        let (id, value) = (ObjectId::for_put(), self.result(end).expect("a value"));
        self.held.push((id, self.me));
        self.event(|core, effects| {
            core.objects.hold(id, ObjectState::Pending);
            core.resolve_object(id, value, effects);
        });
    }

    fn grant(&mut self, key: LeaseRequestKey) {
        self.requests.retain(|open| *open != key);
        assert!(self.core.leases.is_requested(key));
        let lane = self.open_lane(None);
        self.event(|core, effects| core.lease_granted(key, lane.0, process(), lane, effects));
    }

    /// The first of the results says whether the task has failed.
    fn end(&mut self, sent: Sent, ends: [End; RESULTS as usize]) {
        self.sent.retain(|other| other.task != sent.task);
        let is_generator = self.generators.contains(&sent.task);
        let results = ends.map(|end| self.result(end));
        let failure = results[0]
            .is_none()
            .then(|| failure(ErrorCode::Application));
        let ended = EndedResult {
            task: sent.task,
            results: match is_generator || failure.is_some() {
                true => Vec::new(),
                false => results
                    .map(|result| result.unwrap_or(ResultValue::Inline(Value::default())))
                    .into(),
            },
            failure,
            is_retryable: matches!(ends[0], End::RaisedAndRetried),
            still_borrowed: Vec::new(),
            execution: Duration::from_micros(10),
            is_worker_exiting: false,
            stream_length: sent.items,
        };
        self.event(|core, effects| core.task_ended(sent.lane, None, ended, effects));
    }

    fn item(&mut self, at: usize, end: End) {
        let Some(sent) = pick(&self.sent, at) else {
            return;
        };
        let Some(item) = self.result(end) else { return };
        if !self.generators.contains(&sent.task) {
            return;
        }
        for known in &mut self.sent {
            known.items += u64::from(known.task == sent.task);
        }
        self.event(|core, effects| core.stream_item(sent.task, sent.items, item, effects))
            .expect("in order");
    }

    fn actor_lives(&mut self, actor: usize) {
        let (id, address) = (self.actors[actor], self.addresses[actor]);
        if self.core.actors.needs_lane(id, address) {
            let lane = self.open_lane(Some(actor));
            let limits = CallLimits {
                default_group: 1,
                groups: Vec::new(),
            };
            self.event(|core, effects| core.actor_alive(id, address, lane, limits, effects));
        }
    }

    fn answer(&mut self, object: ObjectId, end: End) {
        self.asked.retain(|asked| *asked != object);
        let answer = self.result(end);
        let answer = answer.ok_or_else(|| failure(ErrorCode::Application));
        self.event(|core, effects| core.owner_answered(object, answer, effects));
    }

    fn release(&mut self, object: ObjectId) {
        self.event(|core, effects| core.release_handle(object, effects));
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.event(|core, effects| core.tick(effects));
    }

    fn watch(&mut self, object: ObjectId) {
        let waiter = Waiter::new(1);
        let watcher = Watcher::Thread(Arc::clone(&waiter));
        self.event(|core, effects| core.watch(object, watcher, effects));
        self.waiters.push((object, waiter));
    }

    fn watch_all(&mut self) {
        for (object, _) in self.held.clone() {
            self.watch(object);
        }
    }

    /// An object that somebody waits for, and holds.
    fn waited_for(&self) -> Option<ObjectId> {
        let mut open = self.waiters.iter().filter(|(_, waiter)| !waiter.is_done());
        let is_held = |object| self.held.iter().any(|(held, _)| *held == object);
        open.find_map(|(object, _)| is_held(*object).then_some(*object))
    }

    /// A worker gives back what it has not begun.
    fn give_back(&mut self, at: usize) {
        let Some((lane, None)) = pick(&self.lanes, at) else {
            return;
        };
        let there = self.sent.iter().filter(|sent| sent.lane == lane);
        let tasks: Vec<TaskId> = there.map(|sent| sent.task).skip(1).collect();
        self.sent.retain(|sent| !tasks.contains(&sent.task));
        self.event(|core, effects| core.tasks_returned(lane, &tasks, false, effects));
    }

    /// From now on nothing goes wrong.
    fn finish(&mut self) {
        for _ in 0..1000 {
            for key in std::mem::take(&mut self.requests) {
                if self.core.leases.is_requested(key) {
                    self.grant(key);
                }
            }
            for object in std::mem::take(&mut self.asked) {
                self.answer(object, End::Inline);
            }
            (0..ACTORS).for_each(|actor| self.actor_lives(actor));
            if let Some(sent) = self.sent.first().copied() {
                self.end(sent, [End::Inline; 2]);
            }
            self.wait(Duration::from_secs(3));
            if !self.core.tasks.has_pending() && self.asked.is_empty() {
                return;
            }
        }
        panic!("TASK-1: there are tasks that never end");
    }

    /// The handles of this process, and of others, are gone.
    fn let_go(&mut self) {
        for (object, _) in std::mem::take(&mut self.held) {
            self.release(object);
        }
        for task in self.generators.clone() {
            self.event(|core, effects| core.drop_stream(task, effects));
        }
        for worker in self.readers {
            let reader = ProcessAddress {
                worker,
                ..self.other
            };
            self.event(|core, effects| core.process_died(reader, "ended", effects));
        }
    }
}

/// TASK-1. The failure of a call is an argument of the next one to the same actor, which fails at once, too.
#[test]
fn call_behind_failed_ones_is_not_lost() {
    let mut world = World::new();
    world.actor_lives(0);
    world.put(End::Inline);
    let (broken, pending) = (world.submitted(None, &[]), world.submitted(None, &[]));
    let first = world.submitted(Some(0), &[broken]);
    let _second = world.submitted(Some(0), &[first]);
    let third = world.submitted(Some(0), &[pending]);
    let call = world.tasks[4];
    (0..2).for_each(|_| world.grant(world.requests[0]));
    let sent_for = |world: &World, task: TaskId| {
        let sent = world.sent.iter().find(|sent| sent.task == task);
        *sent.expect("it runs")
    };
    let failing = sent_for(&world, world.tasks[0]);
    world.end(failing, [End::Raised; 2]);
    let other = sent_for(&world, world.tasks[1]);
    world.end(other, [End::Inline; 2]);
    let third_call = sent_for(&world, call);
    world.end(third_call, [End::Inline; 2]);
    assert!(world.core.objects.is_ready(world.held[third].0));
}

impl World {
    /// A task with these arguments. Returns where its result is among those that are held.
    fn submitted(&mut self, actor: Option<usize>, given: &[usize]) -> usize {
        self.submit(actor, given, 0, false);
        self.held.len() - 1
    }
}
