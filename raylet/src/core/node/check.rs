//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::Membership;

impl Membership {
    /// `NODE-3` is about what other tables hold after a registration, and a scenario of the cluster in one process.
    ///
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        for (id, node) in self.others.iter() {
            holds!(
                id != self.here && node.is_alive && node.node_id == id.as_bytes()[..],
                "NODE-4",
                "node {id} is listed as {node:?}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aktis_common::ids::NodeId;
    use aktis_proto::v1::NodeInfo;

    use super::*;

    const HERE: NodeId = NodeId::new([1; 16]);
    const THERE: NodeId = NodeId::new([2; 16]);

    fn info(id: NodeId, is_alive: bool) -> NodeInfo {
        NodeInfo {
            node_id: id.to_wire(),
            is_alive,
            ..NodeInfo::default()
        }
    }

    #[test]
    fn directory_that_lists_this_node_or_a_dead_one_is_seen() {
        for (id, is_alive, is_right) in [
            (THERE, true, true),
            (HERE, true, false),
            (THERE, false, false),
        ] {
            let mut table = Membership::new(HERE, NodeInfo::default(), Duration::ZERO);
            table.others.insert(id, info(id, is_alive));
            let broken = table.check().err().map(|broken| broken.label);
            assert_eq!(broken, (!is_right).then_some("NODE-4"));
        }
    }
}
