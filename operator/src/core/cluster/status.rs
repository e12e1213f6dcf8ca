//! What is said about a cluster.

use jiff::Timestamp;

use super::super::conditions::{Verdict, note};
use super::super::names::ROLE_LABEL;
use super::super::pods::PodFacts;
use super::{ObservedCluster, SpecError, credentials_secret, head_address, own_pods, service_name};
use crate::api::{AktisCluster, AktisClusterStatus, ClusterState, HeadStatus};

/// The specification is wrong; what runs stays.
pub(super) fn invalid(
    cluster: &AktisCluster,
    observed: &ObservedCluster,
    error: &SpecError,
    now: Timestamp,
) -> AktisClusterStatus {
    let mut writer = Writer::new(cluster, observed, now);
    writer.note("SpecValid", Verdict::no("InvalidSpec", error.to_string()));
    writer.note(
        "Ready",
        Verdict::no("InvalidSpec", "the specification makes no cluster"),
    );
    writer.finish(ClusterState::Failed)
}

/// The pods go or are gone.
pub(super) fn suspended(
    cluster: &AktisCluster,
    observed: &ObservedCluster,
    now: Timestamp,
) -> AktisClusterStatus {
    let left = own_pods(cluster, observed).count();
    let mut writer = Writer::new(cluster, observed, now);
    writer.note("SpecValid", Verdict::yes("Checked"));
    writer.note("HeadPodReady", Verdict::no("Suspended", ""));
    writer.note("Ready", Verdict::no("Suspended", ""));
    writer.finish(match left {
        0 => ClusterState::Suspended,
        _ => ClusterState::Pending,
    })
}

/// Nothing can be started yet.
pub(super) fn without_credentials(
    cluster: &AktisCluster,
    observed: &ObservedCluster,
    verdict: Verdict,
    now: Timestamp,
) -> AktisClusterStatus {
    let mut writer = Writer::new(cluster, observed, now);
    writer.note("SpecValid", Verdict::yes("Checked"));
    let message = verdict.message.clone();
    writer.note("CredentialsReady", verdict);
    writer.note("Ready", Verdict::no("CredentialsNotReady", message));
    writer.finish(ClusterState::Pending)
}

/// Everything is asked for; how far is it?
pub(super) fn running(
    cluster: &AktisCluster,
    observed: &ObservedCluster,
    now: Timestamp,
) -> AktisClusterStatus {
    let mut writer = Writer::new(cluster, observed, now);
    writer.note("SpecValid", Verdict::yes("Checked"));
    writer.note("CredentialsReady", Verdict::yes("SecretFound"));
    let is_head_ready = writer.head.is_some_and(PodFacts::is_ready);
    let head = match writer.head {
        Some(head) if head.is_ready() => Verdict::yes("HeadPodReady"),
        Some(head) if head.has_ended() => Verdict::no("HeadPodEnded", head.ending()),
        Some(head) => Verdict::no(
            "HeadPodNotReady",
            format!("pod {} is not ready", head.name()),
        ),
        None => Verdict::no("HeadPodNotFound", "there is no head pod"),
    };
    writer.note("HeadPodReady", head);
    let (ready, wanted) = (
        writer.status.ready_worker_replicas,
        writer.status.desired_worker_replicas,
    );
    let verdict = match () {
        () if !is_head_ready => Verdict::no("HeadPodNotReady", "the head is not ready"),
        () if ready < wanted => Verdict::no(
            "WorkersNotReady",
            format!("{ready} of {wanted} workers are ready"),
        ),
        () => Verdict::yes("AllPodsReady"),
    };
    let state = match verdict.holds {
        true => ClusterState::Ready,
        false => ClusterState::Pending,
    };
    writer.note("Ready", verdict);
    writer.finish(state)
}

struct Writer<'a> {
    status: AktisClusterStatus,
    head: Option<PodFacts<'a>>,
    generation: Option<i64>,
    now: Timestamp,
}

impl<'a> Writer<'a> {
    fn new(cluster: &AktisCluster, observed: &'a ObservedCluster, now: Timestamp) -> Self {
        let pods: Vec<PodFacts<'a>> = own_pods(cluster, observed)
            .filter(|pod| !pod.is_leaving())
            .collect();
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let workers = || pods.iter().filter(|pod| pod.label(ROLE_LABEL) == "worker");
        let specs = &cluster.spec.worker_group_specs;
        let head = pods
            .iter()
            .copied()
            .find(|pod| pod.label(ROLE_LABEL) == "head");
        let status = AktisClusterStatus {
            observed_generation: cluster.metadata.generation,
            desired_worker_replicas: count(specs.iter().map(|spec| spec.wanted()).sum()),
            min_worker_replicas: specs.iter().map(|spec| spec.min_replicas).sum(),
            available_worker_replicas: count(workers().filter(|pod| !pod.has_ended()).count()),
            ready_worker_replicas: count(workers().filter(|pod| pod.is_ready()).count()),
            head: Some(HeadStatus {
                address: head_address(cluster),
                service_name: service_name(cluster),
                pod_name: head.map(|head| head.name().to_owned()),
                pod_ip: head.and_then(PodFacts::ip),
                credentials_secret: credentials_secret(cluster),
            }),
            conditions: cluster
                .status
                .as_ref()
                .map(|status| status.conditions.clone())
                .unwrap_or_default(),
            state: None,
        };
        Self {
            status,
            head,
            generation: cluster.metadata.generation,
            now,
        }
    }

    fn note(&mut self, kind: &str, verdict: Verdict) {
        note(
            &mut self.status.conditions,
            kind,
            verdict,
            self.generation,
            self.now,
        );
    }

    fn finish(mut self, state: ClusterState) -> AktisClusterStatus {
        self.status.state = Some(state);
        self.status
    }
}
