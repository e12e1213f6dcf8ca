//! Processes say hello.

use aktis_common::ids::{InvalidId, JobId, WorkerId};
use aktis_proto::VERSION;
use aktis_proto::v1::{AddJobRequest, Address, Hello, ProcessKind};

use super::{Process, ProcessTable, Role};
use crate::core::effect::{Effect, GcsReport};
use crate::core::keys::ConnectionId;
use crate::core::out::Out;

impl ProcessTable {
    /// Who says hello; `None` when it was refused.
    pub fn introduce(
        &self,
        connection: ConnectionId,
        request_id: u64,
        hello: &Hello,
        out: &mut Out,
    ) -> Option<Process> {
        if hello.version != VERSION {
            let message = aktis_proto::refusal_of_version("node", &hello.version);
            out.refuse(connection, request_id, message);
            return None;
        }
        match process_of(connection, hello) {
            Ok(process) => Some(process),
            Err(error) => {
                out.refuse(connection, request_id, error.to_string());
                None
            }
        }
    }

    /// Takes in who was introduced, and welcomes it.
    pub fn take_in(&mut self, process: Process, request_id: u64, hello: Hello, out: &mut Out) {
        let connection = process.connection;
        if !self.insert(process) {
            let message = "a process with this id is connected already";
            return out.refuse(connection, request_id, message);
        }
        if process.role == Role::Driver {
            out.push(Effect::WatchProcess { connection });
            if !hello.likely_modules.is_empty() {
                out.push(Effect::Preload {
                    modules: hello.likely_modules,
                });
            }
            out.push(Effect::Report(GcsReport::AddJob(AddJobRequest {
                job_id: hello.job_id,
                driver: Some(Address::of(self.here, process.worker)),
                entrypoint: hello.entrypoint,
                namespace: hello.namespace.clone(),
                driver_pid: hello.pid,
            })));
        }
        out.push(Effect::Welcome {
            connection,
            request_id,
            job_id: process.job.map(JobId::to_wire).unwrap_or_default(),
            namespace: hello.namespace,
        });
        if process.role == Role::Worker {
            out.push(Effect::AwaitLane {
                worker: process.worker,
            });
        }
    }
}

fn process_of(connection: ConnectionId, hello: &Hello) -> Result<Process, InvalidId> {
    let (role, job) = match hello.kind() {
        ProcessKind::Driver => (Role::Driver, Some(JobId::from_bytes(&hello.job_id)?)),
        ProcessKind::Worker | ProcessKind::Unspecified => (Role::Worker, None),
    };
    Ok(Process {
        connection,
        worker: WorkerId::from_bytes(&hello.worker_id)?,
        role,
        job,
        pid: hello.pid,
        is_leaving: false,
        has_ended: false,
    })
}
