//! Workers leased per scheduling class.
//!
//! Tasks that ask for the same resources form a class. Its tasks wait in one queue; leased workers take them, several at
//! a time when they are short (pipelining hides the round trip), one at a time when they are long (a queue behind a long
//! task helps nobody). What was pipelined too eagerly is stolen back, and a worker that is busy with one task for longer than
//! [`STEAL_AFTER`] gets nothing more until that has ended: what the average says about the class is not true of this task.
//!
//! - `CLASS-1 (no-lost-task)`: a task is queued, pushed to one lease, or ended; when a lease ends its tasks are queued
//!   again or ended.
//! - `CLASS-2 (nothing-behind-a-long-task)`: a task is never pushed behind one that has run for [`STEAL_AFTER`]; while it
//!   waits in the queue another worker is asked for.

mod ends;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_common::ids::{JobId, TaskId};
use aktis_proto::v1 as wire;
use prost::Message;
use rustc_hash::FxHashMap;

use super::clock::Clock;
use super::tasks::TaskTable;
use super::tasks::templates::TemplateSlots;
use super::{Effect, Effects};
use crate::reference::ProcessAddress;
use aktis_lane::{ConnectionId, Urgency};

/// Work that a worker may have waiting, in time.
const PIPELINE_TARGET: Duration = Duration::from_micros(2000);
const MAX_PIPELINE: usize = 256;
const MAX_OPEN_REQUESTS: usize = 32;
/// A worker that does not end itself in this time is ended by its raylet.
const CONDEMNED_FOR: Duration = Duration::from_secs(1);
/// Tasks behind one that runs longer than this are stolen back.
const STEAL_AFTER: Duration = Duration::from_millis(20);
/// Frames beyond this many in flight on a lane may wait to be joined.
const DIRECT_WRITES: usize = 2;

/// A scheduling class of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClassId(pub(crate) u32);

/// One request for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LeaseRequestKey {
    pub(crate) class: ClassId,
    pub(crate) number: u64,
}

struct Class {
    request: wire::ResourceRequest,
    job: JobId,
    queue: queue::TaskQueue,
    leases: Vec<ConnectionId>,
    open_requests: Vec<LeaseRequestKey>,
    /// What the task was called that waited first when workers were last asked for, for people.
    first_name: String,
    /// Moving average of execution times; `None` until the first task ended.
    execution: Option<Duration>,
}

impl Class {
    fn depth(&self) -> usize {
        let Some(execution) = self.execution else {
            return 1;
        };
        let fitting = PIPELINE_TARGET.as_nanos() / execution.as_nanos().max(1);
        usize::try_from(fitting)
            .unwrap_or(MAX_PIPELINE)
            .clamp(1, MAX_PIPELINE)
    }

    fn learn(&mut self, execution: Duration) {
        self.execution = Some(match self.execution {
            None => execution,
            Some(old) => (old * 7 + execution) / 8,
        });
    }
}

struct Lease {
    class: ClassId,
    lease_id: u64,
    worker: ProcessAddress,
    in_flight: VecDeque<TaskId>,
    /// The worker's task waits in `get`: nothing more is pushed until it has ended.
    is_blocked: bool,
    /// Others wait for its resources, or it exits: nothing more is pushed, returned when empty.
    is_leaving: bool,
    is_unusable: bool,
    /// Its worker is to end itself, and when that was said. One that is stopped cannot.
    condemned_at: Option<Instant>,
    /// Its raylet was told, and has asked it to end.
    is_condemnation_told: bool,
    idle_since: Option<Instant>,
    /// When the running task, or the oldest answer awaited, began to count.
    busy_since: Instant,
    is_steal_asked: bool,
    templates: TemplateSlots,
}

impl Lease {
    /// Its worker is busy with one task for so long that nothing may wait behind it (`CLASS-2`).
    fn is_held_up(&self, now: Instant) -> bool {
        !self.in_flight.is_empty() && now.saturating_duration_since(self.busy_since) >= STEAL_AFTER
    }

