//! Scenarios of jobs.

use aktis_operator::api::{
    AktisCluster, AktisClusterStatus, AktisJob, AktisJobSpec, ClusterState, JobDeploymentStatus,
    JobFailedReason, JobStatus,
};
use aktis_operator::core::job::plan;

use crate::fixtures::{cluster, job, job_spec, template_of};
use crate::pretended::{Pretended, failed, phase};

fn states(job: &AktisJob) -> (Option<JobDeploymentStatus>, Option<JobStatus>) {
    let status = job.status.as_ref().unwrap();
    (status.job_deployment_status, status.job_status)
}

fn make_ready(cluster: &mut AktisCluster) {
    cluster.status = Some(AktisClusterStatus {
        state: Some(ClusterState::Ready),
        ..AktisClusterStatus::default()
    });
}

/// A job whose entrypoint has a pod.
fn started(spec: AktisJobSpec) -> (Pretended, AktisJob) {
    let (mut world, mut job) = (Pretended::new(), job(spec));
    assert_eq!(world.job_round(&mut job), ["create cluster train-cluster"]);
    assert!(
        world.job_round(&mut job).is_empty(),
        "the cluster is not ready"
    );
    make_ready(world.clusters.get_mut("train-cluster").unwrap());
    assert_eq!(world.job_round(&mut job), ["create pod train-submit-0"]);
    (world, job)
}

#[test]
fn job_makes_its_cluster_runs_its_entrypoint_and_completes() {
    let (mut world, mut job) = started(job_spec());
    world.job_round(&mut job);
    assert_eq!(
        states(&job),
        (Some(JobDeploymentStatus::Running), Some(JobStatus::Pending))
    );
    world.set_status("train-submit-0", phase("Running"));
    world.job_round(&mut job);
    assert_eq!(
        states(&job),
        (Some(JobDeploymentStatus::Running), Some(JobStatus::Running))
    );
    world.set_status("train-submit-0", phase("Succeeded"));
    assert!(world.job_round(&mut job).is_empty(), "pod and cluster stay");
    assert_eq!(
        states(&job),
        (
            Some(JobDeploymentStatus::Complete),
            Some(JobStatus::Succeeded)
        )
    );
    let status = job.status.as_ref().unwrap();
    assert!(status.start_time.is_some() && status.end_time.is_some());
    assert_eq!(status.failed, 0);
    let plan = plan(&job, &world.observe_job(), world.now);
    assert!(plan.actions.is_empty() && plan.requeue_after.is_none());
    assert_eq!(Some(plan.status), job.status);
}

