//! What holds in every state of the table.

use std::collections::BTreeSet;

use aktis_common::checks::Broken;
use aktis_common::holds;
use aktis_proto::convert::node_resources;

use super::NodeTable;

impl NodeTable {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let mut generations = BTreeSet::new();
        for (id, record) in &self.nodes {
            let info = &record.info;
            holds!(
                info.generation <= self.last_generation && generations.insert(info.generation),
                "NODE-G1",
                "node {id} has a number that is not its own, the last is {}: {info:?}",
                self.last_generation
            );
            // What was given up does not live: it comes back under a higher number.
            holds!(
                !info.is_alive || info.given_up_generation < info.generation,
                "NODE-G1",
                "node {id} lives under a number that was given up: {info:?}"
            );
            let mut unbooked = record.resources.clone();
            for allocation in record.bookings.values() {
                unbooked.release(allocation);
            }
            holds!(
                unbooked == node_resources(info),
                "NODE-G2",
                "node {id}: without bookings {unbooked:?}, reported {info:?}"
            );
            holds!(
                info.is_alive || !record.is_untold,
                "NODE-G3",
                "node {id} is dead, and is to be told as living: {info:?}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aktis_common::ids::{ActorId, NodeId};
    use aktis_common::resources::{CPU, ResourceRequest};

    use crate::core::NodeTimeouts;
    use crate::core::nodes::table::{NodeRecord, NodeTable};
    use crate::core::tests::{TIMEOUTS, info};

    /// The label of what is broken once `spoil` has changed a node with two CPUs, of which one is booked.
    fn broken(spoil: impl FnOnce(&mut NodeRecord)) -> &'static str {
        let timeouts: NodeTimeouts = TIMEOUTS;
        let (id, mut table) = (NodeId::random(), NodeTable::new(timeouts, 0));
        table.register(id, info(id, 2), Duration::ZERO);
        let one = ResourceRequest::from_numbers([(CPU, 1.0)], 0).unwrap();
        table.book(id, ActorId::random(), &one);
        assert_eq!(table.check(), Ok(()));
        spoil(table.nodes.get_mut(&id).unwrap());
        table.check().unwrap_err().label
    }

    #[test]
    fn node_that_lives_under_a_number_that_was_given_up_is_seen() {
        assert_eq!(broken(|it| it.info.given_up_generation = 1), "NODE-G1");
    }

    #[test]
    fn room_that_nobody_booked_is_seen() {
        assert_eq!(broken(|it| it.bookings.clear()), "NODE-G2");
    }

    #[test]
    fn dead_node_that_is_to_be_told_as_living_is_seen() {
        let label = broken(|it| {
            it.info.is_alive = false;
            it.is_untold = true;
        });
        assert_eq!(label, "NODE-G3");
    }
}
