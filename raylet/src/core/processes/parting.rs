//! Connections end, drivers end, and deaths are told to those who stay.

use aktis_common::ids::JobId;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{Address, FinishJobRequest, ReportWorkerDeathRequest, WorkerDied};

use super::{Process, ProcessEvent, ProcessTable};
use crate::core::effect::{Effect, GcsReport, NodeStoreEffect};
use crate::core::keys::ConnectionId;
use crate::core::out::Out;

impl ProcessTable {
    /// A connection has ended. What the process owned goes at once; what it may still be using goes with the process.
    pub fn connection_ended(&mut self, connection: ConnectionId, out: &mut Out) {
        let Some(process) = self.remove(connection) else {
            return out.push(Effect::Store(NodeStoreEffect::ClientGone { connection }));
        };
        let owner = process.worker;
        out.push(Effect::Store(NodeStoreEffect::OwnerGone { owner }));
        out.tell(ProcessEvent::Gone(process));
    }

    /// The process behind a connection has ended, or cannot be watched.
    pub fn client_ended(&mut self, connection: ConnectionId, out: &mut Out) {
        match self.by_connection.get_mut(&connection) {
            // What it said last may still be in its connection, whose end follows.
            Some(process) => process.has_ended = true,
            None if self.unended.remove(&connection) => {
                out.push(Effect::Store(NodeStoreEffect::ClientGone { connection }));
            }
            None => {}
        }
    }

    /// A driver whose connection has ended: its job may be over, and all hear of its end.
    pub fn driver_gone(&mut self, driver: &Process, out: &mut Out) {
        let connection = driver.connection;
        // One that takes its leave does not touch the store any more.
        if driver.is_leaving || driver.has_ended {
            out.push(Effect::Store(NodeStoreEffect::ClientGone { connection }));
        } else {
            // It is struck out of the connected ones, and its end is awaited once (`PROC-2`).
            self.unended.insert(connection);
        }
        let job_id = driver.job.map(JobId::to_wire).unwrap_or_default();
        if driver.is_leaving {
            let finish = FinishJobRequest {
                job_id: job_id.clone(),
                cause: "finished".to_owned(),
            };
            out.push(Effect::Report(GcsReport::FinishJob(finish)));
        }
        let cause = if driver.is_leaving {
            "finished"
        } else {
            "ended without saying goodbye"
        };
        let died = WorkerDied {
            worker: Some(Address::of(self.here, driver.worker)),
            cause: cause.to_owned(),
            ..WorkerDied::default()
        };
        let report = ReportWorkerDeathRequest {
            death: Some(died),
            is_intended: driver.is_leaving,
            job_id,
            ..ReportWorkerDeathRequest::default()
        };
        self.tell_death(report, out);
    }

    /// Tells the processes of this node and the gcs of a death.
    pub fn tell_death(&self, report: ReportWorkerDeathRequest, out: &mut Out) {
        if let Some(died) = &report.death {
            self.tell_all(&Kind::WorkerDied(died.clone()), out);
        }
        out.push(Effect::Report(GcsReport::WorkerDeath(report)));
    }
}
