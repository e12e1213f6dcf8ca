//! `AktisCluster`: a head and groups of workers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::start_params::StartParams;
use super::template::PodTemplate;

/// A cluster of Aktis: one head pod and groups of worker pods.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "aktis.dev",
    version = "v1",
    kind = "AktisCluster",
    doc = "A cluster of Aktis: one head pod and groups of worker pods.",
    namespaced,
    status = "AktisClusterStatus",
    derive = "PartialEq",
    category = "all",
    category = "aktis",
    printcolumn(
        name = "desired workers",
        type_ = "integer",
        json_path = ".status.desiredWorkerReplicas"
    ),
    printcolumn(
        name = "ready workers",
        type_ = "integer",
        json_path = ".status.readyWorkerReplicas"
    ),
    printcolumn(name = "status", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "address",
        type_ = "string",
        json_path = ".status.head.address",
        priority = 1
    ),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AktisClusterSpec {
    /// The head: the control store, and a first node.
    pub head_group_spec: HeadGroupSpec,
    /// Groups of equal workers.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["groupName".to_owned()]))]
    #[schemars(length(max = 64))]
    pub worker_group_specs: Vec<WorkerGroupSpec>,
    /// Deletes all pods while it is true; the cluster begins anew when it is false again.
    #[serde(default)]
    pub suspend: bool,
    /// A Secret with `token`, `ca.crt`, `tls.crt` (for the DNS name `aktis`) and `tls.key`. Not set: the operator makes
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

/// The head pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadGroupSpec {
    /// Flags of `aktis start --head`.
    #[serde(default)]
    pub start_params: StartParams,
    /// The head pod.
    pub template: PodTemplate,
}

/// A group of equal worker pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
        .message("minReplicas is larger than maxReplicas"),
    validation = Rule::new("!has(self.replicas) || self.replicas >= self.minReplicas")
        .message("replicas is smaller than minReplicas"),
    validation = Rule::new("!has(self.replicas) || !has(self.maxReplicas) || self.replicas <= self.maxReplicas")
        .message("replicas is larger than maxReplicas")
)]
pub struct WorkerGroupSpec {
    /// Name of the group, unique in the cluster.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub group_name: String,
    /// Workers wanted; not set means `minReplicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Lower bound of `replicas`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_replicas: i32,
    /// Upper bound of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_replicas: Option<i32>,
    /// Flags of `aktis start --address`.
    #[serde(default)]
    pub start_params: StartParams,
    /// The worker pods.
    pub template: PodTemplate,
}

impl WorkerGroupSpec {
    /// How many workers the group is to have.
    pub fn wanted(&self) -> usize {
        usize::try_from(self.replicas.unwrap_or(self.min_replicas)).unwrap_or(0)
    }
}

/// What the operator has made of an [`AktisCluster`].
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AktisClusterStatus {
    /// In one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ClusterState>,
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Workers that the groups want together.
    #[serde(default)]
    pub desired_worker_replicas: i32,
    /// Worker pods that exist and are not on their way out.
    #[serde(default)]
    pub available_worker_replicas: i32,
    /// Worker pods that are ready.
    #[serde(default)]
    pub ready_worker_replicas: i32,
    /// Sum of the groups' `minReplicas`.
    #[serde(default)]
    pub min_worker_replicas: i32,
    /// Where the head is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadStatus>,
    /// `SpecValid`, `CredentialsReady`, `HeadPodReady`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A cluster in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterState {
    /// Something is still to come.
    Pending,
    /// Head and all workers are ready.
    Ready,
    /// All pods are gone, as asked.
    Suspended,
    /// The specification makes no cluster; see the conditions.
    Failed,
}

/// Where the head is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadStatus {
    /// For `aktis start --address` and `AKTIS_ADDRESS`, inside the Kubernetes cluster.
    pub address: String,
    /// The head's service.
    pub service_name: String,
    /// The head pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Its address.
    #[serde(default, rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// The Secret with the cluster's token and certificates.
    pub credentials_secret: String,
}
