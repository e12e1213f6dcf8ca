//! The end of a worker in good order: it stays until others need nothing of it any more.
//!
//! ```text
//!  last call answered ──► owes nothing ───────────────────────────────► end
//!                    └──► Lingering told ── lent objects, own tasks ──► end
//! ```
//! Its code has ended, and calls that come in now go back. The lanes on which calls came are closed, so that nobody waits for
//! an answer; those by which others read its objects stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_lane::{ConnectionId, Urgency};
use aktis_proto::v1 as wire;
use wire::node_frame::Kind;

use super::Runtime;
use super::calls::{CallOutcome, ReceivedCall};
use super::executor::send_returned;
use crate::devices;
use crate::error::TaskFailure;
use crate::execution::Work;

/// How often it is looked whether anything is still needed; longer if looking takes long.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Runtime {
    /// To be called when the code of this process has ended, before the process does. Returns when others need nothing of it
    /// any more (`LEND-1`), or the job is over.
    pub fn linger(&self) {
        if !self.is_needed() {
            return;
        }
        self.with_core(|core, effects| core.drop_streams(effects));
        self.queue().close().into_iter().for_each(refuse);
        self.drain();
        if !self.owes() {
            return;
        }
        self.close_call_lanes();
        devices::end_children();
        let lingering = wire::Lingering {
            holds_devices: !devices::are_released(),
        };
        self.0.node.tell(Kind::Lingering(lingering), Urgency::Now);
        let mut pause = LOOK_EVERY;
        loop {
            match self.next_work(Some(pause)) {
                Some(Work::Call(call)) => refuse(call),
                Some(Work::StartActor(start)) => {
                    start.finish(Err(ended("the process ended before the actor began")));
                }
                // Asked to end: it does, when it can.
                Some(Work::Exit(_)) | None => {}
                Some(Work::ExitForGood(_)) => return,
            }
            let begun = Instant::now();
            if self.is_closed() || !self.owes() {
                return;
            }
            pause = LOOK_EVERY.max(begun.elapsed() * 50);
        }
    }

    /// Whether others need anything of this process.
    pub fn is_needed(&self) -> bool {
        !self.is_closed() && !self.0.life.is_dismissed() && self.owes()
    }

    /// [`Self::linger`] returns at once.
    pub fn linger_no_more(&self) {
        self.0.life.dismiss();
    }

    fn owes(&self) -> bool {
        self.with_core(|core, effects| {
            core.let_actors_go(effects);
            core.owes()
        })
    }

    /// Calls that were not answered are not going to be.
    fn close_call_lanes(&self) {
        let lanes: Vec<ConnectionId> = {
            let lanes = self.0.lanes.lock();
            let open = lanes.iter();
            open.filter(|lane| lane.role.carries_calls())
                .map(|lane| lane.connection.id)
                .collect()
        };
        for lane in lanes {
            self.close_lane(lane);
            self.0.core.note(|core| core.objects.remove_peer(lane));
        }
    }
}

/// A call that comes too late: tasks run elsewhere, the actor is no more.
fn refuse(call: Box<ReceivedCall>) {
    if call.is_actor_call() {
        let failure = ended(&format!("the actor ended before it ran {}", call.name()));
        call.finish(CallOutcome::failed(failure, Duration::ZERO));
    } else {
        let connection = Arc::clone(call.connection());
        send_returned(&connection, &[call], true);
    }
}

fn ended(message: &str) -> TaskFailure {
    TaskFailure::new(ErrorCode::ActorDied, message)
}
