//! `AktisJob`: a program that runs on a cluster, once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::AktisClusterSpec;
use super::template::PodTemplate;

/// A program that runs on a cluster of its own, or on one that is there.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aktis.dev",
    version = "v1",
    kind = "AktisJob",
    doc = "A program that runs on a cluster of its own, or on one that is there.",
    namespaced,
    status = "AktisJobStatus",
    derive = "PartialEq",
    category = "all",
    category = "aktis",
    printcolumn(name = "job status", type_ = "string", json_path = ".status.jobStatus"),
    printcolumn(
        name = "deployment status",
        type_ = "string",
        json_path = ".status.jobDeploymentStatus"
    ),
    printcolumn(name = "cluster", type_ = "string", json_path = ".status.clusterName"),
    printcolumn(name = "start time", type_ = "date", json_path = ".status.startTime"),
    printcolumn(name = "end time", type_ = "date", json_path = ".status.endTime"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.clusterSpec) != has(self.clusterSelector)")
        .message("exactly one of clusterSpec and clusterSelector is needed"),
    validation = Rule::new("self.ttlSecondsAfterFinished == 0 || self.shutdownAfterJobFinishes")
        .message("ttlSecondsAfterFinished has no meaning without shutdownAfterJobFinishes"),
    validation = Rule::new("!self.shutdownAfterJobFinishes || has(self.clusterSpec)")
        .message("shutdownAfterJobFinishes needs clusterSpec: a cluster that was selected is not the job's to delete"),
    validation = Rule::new("!self.suspend || has(self.clusterSpec)")
        .message("suspend needs clusterSpec: a cluster that was selected is not the job's to delete")
)]
pub struct AktisJobSpec {
    /// Command line, run by `/bin/sh` on a node of the cluster that has no CPUs of its own. `aktis.init()` joins the
    /// cluster.
    #[schemars(length(min = 1))]
    pub entrypoint: String,
    /// The cluster to make for this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_spec: Option<AktisClusterSpec>,
    /// Labels of a cluster of this namespace; `aktis.dev/cluster` is its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1))]
    pub cluster_selector: Option<BTreeMap<String, String>>,
    /// The pod that runs the entrypoint. Not set: the head's template, with small resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter_pod_template: Option<PodTemplate>,
    /// How often a failed entrypoint is run again.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: i32,
    /// The job fails when it is not done so long after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// Deletes the job's cluster when the job has ended.
    #[serde(default)]
    pub shutdown_after_job_finishes: bool,
    /// How long after the end that is done.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: i32,
    /// Deletes the job's pods and cluster while it is true; then the job begins anew.
    #[serde(default)]
    pub suspend: bool,
}

/// How an [`AktisJob`] goes.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AktisJobStatus {
    /// The program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<JobStatus>,
    /// What is around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_deployment_status: Option<JobDeploymentStatus>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<JobFailedReason>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The cluster it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// The pod that runs the entrypoint, or did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter_pod_name: Option<String>,
    /// Attempts that have failed.
    #[serde(default)]
    pub failed: i32,
    /// When the operator began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `SpecValid`, `ClusterReady`, `Finished`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The program of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// It has not begun.
    Pending,
    /// It runs.
    Running,
    /// It was ended from outside.
    Stopped,
    /// It ended with exit code 0.
    Succeeded,
    /// It ended otherwise, more often than `backoffLimit` allows.
    Failed,
}

/// What is around the program of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobDeploymentStatus {
    /// The cluster is not ready yet.
    Initializing,
    /// The entrypoint has a pod.
    Running,
    /// An attempt has failed, the next one comes.
    Retrying,
    /// Done.
    Complete,
    /// Given up.
    Failed,
    /// Pods and cluster are gone, as asked.
    Suspended,
}

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobFailedReason {
    /// The entrypoint failed too often.
    AppFailed,
    /// `activeDeadlineSeconds` are over.
    DeadlineExceeded,
    /// The specification makes no job.
    ValidationFailed,
}
