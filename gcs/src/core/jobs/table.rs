//! Jobs: what each driver started.
//!
//! - `JOB-1 (away-with-its-node)`: a running job whose driver is away is one whose driver is on that node.
//! - `JOB-2 (ends-once)`: a job that runs has not ended before.

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_common::checks::Broken;
use aktis_common::holds;
use aktis_common::ids::{JobId, NodeId, WorkerId};
use aktis_proto::v1::{AddJobRequest, JobInfo};

/// Finished jobs that stay listed.
const FINISHED_KEPT: usize = 200;

/// All jobs, finished ones for a while too.
#[derive(Debug, Default)]
pub struct JobTable {
    jobs: BTreeMap<JobId, JobInfo>,
    /// Jobs whose driver is away with its node. One that ends meanwhile stays here: its detached actors wait on.
    away: BTreeMap<JobId, Away>,
}

/// The driver of a job is away.
#[derive(Debug, Clone)]
pub struct Away {
    /// Its node.
    pub node: NodeId,
    /// What happened to that.
    pub cause: String,
    /// How long the job goes on without it.
    pub until: Duration,
}

impl JobTable {
    /// Puts back a job after a restart.
    pub fn restore(&mut self, id: JobId, job: JobInfo) {
        self.jobs.insert(id, job);
    }

    /// Adds a job; `None` when it is there already (a call that was sent again).
    pub fn add(&mut self, id: JobId, request: AddJobRequest, unix_millis: u64) -> Option<&JobInfo> {
        if self.jobs.contains_key(&id) {
            return None;
        }
        let job = JobInfo {
            job_id: request.job_id,
            driver: request.driver,
            entrypoint: request.entrypoint,
            namespace: request.namespace,
            driver_pid: request.driver_pid,
            is_running: true,
            started_unix_millis: unix_millis,
            ..JobInfo::default()
        };
        Some(self.jobs.entry(id).or_insert(job))
    }

    /// Ends a job; `None` when it is unknown or over already.
    pub fn finish(&mut self, id: JobId, cause: &str, unix_millis: u64) -> Option<&JobInfo> {
        let job = self.jobs.get_mut(&id).filter(|job| job.is_running)?;
        job.is_running = false;
        job.finished_unix_millis = unix_millis;
        cause.clone_into(&mut job.cause);
        Some(job)
    }

    /// Whether the job is known and not over.
    pub fn is_running(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.is_running)
    }

    /// Whether the job is known and over.
    pub fn is_over(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.is_running)
    }

    /// The running job whose driver is this process.
    pub fn of_driver(&self, driver: WorkerId) -> Option<JobId> {
        let is_driver = |job: &JobInfo| {
            let address = job.driver.as_ref();
            address.and_then(|address| address.worker().ok()) == Some(driver)
        };
        self.jobs
            .iter()
            .find(|(_, job)| job.is_running && is_driver(job))
            .map(|(id, _)| *id)
    }

    /// Running jobs whose driver is on this node.
    pub fn on_node(&self, node: NodeId) -> Vec<JobId> {
        let is_there = |job: &JobInfo| {
            job.driver.as_ref().and_then(|address| address.node().ok()) == Some(node)
        };
        let running = self
            .jobs
            .iter()
            .filter(|(_, job)| job.is_running && is_there(job));
        running.map(|(id, _)| *id).collect()
    }

    /// Running jobs whose driver is on a node of which `is_gone` says so, each with the node.
    pub fn on_nodes_where(&self, is_gone: impl Fn(NodeId) -> bool) -> Vec<(JobId, NodeId)> {
        let running = self.jobs.iter().filter(|(_, job)| job.is_running);
        running
            .filter_map(|(id, job)| Some((*id, job.driver.as_ref()?.node().ok()?)))
            .filter(|(_, node)| is_gone(*node))
            .collect()
    }

    /// The driver of the job is away with its node.
    pub fn set_away(&mut self, job: JobId, away: Away) {
        self.away.insert(job, away);
    }

    /// The node is back, and the drivers there take up their jobs.
    pub fn came_back(&mut self, node: NodeId) {
        self.away.retain(|_, away| away.node != node);
    }

    /// Nobody waits for the driver of the job any more.
    pub fn end_away(&mut self, job: JobId) -> Option<Away> {
        self.away.remove(&job)
    }

    /// Whether the driver of the job is away with this node.
    pub fn is_away(&self, job: JobId, node: NodeId) -> bool {
        self.away.get(&job).is_some_and(|away| away.node == node)
    }

    /// Jobs whose driver is away.
    pub fn away(&self) -> impl Iterator<Item = (JobId, &Away)> {
        self.away.iter().map(|(job, away)| (*job, away))
    }

    /// Takes the oldest finished jobs off the list when there are too many.
    pub fn prune(&mut self) -> Vec<JobId> {
        let mut over: Vec<(u64, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.is_running)
            .map(|(id, job)| (job.finished_unix_millis, *id))
            .collect();
        over.sort_unstable();
        over.truncate(over.len().saturating_sub(FINISHED_KEPT));
        over.iter().for_each(|(_, id)| {
            self.jobs.remove(id);
        });
        over.into_iter().map(|(_, id)| id).collect()
    }

    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.is_running) {
            holds!(
                job.finished_unix_millis == 0 && job.cause.is_empty(),
                "JOB-2",
                "job {id} runs, and has ended: {job:?}"
            );
            let Some(away) = self.away.get(id) else {
                continue;
            };
            let node = job.driver.as_ref().and_then(|driver| driver.node().ok());
            holds!(
                node == Some(away.node),
                "JOB-1",
                "the driver of job {id} is away: {away:?}, {job:?}"
            );
        }
        Ok(())
    }

    /// All jobs.
    pub fn list(&self) -> Vec<JobInfo> {
        self.jobs.values().cloned().collect()
    }
}
