//! From an `AktisJob`, its cluster and its pods to the next steps.
//!
//! ```text
//!            cluster ready          pod ended with 0
//!  Initializing ──────► Running ───────────────────────► Complete ──ttl──► cluster deleted
//!      ▲  │                │ failed, attempts left           ▲  if shutdownAfterJobFinishes
//!      │  │ suspend        ▼                                 │
//!      │  ▼            Retrying ──pause──► Running           │
//!  Suspended               │ no attempts left, deadline      │
//!                          └────────────────► Failed ────────┘
//! ```
//!
//! # Invariants
//! - `OPR-6 (counted-attempts)`: an entrypoint is started at most `backoffLimit + 1` times, by pods numbered from 0; a
//!   pod that was seen and is gone has failed.

mod attempt;
mod cluster;
mod status;
mod submitter;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::action::{Action, Plan, Target};
use super::names;
use super::pods::PodFacts;
use crate::api::{
    AktisCluster, AktisJob, AktisJobStatus, ClusterState, JobDeploymentStatus, JobFailedReason,
    JobStatus,
};
use attempt::Attempt;
pub use cluster::{cluster_name, selector};
use status::JobProblem;

/// How long a job waits for something that is not watched.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What there is of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedJob {
    /// The cluster that is named [`cluster_name`], or those that the selector finds.
    pub clusters: Vec<AktisCluster>,
    /// Pods with the label of the job.
    pub submitters: Vec<Pod>,
}

/// The next steps for `job`.
pub fn plan(job: &AktisJob, observed: &ObservedJob, now: Timestamp) -> Plan<AktisJobStatus> {
    let mut status = job.status.clone().unwrap_or_default();
    status.observed_generation = job.metadata.generation;
    let mut planner = JobPlanner {
        job,
        observed,
        now,
        status,
        actions: Vec::new(),
        requeue_after: None,
    };
    planner.decide();
    Plan {
        actions: planner.actions,
        status: planner.status,
        requeue_after: planner.requeue_after,
    }
}

struct JobPlanner<'a> {
    job: &'a AktisJob,
    observed: &'a ObservedJob,
    now: Timestamp,
    status: AktisJobStatus,
    actions: Vec<Action>,
    requeue_after: Option<Duration>,
}

impl<'a> JobPlanner<'a> {
    fn decide(&mut self) {
        if self.status.end_time.is_some() {
            return self.clean_up();
        }
        if self.job.spec.suspend {
            return self.suspend();
        }
        if let Err(problem) = status::check(self.job) {
            return self.invalid(&problem);
        }
        self.status.reason = None;
        self.note_valid();
        self.status.start_time.get_or_insert(Time(self.now));
        if self.is_too_late() {
            let seconds = self.job.spec.active_deadline_seconds.unwrap_or_default();
            let message = format!("not done {seconds} s after its start");
            self.finish(
                JobStatus::Stopped,
                Some(JobFailedReason::DeadlineExceeded),
                message,
            );
            return self.clean_up();
        }
        let cluster = self.cluster();
        self.attempt(cluster);
        if self.status.end_time.is_some() {
            self.clean_up();
        }
    }

