//! Work that came in and waits for an executor thread.
//!
//! The executor thread waits like any other thread: it polls the sockets itself, so that a call is executed by the
//! thread that read it, without a hop. While it runs user code for long, the lane thread reads on and queues here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::ids::TaskId;
use rustc_hash::FxHashSet;

use crate::lane::connection::ConnectionId;
use crate::lane::reactor::Reactor;
use crate::lane::turn::Waiter;
use crate::lane::wait::WaitEnd;
use crate::runtime::{ActorStart, ReceivedCall};
use crate::sync::Mutex;

/// One thing for an executor to do.
pub enum Work {
    /// Run a task or an actor call.
    Call(Box<ReceivedCall>),
    /// Become an actor.
    StartActor(Box<ActorStart>),
    /// End the process.
    Exit(String),
}

#[derive(Default)]
struct Queued {
    work: VecDeque<Work>,
    idle: Vec<Arc<Waiter>>,
    cancelled: FxHashSet<TaskId>,
    /// Executor threads that wait in `get`: tasks that come in now go back.
    blocked: u32,
}

/// The queue between the lanes and the executor threads.
#[derive(Default)]
pub(crate) struct ExecutionQueue {
    queued: Mutex<Queued>,
}

impl ExecutionQueue {
    pub(crate) fn push(&self, work: Work) {
        let mut queued = self.queued.lock();
        queued.work.push_back(work);
        if let Some(waiter) = queued.idle.pop() {
            waiter.count_down();
        }
    }

    /// The next piece of work; `None` when `slice` is over or a signal came.
    pub(crate) fn next(&self, reactor: &Reactor, slice: Option<Duration>) -> Option<Work> {
        loop {
            let waiter = {
                let mut queued = self.queued.lock();
                if let Some(work) = queued.work.pop_front() {
                    return Some(work);
                }
                let waiter = Waiter::new(1);
                queued.idle.push(Arc::clone(&waiter));
                waiter
            };
            let end = reactor.wait(&waiter, None, slice);
            self.queued
                .lock()
                .idle
                .retain(|idle| !Arc::ptr_eq(idle, &waiter));
            if end != WaitEnd::Done {
                return self.queued.lock().work.pop_front();
            }
        }
    }

    /// Takes at most `count` tasks (not actor calls) that are not started, newest first, out of the queue.
    pub(crate) fn take_back(
        &self,
        connection: Option<ConnectionId>,
        count: usize,
    ) -> Vec<Box<ReceivedCall>> {
        let mut queued = self.queued.lock();
        let mut taken = Vec::new();
        let mut index = queued.work.len();
        while index > 0 && taken.len() < count {
            index -= 1;
            let is_wanted = matches!(&queued.work[index], Work::Call(call)
                if !call.is_actor_call() && connection.is_none_or(|id| call.connection_id() == id));
            if is_wanted && let Some(Work::Call(call)) = queued.work.remove(index) {
                taken.push(call);
            }
        }
        taken.reverse();
        taken
    }

    /// The caller is gone: what it asked for and was not started is dropped.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        self.queued
            .lock()
            .work
            .retain(|work| !matches!(work, Work::Call(call) if call.connection_id() == connection));
    }

    /// The task is not to be started any more.
    pub(crate) fn cancel(&self, task: TaskId) {
        self.queued.lock().cancelled.insert(task);
    }

    /// Whether the task was cancelled; asked once, when it is about to start.
    pub(crate) fn take_cancelled(&self, task: TaskId) -> bool {
        let mut queued = self.queued.lock();
        !queued.cancelled.is_empty() && queued.cancelled.remove(&task)
    }

    /// An executor thread begins or stops to wait in `get`.
    pub(crate) fn add_blocked(&self, is_blocked: bool) {
        let mut queued = self.queued.lock();
        queued.blocked = if is_blocked {
            queued.blocked + 1
        } else {
            queued.blocked.saturating_sub(1)
        };
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.queued.lock().work.is_empty()
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.queued.lock().blocked > 0
    }
}