    fn takes_more(&self, depth: usize, now: Instant) -> bool {
        !self.is_blocked
            && !self.is_leaving
            && self.in_flight.len() < depth
            && !self.is_held_up(now)
    }
}

/// All classes and leases of this process.
#[derive(Default)]
pub(crate) struct ClassTable {
    classes: Vec<Class>,
    by_request: FxHashMap<(Vec<u8>, JobId), ClassId>,
    leases: FxHashMap<ConnectionId, Lease>,
    next_number: u64,
    /// How long a leased worker is kept without work.
    idle_limit: Duration,
}

impl ClassTable {
    pub(crate) fn new(idle_limit: Duration) -> Self {
        Self {
            idle_limit,
            ..Self::default()
        }
    }

    /// The class of tasks with this request.
    pub(crate) fn class_of(&mut self, request: &wire::ResourceRequest, job: JobId) -> ClassId {
        let key = (request.encode_to_vec(), job);
        let classes = &mut self.classes;
        *self.by_request.entry(key).or_insert_with(|| {
            classes.push(Class {
                request: request.clone(),
                job,
                queue: queue::TaskQueue::default(),
                leases: Vec::new(),
                open_requests: Vec::new(),
                first_name: String::new(),
                execution: None,
            });
            ClassId(u32::try_from(classes.len() - 1).expect("classes are few"))
        })
    }

    fn class_mut(&mut self, class: ClassId) -> &mut Class {
        &mut self.classes[class.0 as usize]
    }

    fn best_lease(&self, class: ClassId, now: Instant) -> Option<ConnectionId> {
        let class = &self.classes[class.0 as usize];
        let depth = class.depth();
        class
            .leases
            .iter()
            .filter_map(|connection| {
                self.leases
                    .get(connection)
                    .map(|lease| (*connection, lease))
            })
            .filter(|(_, lease)| lease.takes_more(depth, now))
            .min_by_key(|(_, lease)| lease.in_flight.len())
            .map(|(connection, _)| connection)
    }

    /// Whether the answer to this request is still awaited.
    pub(crate) fn is_requested(&self, key: LeaseRequestKey) -> bool {
        self.classes
            .get(key.class.0 as usize)
            .is_some_and(|class| class.open_requests.contains(&key))
    }

    /// What the request asks for, if its answer is still awaited.
    pub(crate) fn requested_resources(&self, key: LeaseRequestKey) -> Option<wire::ResourceSet> {
        if !self.is_requested(key) {
            return None;
        }
        self.classes
            .get(key.class.0 as usize)?
            .request
            .resources
            .clone()
    }
}

impl ClassTable {
    /// A task of the class waits for a worker.
    pub(super) fn enqueue(&mut self, class: ClassId, task: TaskId) {
        self.class_mut(class).queue.push_back(task);
    }

    /// The task came back, and is the next one.
    pub(super) fn put_back(&mut self, class: ClassId, task: TaskId) {
        self.class_mut(class).queue.push_front(task);
    }

    /// The task that is to be pushed next, and the worker.
    pub(super) fn next_push(
        &mut self,
        class: ClassId,
        now: Instant,
        tasks: &TaskTable,
    ) -> Option<(ConnectionId, TaskId)> {
        let connection = self.best_lease(class, now)?;
        let queue = &mut self.class_mut(class).queue;
        let task = queue.pop(|task| tasks.is_queued(task))?;
        Some((connection, task))
    }

