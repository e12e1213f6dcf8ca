//! Which jobs of a schedule are kept, and what is said of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::super::action::Action;
use super::{has_succeeded, is_active, target};
use crate::api::{AktisCronJob, AktisCronJobStatus, AktisJob};

/// Deletes the oldest jobs that have ended, beyond the limits.
pub(super) fn surplus(cron_job: &AktisCronJob, jobs: &[&AktisJob]) -> Vec<Action> {
    let limits = [
        (true, cron_job.spec.successful_jobs_history_limit),
        (false, cron_job.spec.failed_jobs_history_limit),
    ];
    let mut actions = Vec::new();
    for (succeeded, limit) in limits {
        let mut ended: Vec<&AktisJob> = jobs
            .iter()
            .copied()
            .filter(|job| !is_active(job) && job.metadata.deletion_timestamp.is_none())
            .filter(|job| has_succeeded(job) == succeeded)
            .collect();
        ended.sort_by_key(|job| (end_time(job).map(|time| time.0), job.name_any()));
        let kept = usize::try_from(limit).unwrap_or(0);
        let surplus = ended.len().saturating_sub(kept);
        let oldest = &ended[..surplus];
        actions.extend(
            oldest
                .iter()
                .map(|job| Action::DeleteJob(target(job, "there are newer ones in the history"))),
        );
    }
    actions
}

/// Notes which jobs run when `actions` are done, and when the last one succeeded.
pub(super) fn summarise(jobs: &[&AktisJob], actions: &[Action], status: &mut AktisCronJobStatus) {
    let goes = |name: &str| {
        actions
            .iter()
            .any(|action| matches!(action, Action::DeleteJob(target) if target.name == name))
    };
    let running = jobs
        .iter()
        .filter(|job| is_active(job))
        .map(|job| job.name_any());
    let new = actions.iter().filter_map(|action| match action {
        Action::CreateJob(job) => Some(job.name_any()),
        _ => None,
    });
    status.active = running.filter(|name| !goes(name)).chain(new).collect();
    status.active.sort();
    status.active.dedup();
    let last = jobs
        .iter()
        .filter(|job| has_succeeded(job))
        .filter_map(|job| end_time(job))
        .map(|time| time.0)
        .max();
    let known = status.last_successful_time.as_ref().map(|time| time.0);
    status.last_successful_time = known.max(last).map(Time);
}

fn end_time(job: &AktisJob) -> Option<&Time> {
    job.status.as_ref()?.end_time.as_ref()
}
