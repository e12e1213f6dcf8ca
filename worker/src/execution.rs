//! Work that came in and waits for an executor thread.
//!
//! The executor thread waits like any other thread: it polls the sockets itself, so that a call is executed by the
//! thread that read it, without a hop. While it runs user code for long, the lane thread reads on and queues here.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::{ActorId, TaskId};
use aktis_lane::{ConnectionId, Reactor, WaitEnd, Waiter, WatchedFd};
use aktis_proto::v1::CallTemplate;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use rustix::time::{ClockId, clock_gettime};

use crate::runtime::{ActorStart, ReceivedCall};

/// One thing for an executor to do.
pub enum Work {
    /// Run a task or an actor call.
    Call(Box<ReceivedCall>),
    /// Become an actor.
    StartActor(Box<ActorStart>),
    /// End the process.
    Exit(String),
    /// End the process, whatever others need of it: there are no others any more.
    ExitForGood(String),
}

thread_local! {
    static CURRENT: Cell<Option<TaskId>> = const { Cell::new(None) };
}

/// The task on whose behalf the calling thread runs.
pub fn current_task() -> Option<TaskId> {
    CURRENT.get()
}

/// The calling thread now runs on behalf of this task; what it submits are the task's children.
pub fn set_current_task(task: Option<TaskId>) {
    CURRENT.set(task);
}

/// What became of the wish to cancel a task.
pub(crate) enum Cancelled {
    /// It was not started; the caller answers it.
    Dropped(Box<ReceivedCall>),
    /// It runs.
    Running,
    /// It has ended, or was given back.
    Unknown,
}

/// How long a signal may wait for its handler before it is sent again.
pub(crate) const INTERRUPT_AGAIN: Duration = Duration::from_millis(50);

/// Whose a signal was that reached the main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptClaim {
    /// The running task was cancelled.
    Running,
    /// A task was cancelled that has ended meanwhile.
    Ended,
    /// No task was ever interrupted here: the signal came from elsewhere.
    Foreign,
}

/// A call that was handed out and is not answered.
struct HandedOut {
    template: Arc<CallTemplate>,
    since: Coarse,
}

/// A call that runs, as it is shown.
pub(crate) struct RunningCall {
    pub(crate) task: TaskId,
    pub(crate) template: Arc<CallTemplate>,
    pub(crate) for_how_long: Duration,
}

/// A moment, good to some milliseconds: read for every call, so that it may not cost what a clock costs.
#[derive(Clone, Copy)]
struct Coarse(Duration);

impl Coarse {
    fn now() -> Self {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        let whole = Duration::from_secs(now.tv_sec.try_into().unwrap_or(0));
        Self(whole + Duration::from_nanos(now.tv_nsec.try_into().unwrap_or(0)))
    }

    fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

#[derive(Default)]
struct Queued {
    work: VecDeque<Work>,
    idle: Vec<Arc<Waiter>>,
    /// Calls that were handed out and are not answered.
    running: FxHashMap<TaskId, HandedOut>,
    /// The actor that this process is about to become, and since when.
    starting: Option<(String, ActorId, Coarse)>,
    /// Those of `running` that were cancelled.
    cancelled: FxHashSet<TaskId>,
    /// The task whose code the main thread runs, and that a signal may interrupt.
    on_main: Option<TaskId>,
    /// The task that the last signal was for and when it was sent, until the signal's handler has run.
    interrupted: Option<(TaskId, Instant)>,
    has_interrupted: bool,
    /// The executor is an event loop: it waits, and so writes what was sent, whenever it has nothing to run.
    has_loop: bool,
    /// Executor threads that wait in `get`: tasks that come in now go back.
    blocked: u32,
}

impl Queued {
    fn hand_out(&mut self) -> Option<Work> {
        let work = self.work.pop_front()?;
        match &work {
            Work::Call(call) => {
                let template = Arc::clone(call.template());
                let since = Coarse::now();
                self.running
                    .insert(call.task(), HandedOut { template, since });
            }
            Work::StartActor(start) => {
                self.starting = Some((start.class_name().to_owned(), start.actor(), Coarse::now()));
            }
            Work::Exit(_) | Work::ExitForGood(_) => {}
        }
        Some(work)
    }
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
                if let Some(work) = queued.hand_out() {
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
                return self.queued.lock().hand_out();
            }
        }
    }

    /// The executor is an event loop from now on.
    pub(crate) fn set_loop(&self) {
        self.queued.lock().has_loop = true;
    }

    /// The next piece of work that is there already.
    pub(crate) fn try_next(&self) -> Option<Work> {
        self.queued.lock().hand_out()
    }

    /// Waits until there is work, the descriptor is readable, the limit is over, or a signal comes.
    pub(crate) fn wait_beside(
        &self,
        reactor: &Reactor,
        watched: &WatchedFd,
        limit: Option<Duration>,
    ) {
        let waiter = {
            let mut queued = self.queued.lock();
            if !queued.work.is_empty() {
                return;
            }
            let waiter = Waiter::new(1);
            queued.idle.push(Arc::clone(&waiter));
            waiter
        };
        reactor.wait_beside(watched, &waiter, limit);
        let mut queued = self.queued.lock();
        queued.idle.retain(|idle| !Arc::ptr_eq(idle, &waiter));
    }

    #[allow(clippy::vec_box, reason = "they are boxed in the queue")]
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

    /// The task is not to be started any more, or its end is wished for.
    pub(crate) fn cancel(&self, task: TaskId) -> Cancelled {
        let mut queued = self.queued.lock();
        let waiting = queued
            .work
            .iter()
            .position(|work| matches!(work, Work::Call(call) if call.task() == task));
        if let Some(position) = waiting
            && let Some(Work::Call(call)) = queued.work.remove(position)
        {
            return Cancelled::Dropped(call);
        }
        if queued.running.contains_key(&task) {
            queued.cancelled.insert(task);
            return Cancelled::Running;
        }
        Cancelled::Unknown
    }

    /// If the task runs: hands all tasks that are not started to `end`, which is to end the process. The running task
    /// cannot be answered meanwhile, so that no other dies in its place.
    pub(crate) fn end_if_running(
        &self,
        task: TaskId,
        end: impl FnOnce(&mut dyn Iterator<Item = Box<ReceivedCall>>),
    ) {
        let mut queued = self.queued.lock();
        if queued.running.contains_key(&task) {
            let waiting = std::mem::take(&mut queued.work);
            end(&mut waiting.into_iter().filter_map(|work| match work {
                Work::Call(call) => Some(call),
                Work::StartActor(_) | Work::Exit(_) | Work::ExitForGood(_) => None,
            }));
        }
    }

    /// Whether the task was cancelled while it ran.
    pub(crate) fn is_cancelled(&self, task: TaskId) -> bool {
        let queued = self.queued.lock();
        !queued.cancelled.is_empty() && queued.cancelled.contains(&task)
    }

    /// A call is about to be answered. True: others will be soon, or the loop will wait and send what there is.
    pub(crate) fn finished(&self, task: TaskId) -> bool {
        let mut queued = self.queued.lock();
        queued.running.remove(&task);
        queued.cancelled.remove(&task);
        !queued.work.is_empty() || (queued.has_loop && !queued.running.is_empty())
    }

    /// The constructor of the actor that this process becomes has ended.
    pub(crate) fn actor_started(&self) {
        self.queued.lock().starting = None;
    }

    /// The class of the actor whose constructor runs, and for how long.
    pub(crate) fn starting(&self) -> Option<(String, ActorId, Duration)> {
        let queued = self.queued.lock();
        let (class, actor, since) = queued.starting.as_ref()?;
        Some((class.clone(), *actor, since.elapsed()))
    }

    /// The calls that run, in no order.
    pub(crate) fn running(&self) -> Vec<RunningCall> {
        let queued = self.queued.lock();
        let shown = |(task, call): (&TaskId, &HandedOut)| RunningCall {
            task: *task,
            template: Arc::clone(&call.template),
            for_how_long: call.since.elapsed(),
        };
        queued.running.iter().map(shown).collect()
    }

    /// The main thread begins to run the code of a task. False: it was cancelled before.
    pub(crate) fn begin_on_main(&self, task: TaskId) -> bool {
        let mut queued = self.queued.lock();
        let is_wanted = !queued.cancelled.contains(&task);
        queued.on_main = is_wanted.then_some(task);
        is_wanted
    }

    /// The main thread is done with the code of its task: signals are for it no more.
    pub(crate) fn end_on_main(&self) {
        self.queued.lock().on_main = None;
    }

    /// The task whose code the main thread runs.
    pub(crate) fn on_main(&self) -> Option<TaskId> {
        self.queued.lock().on_main
    }

    /// Calls `signal` if the main thread runs the task's code.
    pub(crate) fn interrupt_on_main(&self, task: TaskId, signal: impl FnOnce()) {
        let mut queued = self.queued.lock();
        if queued.on_main == Some(task) {
            queued.interrupted = Some((task, Instant::now()));
            queued.has_interrupted = true;
            signal();
        }
    }

    /// Calls `signal` again if its handler has not run: one that comes just before the main thread goes to sleep does not wake
    /// it. Says when to come again.
    pub(crate) fn repeat_interrupt(&self, now: Instant, signal: impl FnOnce()) -> Option<Duration> {
        let mut queued = self.queued.lock();
        let (task, sent) = queued.interrupted?;
        if queued.on_main != Some(task) {
            return None;
        }
        let due = sent + INTERRUPT_AGAIN;
        if now < due {
            return Some(due - now);
        }
        queued.interrupted = Some((task, now));
        signal();
        Some(INTERRUPT_AGAIN)
    }

    /// A signal's handler asks, on the main thread, for whom the signal was.
    pub(crate) fn claim_interrupt(&self) -> InterruptClaim {
        let mut queued = self.queued.lock();
        match queued.interrupted.take() {
            Some((task, _)) if queued.on_main == Some(task) => InterruptClaim::Running,
            // Two cancellations of one task may come as two signals: the second finds nothing to claim.
            _ if queued.has_interrupted => InterruptClaim::Ended,
            _ => InterruptClaim::Foreign,
        }
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

    #[allow(clippy::vec_box, reason = "they are boxed in the queue")]
    /// Nothing is run any more: what comes in now goes back, as does what is handed out here.
    pub(crate) fn close(&self) -> Vec<Box<ReceivedCall>> {
        let mut queued = self.queued.lock();
        queued.blocked += 1;
        let mut calls = Vec::new();
        for work in std::mem::take(&mut queued.work) {
            match work {
                Work::Call(call) => calls.push(call),
                Work::StartActor(_) => {}
                exit @ (Work::Exit(_) | Work::ExitForGood(_)) => queued.work.push_back(exit),
            }
        }
        calls
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.queued.lock().blocked > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_is_sent_again_until_its_handler_has_run() {
        let (queue, task) = (ExecutionQueue::default(), TaskId::next());
        let unexpected = || panic!("nobody is to be interrupted");
        assert!(queue.begin_on_main(task));
        let begun = Instant::now();
        assert_eq!(queue.repeat_interrupt(begun, unexpected), None);
        queue.interrupt_on_main(task, || {});
        assert!(
            queue.repeat_interrupt(begun, unexpected).is_some(),
            "not yet"
        );
        let mut sent = 0;
        let later = Instant::now() + INTERRUPT_AGAIN;
        assert_eq!(
            queue.repeat_interrupt(later, || sent += 1),
            Some(INTERRUPT_AGAIN)
        );
        assert_eq!(sent, 1);
        assert_eq!(queue.claim_interrupt(), InterruptClaim::Running);
        assert_eq!(
            queue.repeat_interrupt(later + INTERRUPT_AGAIN, unexpected),
            None
        );
        queue.interrupt_on_main(task, || {});
        queue.end_on_main();
        let ended = Instant::now() + INTERRUPT_AGAIN;
        assert_eq!(
            queue.repeat_interrupt(ended, unexpected),
            None,
            "the task has ended"
        );
    }
}