    /// A task leaves for a worker. Returns what that worker knows of functions, and how soon the frame is to be written.
    pub(super) fn push(
        &mut self,
        connection: ConnectionId,
        task: TaskId,
        clock: &mut Clock,
    ) -> Option<(&mut TemplateSlots, Urgency)> {
        let lease = self.leases.get_mut(&connection)?;
        if lease.in_flight.is_empty() {
            lease.busy_since = clock.now();
        }
        lease.idle_since = None;
        let urgency = if lease.in_flight.len() < DIRECT_WRITES {
            Urgency::Now
        } else {
            Urgency::Soon
        };
        lease.in_flight.push_back(task);
        if lease.in_flight.len() > 1 {
            clock.tick_by(lease.busy_since + STEAL_AFTER);
        }
        Some((&mut lease.templates, urgency))
    }

    /// After tasks have left, or more wait: asks for more workers or fewer, and for tasks that wait behind others.
    pub(super) fn adjust(&mut self, class: ClassId, tasks: &TaskTable, effects: &mut Effects) {
        let waiting = self.class_mut(class);
        waiting.queue.shrink();
        if waiting.open_requests.is_empty()
            && let Some(name) = waiting.queue.first().and_then(|task| tasks.name(task))
        {
            waiting.first_name = name;
        }
        self.adjust_requests(class, effects);
        self.steal_for_idle(class, effects);
    }

    fn adjust_requests(&mut self, class_id: ClassId, effects: &mut Effects) {
        let number = &mut self.next_number;
        let class = &mut self.classes[class_id.0 as usize];
        let wanted = class
            .queue
            .len()
            .div_ceil(class.depth())
            .min(MAX_OPEN_REQUESTS);
        while class.open_requests.len() < wanted {
            *number += 1;
            let key = LeaseRequestKey {
                class: class_id,
                number: *number,
            };
            class.open_requests.push(key);
            let request = wire::LeaseRequest {
                resources: Some(class.request.clone()),
                job_id: class.job.to_wire(),
                backlog: u32::try_from(class.queue.len()).unwrap_or(u32::MAX),
                function_name: class.first_name.clone(),
                ..Default::default()
            };
            effects.push(Effect::RequestLease { key, request });
        }
        if wanted == 0 {
            for key in class.open_requests.drain(..) {
                effects.push(Effect::CancelLease { key });
            }
        }
    }

    /// An idle worker takes half of what waits behind the busiest one, if that is worth the trip.
    fn steal_for_idle(&mut self, class_id: ClassId, effects: &mut Effects) {
        let class = &self.classes[class_id.0 as usize];
        let has_idle = class.leases.iter().any(|connection| {
            self.leases.get(connection).is_some_and(|lease| {
                lease.in_flight.is_empty() && !lease.is_blocked && !lease.is_leaving
            })
        });
        if !has_idle || !class.queue.is_empty() {
            return;
        }
        let execution = class.execution.unwrap_or(Duration::ZERO);
        let victim = class
            .leases
            .iter()
            .copied()
            .filter(|connection| {
                self.leases
                    .get(connection)
                    .is_some_and(|lease| !lease.is_steal_asked)
            })
            .max_by_key(|connection| {
                self.leases
                    .get(connection)
                    .map_or(0, |lease| lease.in_flight.len())
            });
        let Some(victim) = victim else { return };
        let Some(lease) = self.leases.get_mut(&victim) else {
            return;
        };
        let waiting = lease.in_flight.len().saturating_sub(1);
        if waiting > 0
            && execution * u32::try_from(waiting).unwrap_or(u32::MAX) > PIPELINE_TARGET / 2
        {
            lease.is_steal_asked = true;
            effects.push(steal_effect(victim, waiting.div_ceil(2)));
        }
    }

    /// A worker was leased, and its lane is open.
    pub(super) fn granted(
        &mut self,
        key: LeaseRequestKey,
        lease_id: u64,
        worker: ProcessAddress,
        connection: ConnectionId,
        clock: &mut Clock,
    ) {
        let now = clock.now();
        let class = self.class_mut(key.class);
        class.open_requests.retain(|open| *open != key);
        class.leases.push(connection);
        self.leases.insert(
            connection,
            Lease {
                class: key.class,
                lease_id,
                worker,
                in_flight: VecDeque::new(),
                is_blocked: false,
                is_leaving: false,
                is_unusable: false,
                condemned_at: None,
                is_condemnation_told: false,
                idle_since: Some(now),
                busy_since: now,
                is_steal_asked: false,
                templates: TemplateSlots::default(),
            },
        );
        clock.tick_by(now + self.idle_limit);
    }

