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

#[cfg(test)]
mod tests {
    use aktis_common::ids::{NodeId, WorkerId};

    use super::*;
    use crate::core::keys::ConnectionId;
    use crate::core::processes::{Process, Role};

    fn table() -> ProcessTable {
        let mut table = ProcessTable::new(NodeId::NIL);
        assert!(table.insert(Process {
            connection: ConnectionId(1),
            worker: WorkerId::NIL,
            role: Role::Driver,
            job: None,
            pid: 1,
            is_leaving: false,
            has_ended: false,
        }));
        assert_eq!(table.check(), Ok(()));
        table
    }

    #[test]
    fn name_without_a_connection_is_seen() {
        let mut table = table();
        table.by_connection.clear();
        assert_eq!(table.check().unwrap_err().label, "PROC-1");
    }

    #[test]
    fn connected_process_whose_end_is_awaited_is_seen() {
        let mut table = table();
        table.unended.insert(ConnectionId(1));
        assert_eq!(table.check().unwrap_err().label, "PROC-2");
    }
}