#[test]
fn submitter_is_a_small_node_of_the_cluster_with_the_heads_image() {
    let (world, _) = started(job_spec());
    let pod = &world.pods["train-submit-0"];
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    let main = &spec.containers[0];
    assert_eq!(main.image.as_deref(), Some("head:1"));
    let script = &main.command.as_ref().unwrap()[2];
    assert!(
        script.contains("--num-cpus 0 --num-gpus 0") && script.contains(r#"exec /bin/sh -c "$2""#),
        "{script}"
    );
    assert_eq!(
        main.args.as_deref().unwrap(),
        [
            "train-cluster-head-svc.ns.svc:6379",
            "python main.py --rows 10"
        ]
    );
    let value = |name: &str| {
        let all = main.env.as_ref().unwrap();
        all.iter()
            .find(|variable| variable.name == name)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(
        value("AKTIS_ADDRESS").as_deref(),
        Some("train-cluster-head-svc.ns.svc:6379")
    );
    let limits = main.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert!(
        !limits.contains_key("nvidia.com/gpu"),
        "a driver holds no GPU"
    );
}

#[test]
fn template_of_the_submitter_is_taken_as_it_is() {
    let mut spec = job_spec();
    spec.submitter_pod_template = Some(template_of(serde_json::json!({
        "spec": { "serviceAccountName": "me", "containers": [
            { "name": "main", "image": "mine:1", "resources": { "limits": { "memory": "9Gi" } } },
            { "name": "sidecar", "image": "side:1" },
        ] },
    })));
    let (world, _) = started(spec);
    let spec = world.pods["train-submit-0"].spec.as_ref().unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("me"));
    assert_eq!(spec.containers.len(), 2);
    assert_eq!(spec.containers[0].image.as_deref(), Some("mine:1"));
}

/// OPR-6 (counted-attempts).
#[test]
fn failed_entrypoint_is_run_again_after_a_pause_until_the_limit() {
    let mut spec = job_spec();
    spec.backoff_limit = 1;
    let (mut world, mut job) = started(spec);
    world.set_status("train-submit-0", failed(3, world.now));
    assert!(world.job_round(&mut job).is_empty(), "the pause");
    assert_eq!(states(&job).0, Some(JobDeploymentStatus::Retrying));
    let message = job.status.as_ref().unwrap().message.clone().unwrap();
    assert_eq!(message, "pod train-submit-0 failed: exit code 3 (Error)");
    world.pass(9);
    assert!(world.job_round(&mut job).is_empty());
    world.pass(1);
    assert_eq!(world.job_round(&mut job), ["create pod train-submit-1"]);
    world.set_status("train-submit-1", failed(4, world.now));
    assert!(world.job_round(&mut job).is_empty());
    assert_eq!(
        states(&job),
        (Some(JobDeploymentStatus::Failed), Some(JobStatus::Failed))
    );
    let status = job.status.as_ref().unwrap();
    assert_eq!(
        (status.failed, status.reason),
        (2, Some(JobFailedReason::AppFailed))
    );
    assert!(status.message.as_ref().unwrap().contains("exit code 4"));
    world.pass(1000);
    assert!(world.job_round(&mut job).is_empty());
}

#[test]
fn pod_that_was_seen_and_is_gone_counts_as_failed() {
    let (mut world, mut job) = started(job_spec());
    world.pods.clear();
    assert_eq!(
        world.job_round(&mut job),
        ["create pod train-submit-0"],
        "it was never seen"
    );
    world.job_round(&mut job);
    world.pods.clear();
    world.job_round(&mut job);
    assert_eq!(
        states(&job),
        (Some(JobDeploymentStatus::Failed), Some(JobStatus::Failed))
    );
    let message = job.status.unwrap().message.unwrap();
    assert_eq!(message, "pod train-submit-0 is gone");
}

#[test]
fn job_that_takes_too_long_is_stopped() {
    let mut spec = job_spec();
    spec.active_deadline_seconds = Some(60);
    let (mut world, mut job) = started(spec);
    world.set_status("train-submit-0", phase("Running"));
    world.job_round(&mut job);
    let next = plan(&job, &world.observe_job(), world.now).requeue_after;
    assert_eq!(next.map(|next| next.as_secs()), Some(60));
    world.pass(60);
    assert_eq!(
        world.job_round(&mut job),
        ["delete pod train-submit-0: its job has ended"]
    );
    assert_eq!(
        states(&job),
        (Some(JobDeploymentStatus::Failed), Some(JobStatus::Stopped))
    );
    assert_eq!(
        job.status.unwrap().reason,
        Some(JobFailedReason::DeadlineExceeded)
    );
}

#[test]
fn cluster_is_deleted_when_the_time_after_the_end_is_over() {
    let mut spec = job_spec();
    spec.shutdown_after_job_finishes = true;
    spec.ttl_seconds_after_finished = 30;
    let (mut world, mut job) = started(spec);
    world.set_status("train-submit-0", phase("Succeeded"));
    assert!(world.job_round(&mut job).is_empty());
    world.pass(29);
    assert!(world.job_round(&mut job).is_empty());
    world.pass(1);
    assert_eq!(
        world.job_round(&mut job),
        ["delete cluster train-cluster: its job has ended"]
    );
    assert!(world.pods.contains_key("train-submit-0"), "its logs stay");
    assert!(world.job_round(&mut job).is_empty());
}

#[test]
fn suspended_job_has_neither_pods_nor_cluster_and_begins_anew() {
    let (mut world, mut job) = started(job_spec());
    job.spec.suspend = true;
    assert_eq!(
        world.job_round(&mut job),
        [
            "delete pod train-submit-0: its job is suspended",
            "delete cluster train-cluster: its job is suspended"
        ]
    );
    assert_eq!(states(&job), (Some(JobDeploymentStatus::Suspended), None));
    job.spec.suspend = false;
    assert_eq!(world.job_round(&mut job), ["create cluster train-cluster"]);
    make_ready(world.clusters.get_mut("train-cluster").unwrap());
    assert!(
        world.job_round(&mut job).is_empty(),
        "the old pod is still going"
    );
    world.finish_leaving();
    assert_eq!(world.job_round(&mut job), ["create pod train-submit-0"]);
    assert_eq!(job.status.unwrap().failed, 0);
}

#[test]
fn selected_cluster_is_used_and_left_alone() {
    let (mut world, mut there) = (Pretended::new(), cluster(&[]));
    make_ready(&mut there);
    let mut other = there.clone();
    other.metadata.name = Some("another".to_owned());
    world.clusters.insert("another".to_owned(), other);
    let mut spec = job_spec();
    spec.cluster_spec = None;
    spec.cluster_selector = Some([("aktis.dev/cluster".to_owned(), "demo".to_owned())].into());
    let mut job = job(spec);
    assert!(world.job_round(&mut job).is_empty());
    world.clusters.insert("demo".to_owned(), there);
    assert_eq!(world.job_round(&mut job), ["create pod train-submit-0"]);
    assert_eq!(
        job.status.as_ref().unwrap().cluster_name.as_deref(),
        Some("demo")
    );
    world.set_status("train-submit-0", phase("Succeeded"));
    assert!(world.job_round(&mut job).is_empty());
    assert_eq!(world.clusters.len(), 2);
}

#[test]
fn selected_cluster_whose_template_was_broken_a_moment_ago_is_waited_for() {
    let (mut world, mut there) = (Pretended::new(), cluster(&[]));
    make_ready(&mut there);
    there.spec.head_group_spec.template = template_of(serde_json::json!({ "spec": {} }));
    world.clusters.insert("demo".to_owned(), there);
    let mut spec = job_spec();
    spec.cluster_spec = None;
    spec.cluster_selector = Some([("aktis.dev/cluster".to_owned(), "demo".to_owned())].into());
    let mut job = job(spec);
    assert!(world.job_round(&mut job).is_empty());
    let conditions = &job.status.as_ref().unwrap().conditions;
    assert!(
        conditions
            .iter()
            .any(|known| known.reason == "InvalidTemplate")
    );
}

#[test]
fn cluster_of_that_name_that_belongs_to_another_is_not_taken() {
    let (mut world, mut taken) = (Pretended::new(), cluster(&[]));
    taken.metadata.name = Some("train-cluster".to_owned());
    make_ready(&mut taken);
    world.clusters.insert("train-cluster".to_owned(), taken);
    let mut job = job(job_spec());
    assert!(world.job_round(&mut job).is_empty());
    let conditions = &job.status.as_ref().unwrap().conditions;
    assert!(
        conditions
            .iter()
            .any(|known| known.type_ == "ClusterReady" && known.reason == "NameTaken")
    );
}

#[test]
fn wrong_job_is_explained_and_goes_on_when_it_is_right() {
    let (mut world, mut job) = (Pretended::new(), job(job_spec()));
    let right = job.spec.clone();
    job.spec.cluster_selector = Some([("a".to_owned(), "b".to_owned())].into());
    assert!(world.job_round(&mut job).is_empty());
    let status = job.status.as_ref().unwrap();
    assert_eq!(status.reason, Some(JobFailedReason::ValidationFailed));
    assert_eq!(
        status.message.as_deref(),
        Some("exactly one of clusterSpec and clusterSelector is needed")
    );
    job.spec = right;
    assert_eq!(world.job_round(&mut job), ["create cluster train-cluster"]);
    assert_eq!(job.status.unwrap().reason, None);
}
