//! The processes that are connected to this node: who they are, and what all of them are told.
//!
//! Owns: who is behind which connection, and the connections of drivers that ended before their processes. Does not own:
//! the lives of worker processes (the pool).
//!
//! - `PROC-1 (one-connection)`: a worker id names at most one connection.
//! - `PROC-2 (ended-once)`: a process whose end is awaited is connected no more.

mod check;
mod greeting;
mod parting;

use aktis_common::ids::{JobId, NodeId, WorkerId};
use aktis_proto::v1::{LeaseReclaim, node_frame};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::core::keys::ConnectionId;
use crate::core::out::Out;

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs a user's program.
    Driver,
    /// It runs tasks and actors.
    Worker,
}

/// A process that said hello.
#[derive(Debug, Clone, Copy)]
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

/// What happens to a process.
#[derive(Debug)]
pub enum ProcessEvent {
    /// Its connection has ended.
    Gone(Process),
}

/// All connected processes.
#[derive(Debug)]
pub struct ProcessTable {
    here: NodeId,
    by_connection: FxHashMap<ConnectionId, Process>,
    by_worker: FxHashMap<WorkerId, ConnectionId>,
    /// Connections of drivers that have ended, while their processes may be using the store.
    unended: FxHashSet<ConnectionId>,
}

impl ProcessTable {
    /// A table of node `here`, to which nobody is connected.
    pub fn new(here: NodeId) -> Self {
        Self {
            here,
            by_connection: FxHashMap::default(),
            by_worker: FxHashMap::default(),
            unended: FxHashSet::default(),
        }
    }

    /// Enters a process. False if its id or its connection is in the table already (`PROC-1`).
    fn insert(&mut self, process: Process) -> bool {
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

    /// Strikes a process out.
    fn remove(&mut self, connection: ConnectionId) -> Option<Process> {
        let process = self.by_connection.remove(&connection)?;
        self.by_worker.remove(&process.worker);
        Some(process)
    }

    /// Every process is told this.
    pub fn tell_all(&self, kind: &node_frame::Kind, out: &mut Out) {
        for process in self.by_connection.values() {
            out.notify(process.connection, kind.clone());
        }
    }

    /// Others wait for a lease that this process holds, here or elsewhere.
    pub fn ask_back(&self, owner: WorkerId, reclaim: LeaseReclaim, out: &mut Out) {
        if let Some(connection) = self.by_worker.get(&owner) {
            out.notify(*connection, node_frame::Kind::LeaseReclaim(reclaim));
        }
    }

    /// Whether a process is connected.
    pub fn is_connected(&self, worker: WorkerId) -> bool {
        self.by_worker.contains_key(&worker)
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
        let mut table = ProcessTable::new(NodeId::NIL);
        assert!(table.insert(process(1, 7)));
        assert!(!table.insert(process(2, 7)), "PROC-1");
        assert!(!table.insert(process(1, 8)), "PROC-1");
        table.remove(ConnectionId(1));
        assert!(table.insert(process(2, 7)));
    }
}
