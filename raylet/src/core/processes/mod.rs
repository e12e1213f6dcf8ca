//! The processes that are connected to this node: who they are.
//!
//! - `PROC-1 (one-connection)`: a worker id names at most one connection.

use aktis_common::ids::{JobId, WorkerId};
use rustc_hash::FxHashMap;

use crate::core::keys::ConnectionId;

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs a user's program.
    Driver,
    /// It runs tasks and actors.
    Worker,
}

/// A process that said hello.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its id as an owner and on lanes.
    pub worker: WorkerId,
    /// What it is.
    pub role: Role,
    /// The job of a driver.
    pub job: Option<JobId>,
    /// Its process id, as it says.
    pub pid: u32,
    /// Whether it announced its end.
    pub is_leaving: bool,
    /// Whether the end of its connection stands for that of the process: it has ended, or nobody can watch it.
    pub has_ended: bool,
}

/// All connected processes.
#[derive(Debug, Default)]
pub struct ProcessTable {
    by_connection: FxHashMap<ConnectionId, Process>,
    by_worker: FxHashMap<WorkerId, ConnectionId>,
}

impl ProcessTable {
    /// Enters a process. False if its id or its connection is in the table already (`PROC-1`).
    pub fn insert(&mut self, process: Process) -> bool {
        let is_known = self.by_worker.contains_key(&process.worker)
            || self.by_connection.contains_key(&process.connection);
        if is_known {
            return false;
        }
        self.by_worker.insert(process.worker, process.connection);
        self.by_connection.insert(process.connection, process);
        true
    }

    /// The process behind a connection.
    pub fn get(&self, connection: ConnectionId) -> Option<&Process> {
        self.by_connection.get(&connection)
    }

    /// Notes that a process announced its end.
    pub fn note_leaving(&mut self, connection: ConnectionId) {
        if let Some(process) = self.by_connection.get_mut(&connection) {
            process.is_leaving = true;
        }
    }

    /// Notes that a process has ended, or cannot be watched. False if it is not in the table.
    pub fn note_ended(&mut self, connection: ConnectionId) -> bool {
        let process = self.by_connection.get_mut(&connection);
        process.map(|process| process.has_ended = true).is_some()
    }

    /// The connection of a process.
    pub fn connection_of(&self, worker: WorkerId) -> Option<ConnectionId> {
        self.by_worker.get(&worker).copied()
    }

    /// Strikes a process out.
    pub fn remove(&mut self, connection: ConnectionId) -> Option<Process> {
        let process = self.by_connection.remove(&connection)?;
        self.by_worker.remove(&process.worker);
        Some(process)
    }

    /// All processes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_connection.values()
    }

    /// Connections of the drivers of a job.
    pub fn drivers_of(&self, job: JobId) -> impl Iterator<Item = ConnectionId> {
        self.iter()
            .filter(move |process| process.role == Role::Driver && process.job == Some(job))
            .map(|process| process.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(connection: u64, worker: u8) -> Process {
        Process {
            connection: ConnectionId(connection),
            worker: WorkerId::new([worker; 16]),
            role: Role::Driver,
            job: Some(JobId::NIL),
            pid: 1,
            is_leaving: false,
            has_ended: false,
        }
    }

    #[test]
    fn second_connection_under_a_taken_id_is_refused() {
        let mut table = ProcessTable::default();
        assert!(table.insert(process(1, 7)));
        assert!(!table.insert(process(2, 7)), "PROC-1");
        assert!(!table.insert(process(1, 8)), "PROC-1");
        table.remove(ConnectionId(1));
        assert!(table.insert(process(2, 7)));
    }
}
