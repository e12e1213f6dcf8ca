//! Cancelling tasks: as their owner, for their owner, and in the worker that runs them.
//!
//! ```text
//!  cancel(reference) ── own ──► core ── CancelTask ──► worker: queued ─► dropped and answered
//!        └─ borrowed ─ CancelRequest ─► owner                  running ─► children, then the Canceller, or SIGKILL
//! ```
//! SIGKILL takes what the process owns along. If others refer to any of it the process is first given a moment to end in good
//! order, and then stays for them (`LEND-1`).

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::TaskId;
use aktis_lane::Urgency;
use aktis_proto::v1 as wire;
use rustix::process::{Signal, getpid, kill_process};

use super::calls::{CallOutcome, ReceivedCall};
use super::executor::send_returned;
use super::{ObjectStream, ProcessRole, Runtime};
use crate::core::{Cancel, CancelError};
use crate::error::TaskFailure;
use crate::execution::{Cancelled, INTERRUPT_AGAIN, InterruptClaim, current_task};
use crate::reference::{ObjectRef, ProcessAddress};

/// How long a task that is cancelled by force may take to end by itself when others need what its process owns. Below the time
/// after which its owner has the process killed. Counted in pauses: time in which the process was stopped is not its own.
const LENDER_PATIENCE: Duration = Duration::from_secs(1);
const LENDER_PAUSES: u32 = 20;

/// Told that a running task was cancelled; from a thread that reads lanes. What it does is the embedder's business.
pub type Canceller = Box<dyn Fn(TaskId) + Send + Sync>;

impl Runtime {
    /// Cancels the task that makes the object. One that has ended stays as it is.
    ///
    /// # Errors
    /// When a call of an actor is to be cancelled by force.
    pub fn cancel(
        &self,
        reference: &ObjectRef,
        is_forced: bool,
        is_recursive: bool,
    ) -> Result<(), TaskFailure> {
        let how = Cancel {
            is_forced,
            is_recursive,
        };
        self.cancel_task(reference.id().task(), reference.owner(), how)
    }

    /// Cancels a generator.
    ///
    /// # Errors
    /// As [`Self::cancel`].
    pub fn cancel_stream(
        &self,
        stream: &ObjectStream,
        is_forced: bool,
        is_recursive: bool,
    ) -> Result<(), TaskFailure> {
        let how = Cancel {
            is_forced,
            is_recursive,
        };
        self.cancel_task(stream.task(), self.0.me, how)
    }

    fn cancel_task(
        &self,
        task: TaskId,
        owner: ProcessAddress,
        how: Cancel,
    ) -> Result<(), TaskFailure> {
        self.check_open()?;
        if owner.worker == self.0.me.worker {
            return self.cancel_own(task, how).map_err(|refused| {
                TaskFailure::new(ErrorCode::InvalidArgument, refused.to_string())
            });
        }
        let request = wire::CancelRequest {
            task_id: task.to_wire(),
            force: how.is_forced,
            recursive: how.is_recursive,
        };
        self.tell_peer(owner, wire::lane_frame::Kind::CancelRequest(request));
        Ok(())
    }

    fn cancel_own(&self, task: TaskId, how: Cancel) -> Result<(), CancelError> {
        self.with_core(|core, effects| core.cancel(task, how, effects))
    }

    /// A borrower wants a task of this process to be cancelled.
    pub(super) fn on_cancel_request(&self, task: TaskId, request: &wire::CancelRequest) {
        let how = Cancel {
            is_forced: request.force,
            is_recursive: request.recursive,
        };
        if let Err(refused) = self.cancel_own(task, how) {
            tracing::warn!(%task, %refused, "a borrower's wish to cancel is refused");
        }
    }

