//! What executor threads ask for: the next piece of work, and giving back what was not started.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_lane::{Connection, PayloadParts, Urgency, WatchedFd};
use aktis_proto::v1 as wire;
use wire::lane_frame::Kind as LaneKind;

use super::Runtime;
use super::calls::ReceivedCall;
use super::lane_table::LaneRole;
use crate::error::TaskFailure;
use crate::execution::Work;
use aktis_common::marks::{Point, mark};

/// How long a process that ends waits for its callers to read its answers.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// The descriptor of an event loop, see [`Runtime::watch_loop`].
pub struct LoopWatch(Arc<WatchedFd>);
impl Runtime {
    /// The next piece of work for the calling executor thread. `None`: look for signals and call again.
    pub fn next_work(&self, slice: Option<Duration>) -> Option<Work> {
        let Some(work) = self.queue().next(self.reactor(), slice) else {
            self.0.rest.found_nothing(&self.0.node);
            return None;
        };
        mark(Point::Taken);
        self.0.rest.found_work(&self.0.node);
        if let Work::Call(call) = &work
            && !call.is_actor_call()
        {
            *self.0.job.lock() = call.job();
        }
        Some(work)
    }

    /// This process has one executor thread, which is the actor's whose constructor calls this. From now on others have the
    /// actor's CPUs while nobody calls it for a second or longer.
    pub fn rest_when_idle(&self) {
        self.0.rest.want();
    }

    /// The next piece of work for an event loop that is the executor, if there is one.
    pub fn try_next_work(&self) -> Option<Work> {
        let work = self.queue().try_next()?;
        mark(Point::Taken);
        Some(work)
    }

    /// Adds the descriptor by which an event loop waits, so that it can wait for work at the same time.
    pub fn watch_loop(&self, fd: OwnedFd) -> Result<LoopWatch, TaskFailure> {
        self.queue().set_loop();
        self.reactor().watch(fd).map(LoopWatch).map_err(|error| {
            let message = format!("cannot watch the descriptor of an event loop: {error}");
            TaskFailure::new(ErrorCode::Internal, message)
        })
    }

    /// Waits until there is work, the loop has events, or the limit is over. May return for no reason.
    pub fn wait_for_work(&self, watch: &LoopWatch, limit: Option<Duration>) {
        self.queue().wait_beside(self.reactor(), &watch.0, limit);
    }

    /// Makes the executor thread of this process end, from any thread.
    pub fn ask_to_exit(&self, reason: &str) {
        self.queue().push(Work::Exit(reason.to_owned()));
    }

    /// Tells the raylet that this process is about to end because it is meant to: an actor is not started again.
    pub fn announce_leaving(&self) {
        self.0.node.tell(
            wire::node_frame::Kind::Goodbye(wire::Goodbye::default()),
            Urgency::Now,
        );
    }

    /// Before the process ends: hands everything that was sent to the kernel, which delivers it also when the process is gone.
    /// Without it an answer could be lost that is longer than what a socket takes at once, or that waits for others.
    pub fn drain(&self) {
        if !self.is_closed() && !self.reactor().drain(DRAIN_PATIENCE) {
            tracing::warn!(
                "a caller did not read its answers for {DRAIN_PATIENCE:?}: they are lost"
            );
        }
    }

    /// Gives at most `count` tasks that are not started back to their callers.
    pub(super) fn give_back(&self, connection: &Arc<Connection>, count: usize, is_blocked: bool) {
        let taken = self.queue().take_back(Some(connection.id), count);
        send_returned(connection, &taken, is_blocked);
    }

    /// The calling executor thread is about to wait: its CPU is given back, and so are the tasks behind it.
    pub(super) fn enter_blocked(&self) {
        self.queue().add_blocked(true);
        self.0.node.tell(
            wire::node_frame::Kind::Blocked(wire::Blocked {}),
            Urgency::Now,
        );
        let leased: Vec<_> = {
            let lanes = self.0.lanes.lock();
            let is_leased = |role: &LaneRole| role.hello().is_some_and(|hello| hello.lease_id != 0);
            lanes
                .iter()
                .filter(|lane| is_leased(&lane.role))
                .map(|lane| Arc::clone(&lane.connection))
                .collect()
        };
        for connection in leased {
            self.give_back(&connection, usize::MAX, true);
        }
    }

    pub(super) fn leave_blocked(&self) {
        self.queue().add_blocked(false);
        self.0.node.tell(
            wire::node_frame::Kind::Unblocked(wire::Unblocked {}),
            Urgency::Now,
        );
    }
}

pub(super) fn send_returned(
    connection: &Arc<Connection>,
    calls: &[Box<ReceivedCall>],
    is_blocked: bool,
) {
    let task_ids = calls.iter().map(|call| call.task().to_wire()).collect();
    let returned = wire::TasksReturned {
        task_ids,
        is_blocked,
    };
    let frame = wire::LaneFrame {
        kind: Some(LaneKind::TasksReturned(returned)),
    };
    // An owner that is gone does not want them back.
    let _ = connection.send(&frame, &PayloadParts::default(), Urgency::Now);
}
