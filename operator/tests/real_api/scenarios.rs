//! What is tried.

use std::time::{Duration, Instant};

use aktis_operator::api::{
    AktisCluster, AktisCronJob, AktisJob, ClusterState, JobDeploymentStatus, JobStatus,
};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "default";

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn template() -> Value {
    json!({ "spec": { "containers": [{ "name": "aktis", "image": "aktis:test" }] } })
}

fn cluster_spec(replicas: i32) -> Value {
    json!({
        "headGroupSpec": { "template": template() },
        "workerGroupSpecs": [{ "groupName": "w", "replicas": replicas, "template": template() }],
    })
}

fn cluster(name: &str, spec: &Value) -> AktisCluster {
    read(json!({
        "apiVersion": "aktis.dev/v1", "kind": "AktisCluster", "metadata": { "name": name }, "spec": spec,
    }))
}

async fn pod_names(client: &Client, labels: &str) -> Vec<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let list = pods
        .list(&ListParams::default().labels(labels))
        .await
        .unwrap();
    let mut names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
    names.sort();
    names
}

pub(crate) async fn wrong_specifications_are_refused(client: &Client) {
    let clusters = Api::<AktisCluster>::namespaced(client.clone(), NAMESPACE);
    let mut reserved = cluster_spec(1);
    reserved["headGroupSpec"]["startParams"] = json!({ "address": "x" });
    let mut bounds = cluster_spec(1);
    bounds["workerGroupSpecs"][0]["minReplicas"] = json!(2);
    let mut twice = cluster_spec(1);
    let group = twice["workerGroupSpecs"][0].clone();
    twice["workerGroupSpecs"]
        .as_array_mut()
        .unwrap()
        .push(group);
    let wrong = [
        (
            reserved,
            "the operator sets address, block, head, node-ip-address, port itself",
        ),
        (bounds, "replicas is smaller than minReplicas"),
        (twice, "Duplicate value"),
    ];
    for (spec, message) in wrong {
        let error = clusters
            .create(&PostParams::default(), &cluster("wrong", &spec))
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let jobs = Api::<AktisJob>::namespaced(client.clone(), NAMESPACE);
    let job: AktisJob = read(json!({
        "apiVersion": "aktis.dev/v1", "kind": "AktisJob", "metadata": { "name": "wrong" },
        "spec": { "entrypoint": "true" },
    }));
    let error = jobs
        .create(&PostParams::default(), &job)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exactly one of clusterSpec and clusterSelector is needed"),
        "{error}"
    );
}