    /// The caller of a task that was pushed here wants it to end.
    pub(super) fn on_cancel_task(&self, task: TaskId, wish: &wire::CancelTask) {
        match self.queue().cancel(task) {
            Cancelled::Dropped(call) => {
                let failure = call.cancelled();
                call.finish(CallOutcome::failed(failure, Duration::ZERO));
            }
            Cancelled::Running => {
                if wish.recursive {
                    let how = Cancel {
                        is_forced: wish.force,
                        is_recursive: true,
                    };
                    self.with_core(|core, effects| core.cancel_children(task, how, effects));
                }
                if wish.force {
                    self.end_by_force(task);
                } else if let Some(canceller) = self.0.canceller.get() {
                    canceller(task);
                }
            }
            Cancelled::Unknown => {}
        }
    }

    /// Ends this process with the task that it runs: at once, unless it owns what others need.
    fn end_by_force(&self, task: TaskId) {
        let canceller = self.0.canceller.get();
        let Some(canceller) = canceller.filter(|_| self.0.core.look(|core| core.may_be_lending()))
        else {
            return self.end_with(task);
        };
        let runtime = self.clone();
        let patience = std::thread::Builder::new()
            .name("aktis-patience".to_owned())
            .spawn(move || {
                for _ in 0..LENDER_PAUSES {
                    std::thread::sleep(LENDER_PATIENCE / LENDER_PAUSES);
                }
                runtime.end_with(task);
            });
        if patience.is_err() {
            return self.end_with(task);
        }
        for call in self.queue().take_back(None, usize::MAX) {
            give_back(call);
        }
        self.ask_to_exit("its task was cancelled by force");
        canceller(task);
    }

    /// Kills this process, if it still runs the task. Tasks that wait behind it go back to their owners first.
    fn end_with(&self, task: TaskId) {
        self.queue().end_if_running(task, |waiting| {
            waiting.for_each(give_back);
            let cause = format!(
                "killed itself, since its task {task} was cancelled with force=True; what it owned went with it, which \
                 cancel() without force spares"
            );
            let goodbye = wire::node_frame::Kind::Goodbye(wire::Goodbye { cause });
            self.0.node.tell(goodbye, Urgency::Now);
            // Fails only for a process that does not exist.
            let _ = kill_process(getpid(), Signal::KILL);
        });
    }

    /// How user code that runs is ended; set once, by the embedder of a worker.
    pub fn set_canceller(&self, canceller: Canceller) {
        // A second one would be a defect of the embedder; the first stays.
        let _ = self.0.canceller.set(canceller);
    }

    /// The main thread begins to run the code of a task, which [`Self::interrupt`] may interrupt. False: it was
    /// cancelled before.
    pub fn begin_on_main(&self, task: TaskId) -> bool {
        self.queue().begin_on_main(task)
    }

    /// The main thread is done with the code of its task.
    pub fn end_on_main(&self) {
        self.queue().end_on_main();
    }

    /// Sends SIGINT to this process if its main thread runs the task's code. Linux gives it to the main thread.
    pub fn interrupt(&self, task: TaskId) {
        self.queue().interrupt_on_main(task, signal_main);
        self.reactor().call_lane(INTERRUPT_AGAIN);
    }

    /// Sends the signal again where nobody has heard it. Says when to come again.
    pub(super) fn repeat_interrupt(&self, now: Instant) -> Option<Duration> {
        self.queue().repeat_interrupt(now, signal_main)
    }

    /// For the handler of SIGINT: whom the signal was for.
    pub fn claim_interrupt(&self) -> InterruptClaim {
        self.queue().claim_interrupt()
    }

    /// Whether this running task was cancelled.
    pub fn is_cancelled(&self, task: TaskId) -> bool {
        self.queue().is_cancelled(task)
    }

    /// The task on whose behalf the calling thread runs. A thread that a task started counts as the task's.
    pub(super) fn current_task(&self) -> Option<TaskId> {
        match self.0.role {
            ProcessRole::Driver => None,
            ProcessRole::Worker { .. } => current_task().or_else(|| self.queue().on_main()),
        }
    }
}

fn signal_main() {
    // Fails only for a process that does not exist.
    let _ = kill_process(getpid(), Signal::INT);
}

/// A task that was not started goes back to its owner.
fn give_back(call: Box<ReceivedCall>) {
    let connection = std::sync::Arc::clone(call.connection());
    send_returned(&connection, &[call], false);
}
