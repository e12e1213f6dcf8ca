//! Rounds of the controllers against an API whose answers are scripted: which calls are made, in which order.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod scripted;

use std::sync::Arc;

use aktis_operator::api::{AktisCluster, AktisCronJob};
use aktis_operator::controllers::{Context, reconcile};
use jiff::Timestamp;
use kube::runtime::controller::Action;
use scripted::{Answer, Call, Scripted};
use serde_json::{Value, json};

const CLUSTER: &str = "/apis/aktis.dev/v1/namespaces/ns/aktisclusters/demo";
const SECRET: &str = "/api/v1/namespaces/ns/secrets/demo-credentials";
const SERVICE: &str = "/api/v1/namespaces/ns/services/demo-head-svc";
const PODS: &str = "/api/v1/namespaces/ns/pods";
const CRON_JOB: &str = "/apis/aktis.dev/v1/namespaces/ns/aktiscronjobs/nightly";
const JOBS: &str = "/apis/aktis.dev/v1/namespaces/ns/aktisjobs";

fn ten_oclock() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn cluster() -> Value {
    json!({
        "apiVersion": "aktis.dev/v1",
        "kind": "AktisCluster",
        "metadata": { "name": "demo", "namespace": "ns", "uid": "u", "generation": 1 },
        "spec": {
            "headGroupSpec": { "template": { "spec": { "containers": [{ "name": "a", "image": "i" }] } } },
        },
    })
}

fn secret() -> Value {
    let data = json!({ "token": "dA==", "ca.crt": "dA==", "tls.crt": "dA==", "tls.key": "dA==" });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "demo-credentials" }, "data": data })
}

fn cron_job() -> Value {
    json!({
        "apiVersion": "aktis.dev/v1",
        "kind": "AktisCronJob",
        "metadata": {
            "name": "nightly", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-11-22T09:30:00Z",
        },
        "spec": { "schedule": "0 * * * *", "jobTemplate": {
            "entrypoint": "true", "clusterSelector": { "aktis.dev/cluster": "demo" },
        } },
    })
}

fn list(kind: &str, items: &[Value]) -> Answer {
    Answer::ok(json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": items }))
}

fn condition<'a>(call: &'a Call, kind: &str) -> &'a Value {
    let conditions = call.body["status"]["conditions"].as_array().unwrap();
    conditions
        .iter()
        .find(|known| known["type"] == kind)
        .unwrap()
}

/// One round for the cluster; gives its result and the calls it made.
async fn cluster_round(answers: Vec<Answer>) -> (Result<Action, String>, Vec<Call>) {
    let (client, script) = Scripted::answering(answers);
    let seen: AktisCluster = serde_json::from_value(cluster()).unwrap();
    let context = Arc::new(Context::with_clock(client, ten_oclock));
    let result = reconcile(Arc::new(seen), context).await;
    (result.map_err(|error| error.to_string()), script.calls())
}

async fn cron_round(answers: Vec<Answer>) -> (Result<Action, String>, Vec<Call>) {
    let (client, script) = Scripted::answering(answers);
    let seen: AktisCronJob = serde_json::from_value(cron_job()).unwrap();
    let context = Arc::new(Context::with_clock(client, ten_oclock));
    let result = reconcile(Arc::new(seen), context).await;
    (result.map_err(|error| error.to_string()), script.calls())
}

#[tokio::test]
async fn new_cluster_is_looked_at_then_gets_a_secret_then_a_status() {
    let (result, calls) = cluster_round(vec![
        Answer::ok(cluster()),
        Answer::refused(404, "NotFound"),
        Answer::refused(404, "NotFound"),
        list("PodList", &[]),
        Answer::echo(),
        Answer::ok(cluster()),
    ])
    .await;
    result.unwrap();
    let made: Vec<(&str, &str)> = calls
        .iter()
        .map(|call| (&*call.method, &*call.path))
        .collect();
    assert_eq!(
        made,
        [
            ("GET", CLUSTER),
            ("GET", SECRET),
            ("GET", SERVICE),
            ("GET", PODS),
            ("POST", "/api/v1/namespaces/ns/secrets"),
            ("PATCH", &*format!("{CLUSTER}/status")),
        ]
    );
    assert!(
        calls[3]
            .query
            .contains("labelSelector=aktis.dev%2Fcluster%3Ddemo"),
        "{}",
        calls[3].query
    );
    assert_eq!(calls[4].body["immutable"], true);
    assert_eq!(calls[4].body["metadata"]["ownerReferences"][0]["uid"], "u");
    assert!(
        calls[5].query.contains("fieldManager=aktis-operator"),
        "{}",
        calls[5].query
    );
    assert_eq!(calls[5].body["status"]["state"], "Pending");
    assert_eq!(calls[5].body["status"]["observedGeneration"], 1);
}

