//! `AktisCronJob`: a job at given times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::job::AktisJobSpec;

/// An [`super::AktisJob`] at given times.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aktis.dev",
    version = "v1",
    kind = "AktisCronJob",
    doc = "An AktisJob at given times.",
    namespaced,
    status = "AktisCronJobStatus",
    derive = "PartialEq",
    category = "all",
    category = "aktis",
    printcolumn(name = "schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "timezone", type_ = "string", json_path = ".spec.timeZone"),
    printcolumn(name = "suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(
        name = "last schedule",
        type_ = "date",
        json_path = ".status.lastScheduleTime"
    ),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AktisCronJobSpec {
    /// Five fields as in cron (minute, hour, day of month, month, day of week), or `@hourly`, `@daily`, ...
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// Time zone of the schedule, such as `Europe/Berlin`; UTC if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// The job's specification.
    pub job_template: AktisJobSpec,
    /// What to do when a job is due while an earlier one still runs.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// No new jobs while it is true.
    #[serde(default)]
    pub suspend: bool,
    /// A job that could not be started so long after its time is left out. Not set: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub starting_deadline_seconds: Option<i64>,
    /// Succeeded jobs that are kept.
    #[serde(default = "default_successful_history")]
    #[schemars(range(min = 0))]
    pub successful_jobs_history_limit: i32,
    /// Failed jobs that are kept.
    #[serde(default = "default_failed_history")]
    #[schemars(range(min = 0))]
    pub failed_jobs_history_limit: i32,
}

fn default_successful_history() -> i32 {
    3
}

fn default_failed_history() -> i32 {
    1
}

/// What to do when a job is due while an earlier one still runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The new one is left out.
    Forbid,
    /// The old one is deleted.
    Replace,
}

/// What an [`AktisCronJob`] has done.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AktisCronJobStatus {
    /// Names of jobs that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// The time by the schedule that was last seen to, by a job or by leaving it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// End of the last job that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `ScheduleValid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