pub(crate) async fn cluster_comes_scales_and_heals(client: &Client) {
    let clusters = Api::<AktisCluster>::namespaced(client.clone(), NAMESPACE);
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let labels = "aktis.dev/cluster=demo";
    let wanted = cluster("demo", &cluster_spec(2));
    clusters
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    is_ready(&clusters, "demo", 2).await;
    assert_eq!(
        pod_names(client, labels).await,
        ["demo-head", "demo-w-worker-0", "demo-w-worker-1"]
    );
    let secret = Api::<Secret>::namespaced(client.clone(), NAMESPACE)
        .get("demo-credentials")
        .await
        .unwrap();
    assert_eq!(secret.data.unwrap().len(), 4);

    scale(&clusters, "demo", 1).await;
    is_ready(&clusters, "demo", 1).await;
    assert_eq!(pod_names(client, labels).await.len(), 2);

    let head = pods.get("demo-head").await.unwrap().uid();
    pods.delete("demo-head", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    eventually(
        "another head and a worker of its own",
        PATIENCE,
        async || {
            let again = pods.get_opt("demo-head").await.unwrap()?.uid();
            let workers = pods
                .list(&ListParams::default().labels("aktis.dev/group=w"))
                .await
                .unwrap();
            let of_new_head =
                |pod: &Pod| pod.annotations().get("aktis.dev/head-uid") == again.as_ref();
            let mut workers = workers
                .iter()
                .filter(|pod| pod.labels()["aktis.dev/cluster"] == "demo");
            (again != head && workers.next().is_some_and(of_new_head)).then_some(())
        },
    )
    .await;

    let services = Api::<Service>::namespaced(client.clone(), NAMESPACE);
    let broken =
        Patch::Merge(json!({ "spec": { "selector": { "aktis.dev/node-type": "worker" } } }));
    services
        .patch("demo-head-svc", &PatchParams::default(), &broken)
        .await
        .unwrap();
    eventually(
        "the service leads to the head again",
        PATIENCE,
        async || {
            let selector = services
                .get("demo-head-svc")
                .await
                .unwrap()
                .spec?
                .selector?;
            (selector["aktis.dev/node-type"] == "head").then_some(())
        },
    )
    .await;

    let suspend = Patch::Merge(json!({ "spec": { "suspend": true } }));
    clusters
        .patch("demo", &PatchParams::default(), &suspend)
        .await
        .unwrap();
    eventually("the cluster is suspended", PATIENCE, async || {
        let state = clusters.get("demo").await.unwrap().status?.state;
        (state == Some(ClusterState::Suspended)).then_some(())
    })
    .await;
    assert!(pod_names(client, labels).await.is_empty());
}

async fn scale(clusters: &Api<AktisCluster>, name: &str, replicas: i32) {
    let spec = cluster_spec(replicas);
    let patch = Patch::Merge(json!({ "spec": spec }));
    clusters
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn is_ready(clusters: &Api<AktisCluster>, name: &str, workers: i32) {
    eventually("the cluster is ready", PATIENCE, async || {
        let cluster = clusters.get(name).await.unwrap();
        let status = cluster.status?;
        let is_current = status.observed_generation == cluster.metadata.generation;
        let is_ready = status.state == Some(ClusterState::Ready);
        (is_current && is_ready && status.available_worker_replicas == workers).then_some(())
    })
    .await;
}

pub(crate) async fn job_runs_and_its_cluster_goes(client: &Client) {
    let jobs = Api::<AktisJob>::namespaced(client.clone(), NAMESPACE);
    let job: AktisJob = read(json!({
        "apiVersion": "aktis.dev/v1", "kind": "AktisJob", "metadata": { "name": "train" },
        "spec": {
            "entrypoint": "python main.py", "clusterSpec": cluster_spec(1), "shutdownAfterJobFinishes": true,
        },
    }));
    jobs.create(&PostParams::default(), &job).await.unwrap();
    let status = eventually("the job is complete", PATIENCE, async || {
        let status = jobs.get("train").await.unwrap().status?;
        (status.job_deployment_status == Some(JobDeploymentStatus::Complete)).then_some(status)
    })
    .await;
    assert_eq!(status.job_status, Some(JobStatus::Succeeded));
    assert_eq!(status.cluster_name.as_deref(), Some("train-cluster"));
    assert!(status.start_time.is_some() && status.end_time.is_some());
    let clusters = Api::<AktisCluster>::namespaced(client.clone(), NAMESPACE);
    eventually("the job's cluster is gone", PATIENCE, async || {
        clusters
            .get_opt("train-cluster")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert_eq!(
        pod_names(client, "aktis.dev/job=train").await,
        ["train-submit-0"]
    );
}

/// The API refuses the pod: its volume has no source. The status says so.
pub(crate) async fn trouble_is_said(client: &Client) {
    let clusters = Api::<AktisCluster>::namespaced(client.clone(), NAMESPACE);
    let mut spec = cluster_spec(0);
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "nowhere", "mountPath": "/x" }]);
    let wanted = cluster("trouble", &spec);
    clusters
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    let message = eventually("the trouble is in the status", PATIENCE, async || {
        let status = clusters.get("trouble").await.unwrap().status?;
        let mut conditions = status.conditions.into_iter();
        let degraded = conditions.find(|known| known.type_ == "Degraded" && known.status == "True");
        degraded.map(|degraded| degraded.message)
    })
    .await;
    assert!(
        message.contains("create Pod trouble-head") && message.contains("nowhere"),
        "{message}"
    );
    clusters
        .delete("trouble", &DeleteParams::default())
        .await
        .unwrap();
}

/// Every minute: begun first and looked at last, for it may take that long.
pub(crate) async fn begin_schedule(client: &Client) -> String {
    let cron_jobs = Api::<AktisCronJob>::namespaced(client.clone(), NAMESPACE);
    let cron_job: AktisCronJob = read(json!({
        "apiVersion": "aktis.dev/v1", "kind": "AktisCronJob", "metadata": { "name": "minutely" },
        "spec": { "schedule": "* * * * *", "jobTemplate": {
            "entrypoint": "true", "clusterSelector": { "aktis.dev/cluster": "none" },
        } },
    }));
    cron_jobs
        .create(&PostParams::default(), &cron_job)
        .await
        .unwrap()
        .name_any()
}

pub(crate) async fn schedule_has_made_a_job(client: &Client, name: String) {
    let jobs = Api::<AktisJob>::namespaced(client.clone(), NAMESPACE);
    let labels = ListParams::default().labels(&format!("aktis.dev/cron-job={name}"));
    let job = eventually("the schedule has made a job", 2 * PATIENCE, async || {
        jobs.list(&labels).await.unwrap().items.pop()
    })
    .await;
    assert!(job.annotations()["aktis.dev/scheduled-at"].ends_with(":00Z"));
    let cron_jobs = Api::<AktisCronJob>::namespaced(client.clone(), NAMESPACE);
    eventually("the schedule remembers", PATIENCE, async || {
        let status = cron_jobs.get(&name).await.unwrap().status?;
        (status.last_schedule_time.is_some() && !status.active.is_empty()).then_some(())
    })
    .await;
}