#[tokio::test]
async fn service_is_applied_and_the_head_is_created() {
    let (result, calls) = cluster_round(vec![
        Answer::ok(cluster()),
        Answer::ok(secret()),
        Answer::refused(404, "NotFound"),
        list("PodList", &[]),
        Answer::echo(),
        Answer::echo(),
        Answer::ok(cluster()),
    ])
    .await;
    result.unwrap();
    assert_eq!((&*calls[4].method, &*calls[4].path), ("PATCH", SERVICE));
    assert!(calls[4].query.contains("force=true"), "{}", calls[4].query);
    assert_eq!((&*calls[5].method, &*calls[5].path), ("POST", PODS));
    assert_eq!(calls[5].body["metadata"]["name"], "demo-head");
    assert_eq!(condition(&calls[6], "CredentialsReady")["status"], "True");
}

#[tokio::test]
async fn refused_pod_is_said_in_the_status_and_tried_again() {
    let (result, calls) = cluster_round(vec![
        Answer::ok(cluster()),
        Answer::ok(secret()),
        Answer::refused(404, "NotFound"),
        list("PodList", &[]),
        Answer::echo(),
        Answer::refused(403, "exceeded quota: gpus"),
        Answer::ok(cluster()),
    ])
    .await;
    assert_eq!(
        result.unwrap_err(),
        "create Pod demo-head: exceeded quota: gpus"
    );
    let degraded = condition(&calls[6], "Degraded");
    assert_eq!(
        (&degraded["status"], &degraded["reason"]),
        (&json!("True"), &json!("ApiRefused"))
    );
    assert_eq!(
        degraded["message"],
        "create Pod demo-head: exceeded quota: gpus"
    );
}

#[tokio::test]
async fn nothing_is_written_when_nothing_has_changed() {
    let mut answers = vec![
        Answer::ok(cluster()),
        Answer::refused(404, "NotFound"),
        Answer::refused(404, "NotFound"),
        list("PodList", &[]),
        Answer::echo(),
        Answer::ok(cluster()),
    ];
    let (_, calls) = cluster_round(answers.clone()).await;
    let mut known = cluster();
    known["status"] = calls[5].body["status"].clone();
    answers[0] = Answer::ok(known);
    answers.pop();
    let (result, calls) = cluster_round(answers).await;
    result.unwrap();
    assert_eq!(calls.len(), 5, "no status: {calls:?}");
}

#[tokio::test]
async fn pods_are_deleted_by_identity_and_may_be_gone() {
    let mut suspended = cluster();
    suspended["spec"]["suspend"] = json!(true);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "demo-head", "namespace": "ns", "uid": "pod-uid",
            "labels": { "aktis.dev/cluster": "demo", "aktis.dev/node-type": "head" },
            "ownerReferences": [{
                "apiVersion": "aktis.dev/v1", "kind": "AktisCluster", "name": "demo", "uid": "u", "controller": true,
            }],
        },
    });
    let (result, calls) = cluster_round(vec![
        Answer::ok(suspended),
        Answer::ok(secret()),
        Answer::refused(404, "NotFound"),
        list("PodList", &[pod]),
        Answer::refused(404, "NotFound"),
        Answer::ok(cluster()),
    ])
    .await;
    result.unwrap();
    assert_eq!(
        (&*calls[4].method, &*calls[4].path),
        ("DELETE", &*format!("{PODS}/demo-head"))
    );
    assert_eq!(calls[4].body["preconditions"]["uid"], "pod-uid");
}

#[tokio::test]
async fn cluster_that_is_gone_or_going_is_left_to_the_garbage_collector() {
    let (result, calls) = cluster_round(vec![Answer::refused(404, "NotFound")]).await;
    assert_eq!((result.unwrap(), calls.len()), (Action::await_change(), 1));
    let mut going = cluster();
    going["metadata"]["deletionTimestamp"] = json!("2026-11-22T09:59:00Z");
    let (result, calls) = cluster_round(vec![Answer::ok(going)]).await;
    assert_eq!((result.unwrap(), calls.len()), (Action::await_change(), 1));
}

#[tokio::test]
async fn job_of_a_schedule_is_made_before_its_time_is_remembered() {
    let (result, calls) = cron_round(vec![
        Answer::ok(cron_job()),
        list("AktisJobList", &[]),
        Answer::echo(),
        Answer::ok(cron_job()),
    ])
    .await;
    result.unwrap();
    assert_eq!((&*calls[2].method, &*calls[2].path), ("POST", JOBS));
    assert_eq!(
        (&*calls[3].method, &*calls[3].path),
        ("PATCH", &*format!("{CRON_JOB}/status"))
    );
    assert_eq!(
        calls[3].body["status"]["lastScheduleTime"],
        "2026-11-22T10:00:00Z"
    );
}

#[tokio::test]
async fn time_of_a_job_that_could_not_be_made_is_not_remembered() {
    let (result, calls) = cron_round(vec![
        Answer::ok(cron_job()),
        list("AktisJobList", &[]),
        Answer::refused(500, "etcd is away"),
        Answer::ok(cron_job()),
    ])
    .await;
    assert!(result.unwrap_err().contains("etcd is away"));
    assert_eq!(calls[3].body["status"].get("lastScheduleTime"), None);
    assert_eq!(condition(&calls[3], "Degraded")["reason"], "ApiUnavailable");
}
