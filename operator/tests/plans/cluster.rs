//! Scenarios of clusters.

use aktis_operator::api::{AktisCluster, ClusterState};
use aktis_operator::core::cluster::CredentialsFacts;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use serde_json::json;

use crate::fixtures::{cluster, group, template, template_of};
use crate::pretended::{Pretended, failed, phase};

fn settled(groups: &[(&str, i32)]) -> (Pretended, AktisCluster) {
    let (mut world, mut cluster) = (Pretended::new(), cluster(groups));
    world.settle(&mut cluster);
    (world, cluster)
}

fn state(cluster: &AktisCluster) -> Option<ClusterState> {
    cluster.status.as_ref()?.state
}

fn condition(cluster: &AktisCluster, kind: &str) -> (String, String, String) {
    let conditions = &cluster.status.as_ref().unwrap().conditions;
    let found = conditions.iter().find(|known| known.type_ == kind).unwrap();
    (
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    )
}

fn main_container(pod: &Pod) -> &Container {
    &pod.spec.as_ref().unwrap().containers[0]
}

fn variable<'a>(pod: &'a Pod, name: &str) -> Vec<&'a EnvVar> {
    let all = main_container(pod).env.as_ref().unwrap();
    all.iter()
        .filter(|variable| variable.name == name)
        .collect()
}

#[test]
fn new_cluster_gets_secret_then_service_and_head_then_workers() {
    let (mut world, mut cluster) = (Pretended::new(), cluster(&[("gpu", 2)]));
    assert_eq!(
        world.cluster_round(&mut cluster),
        ["create secret demo-credentials"]
    );
    assert_eq!(
        world.cluster_round(&mut cluster),
        ["apply service demo-head-svc", "create pod demo-head"]
    );
    assert_eq!(
        world.cluster_round(&mut cluster),
        [
            "create pod demo-gpu-worker-0",
            "create pod demo-gpu-worker-1"
        ]
    );
    assert_eq!(state(&cluster), Some(ClusterState::Pending));
    world.all_ready();
    assert!(world.cluster_round(&mut cluster).is_empty());
    assert_eq!(state(&cluster), Some(ClusterState::Ready));
    let status = cluster.status.unwrap();
    assert_eq!(
        (status.desired_worker_replicas, status.ready_worker_replicas),
        (2, 2)
    );
    let head = status.head.unwrap();
    assert_eq!(head.address, "demo-head-svc.ns.svc:6379");
    assert_eq!(head.pod_ip.as_deref(), Some("10.0.0.7"));
}

#[test]
fn head_pod_starts_a_head_with_token_and_certificates() {
    let (world, _) = settled(&[]);
    let head = &world.pods["demo-head"];
    let main = main_container(head);
    assert_eq!(main.command.as_deref(), Some(&["aktis".to_owned()][..]));
    assert_eq!(
        main.args.as_deref().unwrap(),
        [
            "start",
            "--head",
            "--node-ip-address=$(POD_IP)",
            "--block",
            "--num-cpus=4",
            "--num-gpus=1"
        ]
    );
    let token = variable(head, "AKTIS_TOKEN");
    assert_eq!(token.len(), 1, "the template's own is replaced");
    let secret = token[0]
        .value_from
        .as_ref()
        .unwrap()
        .secret_key_ref
        .as_ref()
        .unwrap();
    assert_eq!((&*secret.name, &*secret.key), ("demo-credentials", "token"));
    assert_eq!(variable(head, "MINE").len(), 1);
    for name in ["AKTIS_TLS_CERT", "AKTIS_TLS_KEY", "AKTIS_TLS_CA"] {
        let path = variable(head, name)[0].value.as_deref().unwrap();
        assert!(path.starts_with("/etc/aktis/credentials/"), "{path}");
    }
    let mounts = main.volume_mounts.as_ref().unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| mount.mount_path == "/etc/aktis/credentials")
    );
    let labels = head.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["team"], "vision");
    assert_eq!(labels["aktis.dev/node-type"], "head");
    let owner = &head.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((&*owner.kind, &*owner.uid), ("AktisCluster", "cluster-uid"));
}

#[test]
fn probes_of_all_pods_ask_for_nothing_that_grows_with_the_cluster() {
    let (world, _) = settled(&[("gpu", 1)]);
    for pod in ["demo-head", "demo-gpu-worker-0"] {
        let probe = main_container(&world.pods[pod]).readiness_probe.as_ref();
        let command = probe.unwrap().exec.as_ref().unwrap().command.as_ref();
        assert_eq!(command.unwrap()[..], ["aktis", "health-check"], "{pod}");
    }
    let liveness = main_container(&world.pods["demo-head"])
        .liveness_probe
        .as_ref();
    assert!(liveness.unwrap().tcp_socket.is_some());
}

