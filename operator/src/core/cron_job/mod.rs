//! From an `AktisCronJob` and its jobs to the next steps.
//!
//! # Invariants
//! - `OPR-7 (once-per-time)`: at most one job is made for a time of the schedule; its name says the minute, and the
//!   status remembers the last time that was seen to.

mod history;
mod schedule;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::action::{Action, Plan, Target};
use super::conditions::{Verdict, note};
use super::names::{self, CRON_JOB_LABEL, SCHEDULED_AT};
use crate::api::{AktisCronJob, AktisCronJobStatus, AktisJob, ConcurrencyPolicy, JobStatus};
pub use schedule::{Schedule, ScheduleError};

/// The next steps for `cron_job`, given the jobs that have its label.
pub fn plan(
    cron_job: &AktisCronJob,
    jobs: &[AktisJob],
    now: Timestamp,
) -> Plan<AktisCronJobStatus> {
    let jobs: Vec<&AktisJob> = jobs
        .iter()
        .filter(|job| names::is_owned_by(&job.metadata, cron_job))
        .collect();
    let mut status = cron_job.status.clone().unwrap_or_default();
    status.observed_generation = cron_job.metadata.generation;
    let mut actions = history::surplus(cron_job, &jobs);
    let spec = &cron_job.spec;
    let schedule = Schedule::parse(&spec.schedule, spec.time_zone.as_deref());
    let verdict = match &schedule {
        Ok(_) => Verdict::yes("Parsed"),
        Err(error) => Verdict::no("InvalidSchedule", error.to_string()),
    };
    let generation = cron_job.metadata.generation;
    note(
        &mut status.conditions,
        "ScheduleValid",
        verdict,
        generation,
        now,
    );
    let mut requeue_after = None;
    if let (Ok(schedule), false) = (&schedule, spec.suspend) {
        let since = status.last_schedule_time.as_ref().map(|time| time.0);
        let since = since
            .or_else(|| Some(cron_job.creation_timestamp()?.0))
            .unwrap_or(now);
        if let Some(due) = schedule.last_in(since, now) {
            status.last_schedule_time = Some(Time(due));
            start(cron_job, &jobs, due, now, &mut actions);
        }
        requeue_after = schedule.next_after(now).map(|next| until(now, next));
    }
    history::summarise(&jobs, &actions, &mut status);
    Plan {
        actions,
        status,
        requeue_after,
    }
}

/// Makes the job that is due, unless it is to be left out.
fn start(
    cron_job: &AktisCronJob,
    jobs: &[&AktisJob],
    due: Timestamp,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let late = now.as_second() - due.as_second();
    let deadline = cron_job.spec.starting_deadline_seconds;
    if deadline.is_some_and(|deadline| late > deadline) {
        return;
    }
    let job = job(cron_job, due);
    if jobs.iter().any(|known| known.name_any() == job.name_any()) {
        return;
    }
    let mut active = jobs.iter().filter(|job| is_active(job)).peekable();
    match cron_job.spec.concurrency_policy {
        ConcurrencyPolicy::Allow => {}
        ConcurrencyPolicy::Forbid if active.peek().is_some() => return,
        ConcurrencyPolicy::Forbid => {}
        ConcurrencyPolicy::Replace => actions.extend(
            active.map(|job| Action::DeleteJob(target(job, "the next job takes its place"))),
        ),
    }
    actions.push(Action::CreateJob(Box::new(job)));
}

/// The job for the time `due`. Its name says the minute, so that it cannot be made twice (`OPR-7`).
fn job(cron_job: &AktisCronJob, due: Timestamp) -> AktisJob {
    let suffix = format!("-{}", due.as_second().div_euclid(60));
    let name = names::name(&cron_job.name_any(), &suffix);
    let labels = names::labels([(CRON_JOB_LABEL, names::label_value(&cron_job.name_any()))]);
    let mut job = AktisJob::new("", cron_job.spec.job_template.clone());
    job.metadata = names::owned_by(cron_job, name, labels);
    job.metadata.annotations = Some([(SCHEDULED_AT.to_owned(), due.to_string())].into());
    job
}

fn is_active(job: &AktisJob) -> bool {
    let status = job.status.as_ref();
    job.metadata.deletion_timestamp.is_none()
        && status.is_none_or(|status| status.end_time.is_none())
}

fn has_succeeded(job: &AktisJob) -> bool {
    let status = job.status.as_ref();
    status.and_then(|status| status.job_status) == Some(JobStatus::Succeeded)
}

fn target(job: &AktisJob, reason: &'static str) -> Target {
    Target {
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        reason,
    }
}

/// A little later than the time itself, lest a clock that is behind looks too early.
fn until(now: Timestamp, next: Timestamp) -> Duration {
    let pause = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    pause + Duration::from_millis(100)
}
