//! Scenarios of schedules.

use aktis_operator::api::{AktisCronJob, AktisJobStatus, ConcurrencyPolicy, JobStatus};
use aktis_operator::core::cron_job::plan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::fixtures::{cron_job, time};
use crate::pretended::Pretended;

fn at(world: &mut Pretended, text: &str) {
    world.now = time(text);
}

fn end(world: &mut Pretended, job: &str, status: JobStatus) {
    let now = world.now;
    world.jobs.get_mut(job).unwrap().status = Some(AktisJobStatus {
        job_status: Some(status),
        end_time: Some(Time(now)),
        ..AktisJobStatus::default()
    });
}

fn only_job(world: &Pretended) -> String {
    assert_eq!(world.jobs.len(), 1);
    world.jobs.keys().next().unwrap().clone()
}

/// Two jobs have become due, the first of which still runs; gives what was done for the second.
fn second_due(policy: ConcurrencyPolicy) -> (Pretended, AktisCronJob, Vec<String>) {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("0 * * * *"));
    cron_job.spec.concurrency_policy = policy;
    at(&mut world, "2026-11-22T11:00:00Z");
    world.cron_round(&mut cron_job);
    at(&mut world, "2026-11-22T12:00:00Z");
    let done = world.cron_round(&mut cron_job);
    (world, cron_job, done)
}

/// OPR-7 (once-per-time).
#[test]
fn job_is_made_when_it_is_due_and_once_only() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("30 10 * * *"));
    assert!(world.cron_round(&mut cron_job).is_empty());
    let next = plan(&cron_job, &[], world.now).requeue_after.unwrap();
    assert_eq!(next.as_secs(), 30 * 60);
    at(&mut world, "2026-11-22T10:30:01Z");
    let minute = time("2026-11-22T10:30:00Z").as_second() / 60;
    assert_eq!(
        world.cron_round(&mut cron_job),
        [format!("create job nightly-{minute}")]
    );
    assert!(world.cron_round(&mut cron_job).is_empty());
    let job = &world.jobs[&only_job(&world)];
    assert_eq!(job.spec, cron_job.spec.job_template);
    let annotations = job.metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["aktis.dev/scheduled-at"],
        "2026-11-22T10:30:00Z"
    );
    assert_eq!(cron_job.status.unwrap().active, [only_job(&world)]);
}

/// OPR-7 (once-per-time).
#[test]
fn job_whose_status_was_not_written_is_not_made_again() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("30 10 * * *"));
    at(&mut world, "2026-11-22T10:30:01Z");
    world.cron_round(&mut cron_job);
    cron_job.status = None;
    assert!(world.cron_round(&mut cron_job).is_empty());
    assert!(cron_job.status.unwrap().last_schedule_time.is_some());
}

#[test]
fn of_many_missed_times_the_last_is_made_up_for() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("*/5 * * * *"));
    at(&mut world, "2026-11-23T10:02:00Z");
    let minute = time("2026-11-23T10:00:00Z").as_second() / 60;
    assert_eq!(
        world.cron_round(&mut cron_job),
        [format!("create job nightly-{minute}")]
    );
    assert!(world.cron_round(&mut cron_job).is_empty());
}

#[test]
fn job_that_is_too_late_is_left_out() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("30 10 * * *"));
    cron_job.spec.starting_deadline_seconds = Some(60);
    at(&mut world, "2026-11-22T10:32:00Z");
    assert!(world.cron_round(&mut cron_job).is_empty());
    let last = cron_job
        .status
        .as_ref()
        .unwrap()
        .last_schedule_time
        .clone()
        .unwrap();
    assert_eq!(last.0, time("2026-11-22T10:30:00Z"));
}

#[test]
fn concurrent_jobs_are_allowed_forbidden_or_replaced() {
    let (world, cron_job, _) = second_due(ConcurrencyPolicy::Allow);
    assert_eq!(world.jobs.len(), 2);
    assert_eq!(cron_job.status.unwrap().active.len(), 2);

    let (world, cron_job, done) = second_due(ConcurrencyPolicy::Forbid);
    assert!(done.is_empty());
    assert_eq!(cron_job.status.unwrap().active, [only_job(&world)]);

    let (world, cron_job, done) = second_due(ConcurrencyPolicy::Replace);
    assert_eq!(done.len(), 2);
    assert!(
        done[0].ends_with("the next job takes its place"),
        "{done:?}"
    );
    assert_eq!(cron_job.status.unwrap().active, [only_job(&world)]);
}

#[test]
fn forbidden_job_comes_again_at_its_next_time() {
    let (mut world, mut cron_job, _) = second_due(ConcurrencyPolicy::Forbid);
    let first = only_job(&world);
    end(&mut world, &first, JobStatus::Succeeded);
    assert!(
        world.cron_round(&mut cron_job).is_empty(),
        "it was left out"
    );
    at(&mut world, "2026-11-22T13:00:00Z");
    assert_eq!(world.cron_round(&mut cron_job).len(), 1);
    assert!(cron_job.status.unwrap().last_successful_time.is_some());
}

#[test]
fn suspended_schedule_makes_no_jobs() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("30 10 * * *"));
    cron_job.spec.suspend = true;
    at(&mut world, "2026-11-22T10:31:00Z");
    assert!(world.cron_round(&mut cron_job).is_empty());
    assert_eq!(plan(&cron_job, &[], world.now).requeue_after, None);
}

#[test]
fn old_jobs_are_deleted_beyond_the_limits_of_the_history() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("0 * * * *"));
    cron_job.spec.successful_jobs_history_limit = 1;
    let outcomes = [
        JobStatus::Succeeded,
        JobStatus::Failed,
        JobStatus::Succeeded,
        JobStatus::Stopped,
    ];
    let mut made = Vec::new();
    for (index, outcome) in outcomes.into_iter().enumerate() {
        at(&mut world, &format!("2026-11-22T{}:00:00Z", 11 + index));
        world.cron_round(&mut cron_job);
        let newest = world.jobs.keys().next_back().unwrap().clone();
        end(&mut world, &newest, outcome);
        made.push(newest);
    }
    world.cron_round(&mut cron_job);
    let left: Vec<&String> = world.jobs.keys().collect();
    assert_eq!(left, [&made[2], &made[3]]);
    assert!(cron_job.status.unwrap().active.is_empty());
}

#[test]
fn wrong_schedule_is_explained() {
    let (mut world, mut cron_job) = (Pretended::new(), cron_job("every day"));
    assert!(world.cron_round(&mut cron_job).is_empty());
    let condition = cron_job.status.unwrap().conditions.remove(0);
    assert_eq!(
        (&*condition.type_, &*condition.status),
        ("ScheduleValid", "False")
    );
    assert!(
        condition.message.contains("every day"),
        "{}",
        condition.message
    );
}