    /// The cluster to run on, if it is there and ready; asks for it if it is the job's to make.
    fn cluster(&mut self) -> Option<&'a AktisCluster> {
        let found = cluster::choose(self.job, &self.status, &self.observed.clusters);
        match found {
            Ok(cluster) => {
                self.status.cluster_name = Some(cluster.name_any());
                let state = cluster.status.as_ref().and_then(|status| status.state);
                let is_ready = state == Some(ClusterState::Ready);
                self.note_cluster(is_ready, "ClusterNotReady", || {
                    let state =
                        state.map_or_else(|| "new".to_owned(), |state| format!("{state:?}"));
                    format!("cluster {} is {state}", cluster.name_any())
                });
                if !is_ready && self.job.spec.cluster_spec.is_none() {
                    self.wake_after(LOOK_AGAIN);
                }
                is_ready.then_some(cluster)
            }
            Err(missing) => {
                if let Some(wanted) = cluster::wanted(self.job).filter(|_| missing.is_to_be_made())
                {
                    self.status.cluster_name = Some(wanted.name_any());
                    self.actions.push(Action::CreateCluster(Box::new(wanted)));
                } else {
                    self.wake_after(LOOK_AGAIN);
                }
                self.note_cluster(false, missing.reason(), || missing.to_string());
                None
            }
        }
    }

    /// Sees to the pod that runs the entrypoint.
    fn attempt(&mut self, cluster: Option<&AktisCluster>) {
        let pods = own_submitters(self.job, self.observed);
        match Attempt::find(self.job, &self.status, pods, self.now) {
            Attempt::Succeeded { pod } => {
                self.status.submitter_pod_name = Some(pod);
                self.finish(JobStatus::Succeeded, None, String::new());
            }
            Attempt::GivenUp { failed, message } => {
                self.status.failed = failed;
                self.finish(JobStatus::Failed, Some(JobFailedReason::AppFailed), message);
            }
            Attempt::UnderWay { pod, is_running } => {
                self.status.submitter_pod_name = Some(pod);
                self.set(
                    JobDeploymentStatus::Running,
                    if is_running {
                        JobStatus::Running
                    } else {
                        JobStatus::Pending
                    },
                );
            }
            Attempt::Next {
                number,
                pause,
                message,
            } => {
                self.status.failed = number;
                if number > 0 {
                    self.status.message = message.or_else(|| self.status.message.take());
                }
                let deployment = match number {
                    0 => JobDeploymentStatus::Initializing,
                    _ => JobDeploymentStatus::Retrying,
                };
                self.set(deployment, JobStatus::Pending);
                match (pause.is_zero(), cluster) {
                    (false, _) => self.wake_after(pause),
                    (true, Some(cluster)) => self.start(cluster, number),
                    (true, None) => {}
                }
            }
        }
    }

    fn start(&mut self, cluster: &AktisCluster, number: i32) {
        match submitter::pod(self.job, cluster, number) {
            Ok(pod) => self.actions.push(Action::CreatePod(Box::new(pod))),
            Err(error) => {
                self.wake_after(LOOK_AGAIN);
                self.note_cluster(false, "InvalidTemplate", || error.to_string());
            }
        }
    }

    fn is_too_late(&mut self) -> bool {
        let (Some(seconds), Some(start)) = (
            self.job.spec.active_deadline_seconds,
            &self.status.start_time,
        ) else {
            return false;
        };
        let end = start.0.as_second().saturating_add(seconds);
        let left = end.saturating_sub(self.now.as_second());
        self.wake_after(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        left <= 0
    }

    fn finish(&mut self, job: JobStatus, reason: Option<JobFailedReason>, message: String) {
        self.set(
            match job {
                JobStatus::Succeeded => JobDeploymentStatus::Complete,
                _ => JobDeploymentStatus::Failed,
            },
            job,
        );
        self.status.reason = reason;
        self.status.message = Some(message).filter(|message| !message.is_empty());
        self.status.end_time = Some(Time(self.now));
        self.note_finished();
    }

    /// After the end: pods that have ended stay for their logs.
    fn clean_up(&mut self) {
        self.requeue_after = None;
        let running: Vec<Action> = own_submitters(self.job, self.observed)
            .filter(|pod| !pod.has_ended() && !pod.is_leaving())
            .map(|pod| Action::DeletePod(pod.target("its job has ended")))
            .collect();
        self.actions.extend(running);
        let (true, Some(end)) = (
            self.job.spec.shutdown_after_job_finishes,
            &self.status.end_time,
        ) else {
            return;
        };
        let over = end.0.as_second() + i64::from(self.job.spec.ttl_seconds_after_finished);
        match u64::try_from(over - self.now.as_second()) {
            Ok(left) if left > 0 => self.wake_after(Duration::from_secs(left)),
            _ => self.delete_cluster("its job has ended"),
        }
    }

    fn suspend(&mut self) {
        let pods: Vec<PodFacts<'_>> = own_submitters(self.job, self.observed).collect();
        let leaving = pods.iter().filter(|pod| !pod.is_leaving());
        let deletions = leaving.map(|pod| Action::DeletePod(pod.target("its job is suspended")));
        self.actions.extend(deletions);
        self.delete_cluster("its job is suspended");
        self.status = AktisJobStatus {
            job_deployment_status: Some(JobDeploymentStatus::Suspended),
            observed_generation: self.status.observed_generation,
            conditions: std::mem::take(&mut self.status.conditions),
            ..AktisJobStatus::default()
        };
    }

    fn delete_cluster(&mut self, reason: &'static str) {
        let own = self.observed.clusters.iter().filter(|cluster| {
            names::is_owned_by(&cluster.metadata, self.job)
                && cluster.metadata.deletion_timestamp.is_none()
        });
        let deletions = own.map(|cluster| {
            Action::DeleteCluster(Target {
                name: cluster.name_any(),
                uid: cluster.uid().unwrap_or_default(),
                reason,
            })
        });
        self.actions.extend(deletions);
    }

    fn invalid(&mut self, problem: &JobProblem) {
        self.status.job_deployment_status = Some(JobDeploymentStatus::Failed);
        self.status.reason = Some(JobFailedReason::ValidationFailed);
        self.status.message = Some(problem.to_string());
        self.note_invalid(problem);
    }

    fn set(&mut self, deployment: JobDeploymentStatus, job: JobStatus) {
        self.status.job_deployment_status = Some(deployment);
        self.status.job_status = Some(job);
    }

    fn wake_after(&mut self, pause: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(pause, |known| known.min(pause)));
    }
}

/// `OPR-5 (own-only)`.
fn own_submitters<'a>(
    job: &'a AktisJob,
    observed: &'a ObservedJob,
) -> impl Iterator<Item = PodFacts<'a>> {
    let pods = observed.submitters.iter();
    pods.filter(move |pod| names::is_owned_by(&pod.metadata, job))
        .map(PodFacts)
}
