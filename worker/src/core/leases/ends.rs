//! How leases go on and end: tasks that come back, workers that leave, idle ones that are returned.

use std::time::{Duration, Instant};

use aktis_common::ids::{NodeId, TaskId};
use aktis_proto::v1 as wire;

use super::{CONDEMNED_FOR, ClassId, ClassTable, Lease, STEAL_AFTER, steal_effect};
use crate::core::clock::Clock;
use crate::core::tasks::TaskTable;
use crate::core::{Effect, Effects};
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;

impl Lease {
    fn to_return(&self) -> wire::LeaseReturn {
        wire::LeaseReturn {
            lease_id: self.lease_id,
            node_id: self.worker.node.to_wire(),
            is_worker_unusable: self.is_unusable,
        }
    }
}

impl ClassTable {
    /// A task came back from a leased worker. To be followed by [`Self::note_if_idle`].
    pub(in crate::core) fn task_ended(
        &mut self,
        connection: ConnectionId,
        task: TaskId,
        execution: Duration,
        is_worker_exiting: bool,
        now: Instant,
    ) {
        let Some(lease) = self.leases.get_mut(&connection) else {
            return;
        };
        if let Some(position) = lease.in_flight.iter().position(|id| *id == task) {
            lease.in_flight.remove(position);
        }
        lease.is_blocked = false;
        lease.busy_since = now;
        if is_worker_exiting {
            lease.is_leaving = true;
            lease.is_unusable = true;
        }
        let class = lease.class;
        self.class_mut(class).learn(execution);
    }

    /// The class whose tasks the worker runs.
    pub(in crate::core) fn class_on(&self, connection: ConnectionId) -> Option<ClassId> {
        Some(self.leases.get(&connection)?.class)
    }

    /// A lease without tasks is returned: at once if it is leaving, or after a while.
    pub(in crate::core) fn note_if_idle(
        &mut self,
        connection: ConnectionId,
        clock: &mut Clock,
        effects: &mut Effects,
    ) {
        let Some(lease) = self.leases.get_mut(&connection) else {
            return;
        };
        if !lease.in_flight.is_empty() {
            return;
        }
        lease.idle_since.get_or_insert(clock.now());
        if lease.is_leaving {
            self.return_lease(connection, effects);
        } else {
            clock.tick_by(clock.now() + self.idle_limit);
        }
    }

    /// A cancelled task waits no more; workers asked for on its account are not needed.
    pub(in crate::core) fn leave_queue(
        &mut self,
        class: ClassId,
        tasks: &TaskTable,
        effects: &mut Effects,
    ) {
        let queue = &mut self.class_mut(class).queue;
        queue.one_was_cancelled(|task| tasks.is_queued(task));
        self.adjust_requests(class, effects);
    }

    /// The worker's process is about to be ended: nothing more is pushed to it.
    pub(in crate::core) fn condemn(&mut self, connection: ConnectionId, clock: &mut Clock) {
        let now = clock.now();
        if let Some(lease) = self.leases.get_mut(&connection) {
            lease.is_leaving = true;
            lease.is_unusable = true;
            lease.condemned_at.get_or_insert(now);
            clock.tick_by(now + CONDEMNED_FOR);
        }
    }

    /// Workers that were to end themselves and have not: their raylets see to it. The first time one is asked to end, the second
    /// time it is killed. Says when to come again.
    pub(in crate::core) fn condemned_tick(
        &mut self,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for lease in self.leases.values_mut() {
            let Some(condemned_at) = lease.condemned_at else {
                continue;
            };
            let mut left = (condemned_at + CONDEMNED_FOR).saturating_duration_since(now);
            if left.is_zero() {
                let was_told = std::mem::replace(&mut lease.is_condemnation_told, true);
                lease.condemned_at = (!was_told).then_some(now);
                left = CONDEMNED_FOR;
                // It stays entered here until its lane is closed, and its tasks with it.
                effects.push(Effect::ReturnLease {
                    returned: lease.to_return(),
                });
            }
            if lease.condemned_at.is_some() {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        next
    }

    /// A worker gives tasks back that it has not started. Returns the class whose queue they belong to; to be followed by
    /// [`Self::note_if_idle`].
    pub(in crate::core) fn returned(
        &mut self,
        connection: ConnectionId,
        tasks: &[TaskId],
        is_blocked: bool,
        clock: &mut Clock,
    ) -> Option<ClassId> {
        let lease = self.leases.get_mut(&connection)?;
        lease.is_steal_asked = false;
        lease.is_blocked |= is_blocked;
        lease.in_flight.retain(|task| !tasks.contains(task));
        if lease.in_flight.len() > 1 {
            // Not all were asked for, or some crossed the question: those behind a long task are asked for again.
            clock.tick_by(clock.now() + STEAL_AFTER);
        }
        Some(lease.class)
    }

    /// The lane of a leased worker is closed. Returns its tasks: they are to be retried or failed (`CLASS-1`).
    pub(crate) fn lane_closed(
        &mut self,
        connection: ConnectionId,
        effects: &mut Effects,
    ) -> Option<(ProcessAddress, Vec<TaskId>)> {
        self.leases.get_mut(&connection)?.is_unusable = true;
        let lease = self.give_up(connection, effects)?;
        self.adjust_requests(lease.class, effects);
        Some((lease.worker, lease.in_flight.into()))
    }

    /// The lease is this process's no more, and the raylet is told.
    fn give_up(&mut self, connection: ConnectionId, effects: &mut Effects) -> Option<Lease> {
        let lease = self.leases.remove(&connection)?;
        self.class_mut(lease.class)
            .leases
            .retain(|open| *open != connection);
        effects.push(Effect::ReturnLease {
            returned: lease.to_return(),
        });
        Some(lease)
    }

    /// Others wait for the resources of this lease.
    pub(crate) fn reclaimed(&mut self, lease_id: u64, node: Option<NodeId>, effects: &mut Effects) {
        let found = self.leases.iter_mut().find(|(_, lease)| {
            lease.lease_id == lease_id && node.is_none_or(|node| lease.worker.node == node)
        });
        let Some((connection, lease)) = found else {
            return;
        };
        let connection = *connection;
        lease.is_leaving = true;
        if lease.in_flight.is_empty() {
            self.return_lease(connection, effects);
        }
    }

    fn return_lease(&mut self, connection: ConnectionId, effects: &mut Effects) {
        let Some(lease) = self.give_up(connection, effects) else {
            return;
        };
        effects.push(Effect::CloseLane { connection });
        self.adjust_requests(lease.class, effects);
    }

    /// Returns leases that have been idle for long, steals from behind long tasks. Says when to come again.
    pub(in crate::core) fn tick(
        &mut self,
        clock: &mut Clock,
        effects: &mut Effects,
    ) -> Option<Duration> {
        let (now, idle_limit) = (clock.now(), self.idle_limit);
        let mut next: Option<Duration> = None;
        let mut expired = Vec::new();
        for (connection, lease) in &mut self.leases {
            let left = if let Some(idle_since) = lease.idle_since {
                idle_limit.saturating_sub(now - idle_since)
            } else if lease.in_flight.len() > 1 && !lease.is_steal_asked {
                let left = STEAL_AFTER.saturating_sub(now - lease.busy_since);
                if left.is_zero() {
                    lease.is_steal_asked = true;
                    effects.push(steal_effect(*connection, lease.in_flight.len() - 1));
                    continue;
                }
                left
            } else {
                continue;
            };
            if left.is_zero() {
                expired.push(*connection);
            } else {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        clock.ticked(next);
        for connection in expired {
            self.return_lease(connection, effects);
        }
        next
    }
}
