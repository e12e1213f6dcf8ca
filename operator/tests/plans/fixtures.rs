//! Resources to begin with.

use aktis_operator::api::{
    AktisCluster, AktisClusterSpec, AktisCronJob, AktisCronJobSpec, AktisJob, AktisJobSpec,
    ConcurrencyPolicy, HeadGroupSpec, PodTemplate, StartParams, WorkerGroupSpec,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

pub(crate) const START: &str = "2026-11-22T10:00:00Z";

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn template(image: &str) -> PodTemplate {
    template_of(json!({
        "metadata": { "labels": { "team": "vision" } },
        "spec": { "containers": [{
            "name": "aktis",
            "image": image,
            "env": [{ "name": "MINE", "value": "1" }, { "name": "AKTIS_TOKEN", "value": "not this" }],
            "resources": { "limits": { "cpu": "4", "memory": "8Gi", "nvidia.com/gpu": 1 } },
        }] },
    }))
}

pub(crate) fn template_of(value: Value) -> PodTemplate {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn group(name: &str, replicas: i32) -> WorkerGroupSpec {
    WorkerGroupSpec {
        group_name: name.to_owned(),
        replicas: Some(replicas),
        min_replicas: 0,
        max_replicas: None,
        start_params: StartParams::default(),
        template: template("worker:1"),
    }
}

pub(crate) fn cluster_spec(groups: &[(&str, i32)]) -> AktisClusterSpec {
    AktisClusterSpec {
        head_group_spec: HeadGroupSpec {
            start_params: StartParams::default(),
            template: template("head:1"),
        },
        worker_group_specs: groups
            .iter()
            .map(|(name, replicas)| group(name, *replicas))
            .collect(),
        suspend: false,
        credentials_secret: None,
    }
}

pub(crate) fn cluster(groups: &[(&str, i32)]) -> AktisCluster {
    let mut cluster = AktisCluster::new("demo", cluster_spec(groups));
    cluster.metadata.namespace = Some("ns".to_owned());
    cluster.metadata.uid = Some("cluster-uid".to_owned());
    cluster.metadata.generation = Some(1);
    cluster
}

pub(crate) fn job_spec() -> AktisJobSpec {
    AktisJobSpec {
        entrypoint: "python main.py --rows 10".to_owned(),
        cluster_spec: Some(cluster_spec(&[("w", 1)])),
        ..AktisJobSpec::default()
    }
}

pub(crate) fn job(spec: AktisJobSpec) -> AktisJob {
    let mut job = AktisJob::new("train", spec);
    job.metadata.namespace = Some("ns".to_owned());
    job.metadata.uid = Some("job-uid".to_owned());
    job.metadata.generation = Some(1);
    job
}

pub(crate) fn cron_job(schedule: &str) -> AktisCronJob {
    let mut cron_job = AktisCronJob::new(
        "nightly",
        AktisCronJobSpec {
            schedule: schedule.to_owned(),
            time_zone: None,
            job_template: job_spec(),
            concurrency_policy: ConcurrencyPolicy::Allow,
            suspend: false,
            starting_deadline_seconds: None,
            successful_jobs_history_limit: 3,
            failed_jobs_history_limit: 1,
        },
    );
    cron_job.metadata.namespace = Some("ns".to_owned());
    cron_job.metadata.uid = Some("cron-uid".to_owned());
    cron_job.metadata.generation = Some(1);
    cron_job.metadata.creation_timestamp = Some(Time(time(START)));
    cron_job
}
