//! Calls go to actors, and come back; actors die and live again.

use aktis_common::ids::{ActorId, TaskId};

use crate::core::actors::{CallLimits, Group, NextCall, interruption};
use crate::core::tasks::{NotReady, Retry};
use crate::core::{Core, Effect, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;

impl Core {
    /// Sends the calls that are ready, in order.
    pub(super) fn pump_actor(&mut self, actor: ActorId, effects: &mut Effects) {
        let Some(groups) = self.actors.groups(actor) else {
            return;
        };
        for group in groups {
            self.pump_group(actor, group, effects);
        }
        self.actors.end_if_drained(actor, effects);
    }

    fn pump_group(&mut self, actor: ActorId, group: Group, effects: &mut Effects) {
        loop {
            let (call, connection) = match self.actors.next_call(actor, group, &self.tasks) {
                NextCall::Waits => return,
                NextCall::Fails(call, failure) => {
                    self.fail_task(call, failure, effects);
                    continue;
                }
                NextCall::Leaves(call, connection) => (call, connection),
            };
            match self.tasks.assemble(call, &self.objects) {
                Ok(frame) => {
                    let bytes = frame.1.len_bytes();
                    let Some((slots, urgency)) = self.actors.push(actor, group, bytes) else {
                        return;
                    };
                    self.tasks
                        .push(call, connection, slots, frame, urgency, effects);
                }
                Err(lost @ NotReady::ArgumentLost) => {
                    return self.hold_back(call, lost, effects);
                }
                Err(why) => {
                    // First, since what follows from its end may be a call of the same group.
                    self.actors.skip(actor, group);
                    self.hold_back(call, why, effects);
                }
            }
        }
    }

    /// After a call's end: sends what there is room for, or ends the actor after its last call.
    pub(super) fn continue_calls(
        &mut self,
        (actor, group): (ActorId, Group),
        effects: &mut Effects,
    ) {
        self.pump_group(actor, group, effects);
        self.actors.end_if_drained(actor, effects);
    }

    /// A call that is retried waits again.
    pub(super) fn requeue_call(&mut self, actor: ActorId, call: TaskId, effects: &mut Effects) {
        if self.actors.requeue(actor, call, &self.tasks) {
            self.resolve_dependencies(call, effects);
        }
    }

    /// A lane to the living actor is open.
    pub(crate) fn actor_alive(
        &mut self,
        actor: ActorId,
        address: ProcessAddress,
        connection: ConnectionId,
        limits: CallLimits,
        effects: &mut Effects,
    ) {
        // The end of the lane to the last incarnation may come later than this news: what was sent on it is not answered there
        // any more.
        if let Some(last) = self.actors.lane_of(actor) {
            self.actor_lane_closed(last, effects);
            effects.push(Effect::CloseLane { connection: last });
        }
        let Some(is_same) = self.actors.alive(actor, address, connection, limits) else {
            effects.push(Effect::CloseLane { connection });
            return;
        };
        self.fail_interrupted(actor, is_same, effects);
        self.pump_actor(actor, effects);
        self.settle(effects);
    }

    /// The gcs places the actor anew, and will say where. What its last incarnation was doing is over, however long the
    /// next one takes to begin.
    pub(crate) fn actor_restarting(&mut self, actor: ActorId, effects: &mut Effects) {
        self.actors.restarting(actor);
        self.fail_interrupted(actor, false, effects);
        self.settle(effects);
        self.actors.end_if_drained(actor, effects);
    }

    fn fail_interrupted(&mut self, actor: ActorId, is_same: bool, effects: &mut Effects) {
        for call in self.actors.take_interrupted(actor) {
            if let Some(retries) = self.tasks.retries_given(call) {
                self.fail_task(call, interruption(actor, is_same, retries), effects);
            }
        }
    }

    /// The actor is dead for good.
    pub(crate) fn actor_dead(
        &mut self,
        actor: ActorId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        let Some(lost) = self.actors.dead(actor, &failure, effects) else {
            return;
        };
        for call in lost {
            let cancelled = self.tasks.cancelled_end(call);
            self.fail_task(call, cancelled.unwrap_or_else(|| failure.clone()), effects);
        }
        self.pump_actor(actor, effects);
        self.settle(effects);
        self.actors.dispose(actor);
    }

    /// The actor waits for a place. `failure`: nothing can place it as the cluster is now, so calls fail until that
    /// changes.
    pub(crate) fn actor_pending(
        &mut self,
        actor: ActorId,
        failure: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        if self.actors.pending(actor, failure) {
            self.pump_actor(actor, effects);
            self.settle(effects);
        }
    }

    /// The lane of an actor is closed. Calls with retries left wait for the next incarnation, others for the cause.
    pub(crate) fn actor_lane_closed(&mut self, connection: ConnectionId, effects: &mut Effects) {
        let closed = self.actors.lane_closed(connection, &mut self.clock);
        let Some((actor, sent)) = closed else {
            return;
        };
        for call in sent.into_iter().rev() {
            if let Some(Retry::Again(_)) = self.tasks.retry(call) {
                self.requeue_call(actor, call, effects);
            } else if let Some(failure) = self.tasks.cancelled_end(call) {
                self.fail_task(call, failure, effects);
            } else {
                self.actors.interrupt(actor, call);
            }
        }
        if self.actors.is_restarting(actor) {
            self.fail_interrupted(actor, false, effects);
        }
        self.settle(effects);
    }

    /// The actor is said to be alive, but no lane to it could be opened. `shortage`: because this process lacks what a
    /// lane needs.
    pub(crate) fn actor_unreachable(
        &mut self,
        actor: ActorId,
        shortage: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        if self.actors.unreachable(actor, shortage, &mut self.clock) {
            self.pump_actor(actor, effects);
            self.settle(effects);
        }
    }
}
