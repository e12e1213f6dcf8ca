//! What holds for actors between two events.

use aktis_common::ids::TaskId;

use super::{CalleeTable, Reach};
use crate::core::tasks::TaskTable;
use aktis_lane::ConnectionId;

impl CalleeTable {
    /// The broken invariant, if one is.
    pub(in crate::core) fn check(&self, tasks: &TaskTable) -> Result<(), String> {
        let mut in_flight = 0;
        for (actor, entry) in &self.entries {
            in_flight += entry
                .calls
                .iter()
                .map(|queue| queue.in_flight())
                .sum::<usize>();
            for queue in entry.calls.iter() {
                let waiting = queue.waiting().map(|call| tasks.sequence(call));
                if !waiting.is_sorted() {
                    return Err(format!(
                        "ACTOR-1: calls of actor {actor} wait in another order"
                    ));
                }
            }
            let is_entered = |lane: &ConnectionId| self.by_connection.get(lane) == Some(actor);
            if let Reach::Alive { connection } = &entry.reach
                && !is_entered(connection)
            {
                return Err(format!("ACTOR-1: nobody knows the lane of actor {actor}"));
            }
        }
        if in_flight != self.in_flight {
            return Err(format!(
                "ACTOR-1: {in_flight} calls are sent, not {}",
                self.in_flight
            ));
        }
        Ok(())
    }

    /// Calls that wait to be sent, and those that wait to hear why they were interrupted.
    pub(in crate::core) fn waiting(&self) -> impl Iterator<Item = TaskId> {
        self.entries.values().flat_map(|entry| {
            let waiting = entry.calls.iter().flat_map(|queue| queue.waiting());
            waiting.chain(entry.interrupted.iter().copied())
        })
    }
}
