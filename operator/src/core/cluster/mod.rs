//! From an `AktisCluster` and its pods to the next steps.
//!
//! ```text
//!  spec ──► validate ──► credentials ──► service ──► head ──► workers ──► status
//!              │             │                         │          │
//!              ▼ no          ▼ none: make, look again  │          └ of this head and this template only
//!          SpecValid=False                             └ one at a time: the next when the last is gone
//! ```
//!
//! # Invariants
//! - `OPR-1 (one-head)`: no head is made while a head pod is there, not even one that is on its way out.
//! - `OPR-2 (bounded)`: a group never has more pods than it wants, those on their way out not counted.
//! - `OPR-3 (settles)`: when nothing changes, plans come to an end with what was asked for.
//! - `OPR-5 (own-only)`: only pods that the cluster controls are counted or deleted.

mod check;
mod groups;
mod node_pod;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::action::{Action, CredentialsOrder, Plan};
use super::conditions::Verdict;
use super::names::{self, CLUSTER_LABEL, GROUP_LABEL, ROLE_LABEL, SPEC_HASH};
use super::pods::{CREDENTIAL_KEYS, HEAD_PORT, PodFacts};
use crate::api::{AktisCluster, AktisClusterStatus};
pub use check::SpecError;
use check::check;
pub(in crate::core) use check::check_spec;
use groups::Group;
use node_pod::NodePod;

/// Pods that have ended are replaced when they are at least so old: no storm of pods that fail at once.
const REPLACE_AFTER: Duration = Duration::from_secs(10);
/// Secrets are not watched; so often they are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// What there is of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedCluster {
    /// The Secret that [`credentials_secret`] names.
    pub credentials: Option<CredentialsFacts>,
    /// The head's service.
    pub service: Option<Service>,
    /// Pods with the label of the cluster.
    pub pods: Vec<Pod>,
}

/// What plans need to know of a Secret; not its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialsFacts {
    /// Keys that have content.
    pub keys: Vec<String>,
    /// Digest of the content.
    pub digest: String,
}

/// Name of the Secret with the cluster's credentials.
pub fn credentials_secret(cluster: &AktisCluster) -> String {
    let given = cluster.spec.credentials_secret.clone();
    given.unwrap_or_else(|| names::name(&cluster.name_any(), "-credentials"))
}

/// Name of the head's service.
pub fn service_name(cluster: &AktisCluster) -> String {
    names::name(&cluster.name_any(), "-head-svc")
}

/// Where the head is reached inside the Kubernetes cluster.
pub fn head_address(cluster: &AktisCluster) -> String {
    let namespace = cluster.namespace().unwrap_or_default();
    format!("{}.{namespace}.svc:{HEAD_PORT}", service_name(cluster))
}

/// The next steps for `cluster`: none where what there is is what is wanted (`OPR-3`).
pub fn plan(
    cluster: &AktisCluster,
    observed: &ObservedCluster,
    now: Timestamp,
) -> Plan<AktisClusterStatus> {
    let mut planner = ClusterPlanner {
        cluster,
        observed,
        now,
        actions: Vec::new(),
        requeue_after: LOOK_AGAIN,
    };
    let status = planner.decide();
    Plan {
        actions: planner.actions,
        status,
        requeue_after: Some(planner.requeue_after),
    }
}

struct ClusterPlanner<'a> {
    cluster: &'a AktisCluster,
    observed: &'a ObservedCluster,
    now: Timestamp,
    actions: Vec<Action>,
    requeue_after: Duration,
}

impl<'a> ClusterPlanner<'a> {
    fn decide(&mut self) -> AktisClusterStatus {
        let checked = match check(&self.cluster.spec) {
            Ok(checked) => checked,
            Err(error) => return status::invalid(self.cluster, self.observed, &error, self.now),
        };
        if self.cluster.spec.suspend {
            self.delete_all("the cluster is suspended");
            return status::suspended(self.cluster, self.observed, self.now);
        }
        let digest = match self.credentials() {
            Ok(digest) => digest,
            Err(verdict) => {
                return status::without_credentials(self.cluster, self.observed, verdict, self.now);
            }
        };
        self.service();
        let head = self.head(checked.head, &digest);
        self.workers(checked.groups, head, &digest);
        status::running(self.cluster, self.observed, self.now)
    }

    /// The digest of the credentials, or why there are none.
    fn credentials(&mut self) -> Result<String, Verdict> {
        let name = credentials_secret(self.cluster);
        let Some(facts) = &self.observed.credentials else {
            if self.cluster.spec.credentials_secret.is_some() {
                self.requeue_after = Duration::from_secs(10);
                let message = format!("there is no Secret {name:?}");
                return Err(Verdict::no("SecretNotFound", message));
            }
            let labels =
                names::labels([(CLUSTER_LABEL, names::label_value(&self.cluster.name_any()))]);
            let metadata = names::owned_by(self.cluster, name, labels);
            self.actions
                .push(Action::CreateCredentials(Box::new(CredentialsOrder {
                    metadata,
                })));
            self.requeue_after = Duration::from_secs(1);
            return Err(Verdict::no(
                "Creating",
                "token and certificates are being made",
            ));
        };
        let missing: Vec<&str> = CREDENTIAL_KEYS
            .into_iter()
            .filter(|key| !facts.keys.iter().any(|known| known == key))
            .collect();
        if missing.is_empty() {
            return Ok(facts.digest.clone());
        }
        self.requeue_after = Duration::from_secs(10);
        let message = format!("the Secret {name:?} lacks {}", missing.join(", "));
        Err(Verdict::no("SecretIncomplete", message))
    }

