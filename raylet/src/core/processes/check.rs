//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::ProcessTable;

impl ProcessTable {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let count = self.by_connection.len();
        let names = self.by_worker.len();
        holds!(
            count == names,
            "PROC-1",
            "{count} connections under {names} names"
        );
        for (connection, process) in &self.by_connection {
            let named = self.by_worker.get(&process.worker);
            holds!(
                process.connection == *connection && named == Some(connection),
                "PROC-1",
                "connection {connection} is {process:?}, whose name leads to {named:?}"
            );
            holds!(
                !self.unended.contains(connection),
                "PROC-2",
                "{process:?} is connected, and its end is awaited"
            );
        }
        Ok(())
    }
}
