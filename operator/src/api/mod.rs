//! The custom resources of the group `aktis.dev/v1`. The chart's CRDs are generated from these types.
#![allow(
    unreachable_pub,
    reason = "kube's derive repeats each type inside a function"
)]
#![allow(
    clippy::duplicated_attributes,
    reason = "two columns of the same type look like one attribute given twice"
)]

mod cluster;
mod cron_job;
mod job;
mod start_params;
mod template;

pub use cluster::{
    AktisCluster, AktisClusterSpec, AktisClusterStatus, ClusterState, HeadGroupSpec, HeadStatus,
    WorkerGroupSpec,
};
pub use cron_job::{AktisCronJob, AktisCronJobSpec, AktisCronJobStatus, ConcurrencyPolicy};
pub use job::{
    AktisJob, AktisJobSpec, AktisJobStatus, JobDeploymentStatus, JobFailedReason, JobStatus,
};
pub use start_params::{RESERVED_START_PARAMS, StartParams};
pub use template::{PodTemplate, TemplateError};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The definitions of all custom resources.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![AktisCluster::crd(), AktisJob::crd(), AktisCronJob::crd()]
}