    fn service(&mut self) {
        let wanted = service(self.cluster);
        let is_right = self.observed.service.as_ref().is_some_and(|known| {
            let parts = |service: &Service| {
                let spec = service.spec.clone().unwrap_or_default();
                let ports = spec.ports.unwrap_or_default();
                let ports: Vec<i32> = ports.iter().map(|port| port.port).collect();
                (spec.selector, spec.cluster_ip, ports)
            };
            parts(known) == parts(&wanted)
        });
        if !is_right {
            self.actions.push(Action::ApplyService(Box::new(wanted)));
        }
    }

    /// Sees to the head; gives it if it is the one that is wanted.
    fn head(&mut self, template: PodTemplateSpec, digest: &str) -> Option<PodFacts<'a>> {
        let params = &self.cluster.spec.head_group_spec.start_params;
        let raw = &self.cluster.spec.head_group_spec.template;
        let hash = node_pod::spec_hash(params, raw, digest);
        let heads: Vec<PodFacts<'a>> = own_pods(self.cluster, self.observed)
            .filter(|pod| pod.label(ROLE_LABEL) == "head")
            .collect();
        let mut current = None;
        for head in heads.iter().copied().filter(|head| !head.is_leaving()) {
            let reason = match () {
                () if current.is_some() => Some("there is another head"),
                () if head.annotation(SPEC_HASH) != hash => Some("the head's template changed"),
                () if head.has_ended() && self.may_be_replaced(head) => Some("the head has ended"),
                () => None,
            };
            match reason {
                Some(reason) => self.actions.push(Action::DeletePod(head.target(reason))),
                None => current = Some(head),
            }
        }
        // `OPR-1`: one that is on its way out is a head still.
        if heads.is_empty() {
            let pod = NodePod {
                cluster: self.cluster,
                params,
                template,
                hash,
            };
            self.actions.push(Action::CreatePod(Box::new(pod.head())));
        }
        current.filter(|head| !head.has_ended())
    }

    fn workers(
        &mut self,
        templates: Vec<PodTemplateSpec>,
        head: Option<PodFacts<'a>>,
        digest: &str,
    ) {
        let workers: Vec<PodFacts<'a>> = own_pods(self.cluster, self.observed)
            .filter(|pod| pod.label(ROLE_LABEL) == "worker")
            .collect();
        let specs = &self.cluster.spec.worker_group_specs;
        for worker in workers.iter().filter(|worker| !worker.is_leaving()) {
            let group = worker.label(GROUP_LABEL);
            if !specs.iter().any(|spec| spec.group_name == group) {
                let target = worker.target("its group is gone");
                self.actions.push(Action::DeletePod(target));
            }
        }
        for (spec, template) in specs.iter().zip(templates) {
            let hash = node_pod::spec_hash(&spec.start_params, &spec.template, digest);
            let group = Group {
                pods: workers
                    .iter()
                    .copied()
                    .filter(|pod| pod.label(GROUP_LABEL) == spec.group_name)
                    .collect(),
                // `OPR-2`: no more than these, however many are to be replaced.
                wanted: if head.is_some() { spec.wanted() } else { 0 },
                hash: hash.clone(),
                head_uid: head.map(PodFacts::uid),
            };
            let sorted = group.sort(|pod| self.may_be_replaced(pod));
            for (worker, reason) in sorted.to_delete {
                self.actions.push(Action::DeletePod(worker.target(reason)));
            }
            let Some(head) = head else { continue };
            let pod = NodePod {
                cluster: self.cluster,
                params: &spec.start_params,
                template,
                hash,
            };
            for index in sorted.to_create {
                let worker = pod.worker(&spec.group_name, index, head.uid());
                self.actions.push(Action::CreatePod(Box::new(worker)));
            }
        }
    }

    fn may_be_replaced(&mut self, pod: PodFacts<'_>) -> bool {
        let Some(created) = pod.created() else {
            return true;
        };
        let age = Duration::try_from(self.now.duration_since(created)).unwrap_or_default();
        let left = REPLACE_AFTER.saturating_sub(age);
        if !left.is_zero() {
            self.requeue_after = self.requeue_after.min(left);
        }
        left.is_zero()
    }

    fn delete_all(&mut self, reason: &'static str) {
        let leaving = own_pods(self.cluster, self.observed).filter(|pod| !pod.is_leaving());
        let deletions = leaving.map(|pod| Action::DeletePod(pod.target(reason)));
        self.actions.extend(deletions);
    }
}

/// `OPR-5 (own-only)`.
fn own_pods<'a>(
    cluster: &AktisCluster,
    observed: &'a ObservedCluster,
) -> impl Iterator<Item = PodFacts<'a>> {
    let pods = observed.pods.iter();
    pods.filter(|pod| names::is_owned_by(&pod.metadata, cluster))
        .map(PodFacts)
}

/// The head's service. It has no address of its own: workers connect to the pod, and only once it is ready.
fn service(cluster: &AktisCluster) -> Service {
    let value = names::label_value(&cluster.name_any());
    let selector = [
        (CLUSTER_LABEL, value.clone()),
        (ROLE_LABEL, "head".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let labels = names::labels([(CLUSTER_LABEL, value), (ROLE_LABEL, "head".to_owned())]);
    Service {
        metadata: names::owned_by(cluster, service_name(cluster), labels),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector.into_iter().collect()),
            ports: Some(vec![ServicePort {
                name: Some("gcs".to_owned()),
                port: i32::from(HEAD_PORT),
                target_port: Some(IntOrString::Int(i32::from(HEAD_PORT))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
