//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::PullTable;

impl PullTable {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        for (object, pull) in &self.pulls {
            // Between two events a transfer runs, or all who waited were told that there is none.
            holds!(pull.current.is_some(), "PULL-1", "{object}: {pull:?}");
            let mut sources: Vec<_> = pull.current.iter().collect();
            sources.extend(&pull.untried);
            sources.extend(&pull.tried);
            let count = sources.len();
            sources.sort_unstable();
            sources.dedup();
            holds!(
                count == sources.len() && !sources.contains(&&self.here),
                "PULL-1",
                "a source is named twice, or this node is one: {object}: {pull:?}"
            );
            holds!(!pull.waiters.is_empty(), "PULL-2", "{object}: {pull:?}");
        }
        Ok(())
    }
}