#[test]
fn worker_pod_waits_for_the_head_and_joins_it() {
    let (world, _) = settled(&[("gpu", 1)]);
    let worker = main_container(&world.pods["demo-gpu-worker-0"]);
    let command = worker.command.as_ref().unwrap();
    assert_eq!(command[..2], ["/bin/sh", "-c"]);
    assert!(
        command[2].contains(r#"until aktis health-check --address "$1""#),
        "{}",
        command[2]
    );
    assert!(
        command[2].trim_end().ends_with(r#"--block --address "$@""#),
        "{}",
        command[2]
    );
    assert_eq!(
        worker.args.as_deref().unwrap(),
        ["demo-head-svc.ns.svc:6379", "--num-cpus=4", "--num-gpus=1"]
    );
}

#[test]
fn service_without_address_of_its_own_leads_to_the_head_only() {
    let (world, _) = settled(&[]);
    let spec = world.service.unwrap().spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    let selector = spec.selector.unwrap();
    assert_eq!(selector["aktis.dev/node-type"], "head");
    assert_eq!(selector["aktis.dev/cluster"], "demo");
}

#[test]
fn scaling_down_takes_unready_then_newest() {
    let (mut world, mut cluster) = settled(&[("w", 2)]);
    cluster.spec.worker_group_specs[0].replicas = Some(4);
    world.cluster_round(&mut cluster);
    world.all_ready();
    world.set_status("demo-w-worker-0", phase("Running"));
    cluster.spec.worker_group_specs[0].replicas = Some(1);
    let done = world.cluster_round(&mut cluster);
    let reason = "its group has become smaller";
    assert_eq!(
        done,
        ["demo-w-worker-2", "demo-w-worker-3", "demo-w-worker-0"]
            .map(|name| format!("delete pod {name}: {reason}"))
    );
    world.settle(&mut cluster);
    assert_eq!(world.names(), ["demo-head", "demo-w-worker-1"]);
}

#[test]
fn failed_worker_is_replaced_under_a_free_name_but_not_in_a_storm() {
    let (mut world, mut cluster) = settled(&[("w", 1)]);
    world.set_status("demo-w-worker-0", failed(1, world.now));
    let done = world.cluster_round(&mut cluster);
    assert_eq!(
        done,
        [
            "delete pod demo-w-worker-0: it has ended",
            "create pod demo-w-worker-1"
        ]
    );
    world.set_status("demo-w-worker-1", failed(1, world.now));
    assert!(
        world.cluster_round(&mut cluster).is_empty(),
        "it is too young"
    );
    world.pass(10);
    let done = world.cluster_round(&mut cluster);
    assert_eq!(
        done,
        [
            "delete pod demo-w-worker-1: it has ended",
            "create pod demo-w-worker-2"
        ]
    );
}

#[test]
fn lost_head_takes_its_workers_along() {
    let (mut world, mut cluster) = settled(&[("w", 2)]);
    world.pods.remove("demo-head");
    let done = world.cluster_round(&mut cluster);
    assert_eq!(done[0], "create pod demo-head");
    assert_eq!(done[1..].len(), 2);
    assert!(
        done[1..]
            .iter()
            .all(|line| line.ends_with("its head is gone")),
        "{done:?}"
    );
    world.settle(&mut cluster);
    assert_eq!(world.names().len(), 3);
}

#[test]
fn head_on_its_way_out_is_waited_for() {
    let (mut world, mut cluster) = settled(&[]);
    let leaving = world.now;
    let head = world.pods.get_mut("demo-head").unwrap();
    head.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        leaving,
    ));
    assert!(world.cluster_round(&mut cluster).is_empty());
    world.finish_leaving();
    assert_eq!(world.cluster_round(&mut cluster), ["create pod demo-head"]);
}

#[test]
fn changed_worker_template_replaces_that_group_only() {
    let (mut world, mut cluster) = settled(&[("a", 1), ("b", 1)]);
    cluster.spec.worker_group_specs[1].template = template("worker:2");
    assert_eq!(
        world.cluster_round(&mut cluster),
        [
            "delete pod demo-b-worker-0: its template changed",
            "create pod demo-b-worker-1"
        ]
    );
}

#[test]
fn changed_head_template_replaces_everything() {
    let (mut world, mut cluster) = settled(&[("a", 2)]);
    cluster.spec.head_group_spec.template = template("head:2");
    let done = world.cluster_round(&mut cluster);
    assert_eq!(
        done.iter()
            .filter(|line| line.starts_with("delete pod"))
            .count(),
        3,
        "{done:?}"
    );
    world.settle(&mut cluster);
    assert_eq!(
        main_container(&world.pods["demo-head"]).image.as_deref(),
        Some("head:2")
    );
    assert_eq!(world.pods.len(), 3);
}