    /// A granted worker could not be reached: another is asked for if tasks still wait.
    pub(crate) fn retracted(&mut self, key: LeaseRequestKey, effects: &mut Effects) {
        if self.is_requested(key) {
            let class = self.class_mut(key.class);
            class.open_requests.retain(|open| *open != key);
            self.adjust_requests(key.class, effects);
        }
    }

    /// The request ended without a worker. Returns the tasks that cannot be run, since no other request is left.
    pub(super) fn refused(&mut self, key: LeaseRequestKey) -> Vec<TaskId> {
        if !self.is_requested(key) {
            return Vec::new();
        }
        let class = self.class_mut(key.class);
        class.open_requests.retain(|open| *open != key);
        if class.leases.is_empty() && class.open_requests.is_empty() {
            class.queue.take().collect()
        } else {
            Vec::new()
        }
    }

    /// Nothing can ever satisfy the request, as the cluster is now. Returns the tasks that cannot be run.
    pub(super) fn infeasible(
        &mut self,
        key: LeaseRequestKey,
        effects: &mut Effects,
    ) -> Vec<TaskId> {
        if !self.is_requested(key) {
            return Vec::new();
        }
        let class = self.class_mut(key.class);
        for key in std::mem::take(&mut class.open_requests) {
            effects.push(Effect::CancelLease { key });
        }
        if class.leases.is_empty() {
            class.queue.take().collect()
        } else {
            // The workers it has run its tasks. The raylet says this once per request: when a worker goes it is asked anew.
            Vec::new()
        }
    }

    /// Tasks that wait for a worker, with some that were cancelled since.
    pub(super) fn queued(&self) -> impl Iterator<Item = TaskId> {
        let queues = self.classes.iter().map(|class| &class.queue);
        queues.flat_map(queue::TaskQueue::iter)
    }

    /// Tasks that were pushed and have not come back.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = (ConnectionId, TaskId)> {
        let leases = self.leases.iter();
        leases
            .flat_map(|(connection, lease)| lease.in_flight.iter().map(|task| (*connection, *task)))
    }

    /// The broken invariant, if one is.
    pub(super) fn check(&self) -> Result<(), String> {
        for (connection, lease) in &self.leases {
            let class = &self.classes[lease.class.0 as usize];
            let entered = class.leases.iter().filter(|known| *known == connection);
            if entered.count() != 1 {
                return Err(format!(
                    "CLASS-1: {connection:?} is not once among its class"
                ));
            }
            if lease.in_flight.is_empty() != lease.idle_since.is_some() {
                return Err(format!(
                    "CLASS-1: {connection:?} is idle with tasks, or never goes"
                ));
            }
            if lease.in_flight.is_empty() && lease.is_leaving {
                return Err(format!("CLASS-1: {connection:?} is to go, and does not"));
            }
        }
        let entered: usize = self.classes.iter().map(|class| class.leases.len()).sum();
        if entered != self.leases.len() {
            return Err(format!(
                "CLASS-1: {entered} leases are entered, of {}",
                self.leases.len()
            ));
        }
        Ok(())
    }
}

fn steal_effect(connection: ConnectionId, count: usize) -> Effect {
    let steal = wire::StealTasks {
        max_tasks: u32::try_from(count).unwrap_or(u32::MAX),
    };
    Effect::Send {
        connection,
        frame: wire::LaneFrame {
            kind: Some(wire::lane_frame::Kind::StealTasks(steal)),
        },
        payload: aktis_lane::PayloadParts::default(),
        urgency: Urgency::Now,
    }
}
