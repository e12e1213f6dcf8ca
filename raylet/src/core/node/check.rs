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