#[test]
fn deleted_secret_gives_new_credentials_and_new_pods() {
    let (mut world, mut cluster) = settled(&[("a", 1)]);
    let before = world.pods["demo-head"].metadata.uid.clone();
    world.credentials = None;
    world.settle(&mut cluster);
    assert_ne!(world.pods["demo-head"].metadata.uid, before);
    assert_eq!(state(&cluster), Some(ClusterState::Ready));
}

#[test]
fn secret_of_the_user_is_checked_and_never_made() {
    let (mut world, mut cluster) = (Pretended::new(), cluster(&[]));
    cluster.spec.credentials_secret = Some("mine".to_owned());
    assert!(world.cluster_round(&mut cluster).is_empty());
    assert_eq!(condition(&cluster, "CredentialsReady").1, "SecretNotFound");
    world.credentials = Some(CredentialsFacts {
        keys: vec!["ca.crt".to_owned(), "tls.crt".to_owned()],
        digest: "d".to_owned(),
    });
    assert!(world.cluster_round(&mut cluster).is_empty());
    assert_eq!(
        condition(&cluster, "CredentialsReady").2,
        "the Secret \"mine\" lacks token, tls.key"
    );
}

#[test]
fn suspended_cluster_has_no_pods_and_comes_back() {
    let (mut world, mut cluster) = settled(&[("w", 2)]);
    cluster.spec.suspend = true;
    world.settle(&mut cluster);
    assert!(world.pods.is_empty());
    assert_eq!(state(&cluster), Some(ClusterState::Suspended));
    cluster.spec.suspend = false;
    world.settle(&mut cluster);
    assert_eq!(world.pods.len(), 3);
    assert_eq!(state(&cluster), Some(ClusterState::Ready));
}

#[test]
fn group_that_is_taken_out_goes_and_the_others_stay() {
    let (mut world, mut cluster) = settled(&[("a", 1), ("b", 1)]);
    cluster.spec.worker_group_specs.remove(0);
    assert_eq!(
        world.cluster_round(&mut cluster),
        ["delete pod demo-a-worker-0: its group is gone"]
    );
}

/// OPR-5 (own-only).
#[test]
fn pods_of_others_are_neither_counted_nor_deleted() {
    let (mut world, mut cluster) = settled(&[("w", 1)]);
    let mut stranger = world.pods["demo-w-worker-0"].clone();
    stranger.metadata.name = Some("stranger".to_owned());
    stranger.metadata.owner_references = None;
    world.pods.insert("stranger".to_owned(), stranger);
    cluster.spec.suspend = true;
    world.settle(&mut cluster);
    assert_eq!(world.names(), ["stranger"]);
    assert_eq!(state(&cluster), Some(ClusterState::Suspended));
}

#[test]
fn wrong_specification_is_explained_and_what_runs_stays() {
    let (mut world, mut cluster) = settled(&[("w", 1)]);
    let wrong = [
        (
            json!({ "spec": { "containers": [{ "name": "a", "image": "i", "imagePullpolicy": "Always" }] } }),
            "worker group w: template: there is no field spec.containers[0].imagePullpolicy",
        ),
        (
            json!({ "spec": { "containers": [{ "name": "a", "image": "i", "args": ["x"] }] } }),
            "worker group w: template: spec.containers[0].args is the operator's to set",
        ),
    ];
    for (template, message) in wrong {
        cluster.spec.worker_group_specs[0].template = template_of(template);
        assert!(world.cluster_round(&mut cluster).is_empty());
        assert_eq!(state(&cluster), Some(ClusterState::Failed));
        assert_eq!(condition(&cluster, "SpecValid").2, message);
    }
    let mut reserved = group("w", 1);
    reserved
        .start_params
        .0
        .insert("address".to_owned(), "x".to_owned());
    cluster.spec.worker_group_specs = vec![reserved];
    world.cluster_round(&mut cluster);
    assert!(
        condition(&cluster, "SpecValid")
            .2
            .contains("sets \"address\" itself")
    );
    cluster.spec.worker_group_specs = vec![group("w", 1)];
    assert!(world.cluster_round(&mut cluster).is_empty());
    assert_eq!(state(&cluster), Some(ClusterState::Ready));
}

#[test]
fn names_of_long_clusters_fit() {
    let (mut world, mut cluster) = (Pretended::new(), cluster(&[("w", 2)]));
    cluster.metadata.name = Some(format!("9{}", "long.name".repeat(20)));
    world.settle(&mut cluster);
    assert_eq!(world.pods.len(), 3);
    for (name, pod) in &world.pods {
        assert!(name.len() <= 63, "{name}");
        for value in pod.metadata.labels.as_ref().unwrap().values() {
            assert!(value.len() <= 63, "{value}");
        }
    }
}
