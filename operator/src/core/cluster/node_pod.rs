//! Pods that run a node of Aktis.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, Pod, PodTemplateSpec, Probe, ResourceRequirements,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::super::names::{self, CLUSTER_LABEL, GROUP_LABEL, HEAD_UID, ROLE_LABEL, SPEC_HASH};
use super::super::pods::{HEAD_PORT, WAIT_FOR_HEAD, equip, split};
use super::{credentials_secret, head_address};
use crate::api::{AktisCluster, PodTemplate, StartParams};

/// Becomes the node, when the head answers.
const START_WORKER: &str = r#"exec aktis start --node-ip-address "$POD_IP" --block --address "$@""#;

/// What a pod is made from, in eight digits. Not the pod itself: a new operator does not restart every cluster.
pub(super) fn spec_hash(params: &StartParams, template: &PodTemplate, credentials: &str) -> String {
    let source = serde_json::to_string(&(params, template, credentials)).expect("JSON of JSON");
    names::digest(source.as_bytes())
}

/// A head or worker that is to be.
pub(super) struct NodePod<'a> {
    pub(super) cluster: &'a AktisCluster,
    pub(super) params: &'a StartParams,
    pub(super) template: PodTemplateSpec,
    pub(super) hash: String,
}

impl NodePod<'_> {
    pub(super) fn head(&self) -> Pod {
        let name = names::name(&self.cluster.name_any(), "-head");
        self.pod(name, "head", None, |main, flags| {
            main.command = Some(vec!["aktis".to_owned()]);
            let own = ["start", "--head", "--node-ip-address=$(POD_IP)", "--block"];
            main.args = Some(own.map(str::to_owned).into_iter().chain(flags).collect());
            main.ports.get_or_insert_default().push(ContainerPort {
                name: Some("gcs".to_owned()),
                container_port: i32::from(HEAD_PORT),
                ..ContainerPort::default()
            });
            main.liveness_probe.get_or_insert_with(|| Probe {
                tcp_socket: Some(TCPSocketAction {
                    port: IntOrString::Int(i32::from(HEAD_PORT)),
                    host: None,
                }),
                initial_delay_seconds: Some(30),
                period_seconds: Some(10),
                failure_threshold: Some(6),
                ..Probe::default()
            });
        })
    }

    pub(super) fn worker(&self, group: &str, number: usize, head_uid: &str) -> Pod {
        let name = names::name(
            &format!("{}-{group}-worker", self.cluster.name_any()),
            &format!("-{number}"),
        );
        let address = head_address(self.cluster);
        self.pod(name, "worker", Some((group, head_uid)), |main, flags| {
            let script = format!("{WAIT_FOR_HEAD}{START_WORKER}");
            let command = ["/bin/sh", "-c", &script, "aktis-worker"];
            main.command = Some(command.map(str::to_owned).to_vec());
            main.args = Some([address].into_iter().chain(flags).collect());
        })
    }

    fn pod(
        &self,
        name: String,
        role: &str,
        of: Option<(&str, &str)>,
        start: impl FnOnce(&mut Container, Vec<String>),
    ) -> Pod {
        let (template, mut spec, mut main) =
            split(self.template.clone()).expect("the specification was checked");
        equip(&mut spec, &mut main, &credentials_secret(self.cluster));
        let flags = flags(self.params, main.resources.as_ref());
        start(&mut main, flags);
        main.readiness_probe.get_or_insert_with(readiness);
        spec.containers.insert(0, main);
        spec.restart_policy = Some("Always".to_owned());

        let given = template.metadata.unwrap_or_default();
        let (group, head_uid) = of.unwrap_or_default();
        let mut labels = given.labels.unwrap_or_default();
        labels.extend(names::labels([
            (CLUSTER_LABEL, names::label_value(&self.cluster.name_any())),
            (ROLE_LABEL, role.to_owned()),
            (GROUP_LABEL, group.to_owned()),
        ]));
        let mut annotations: BTreeMap<String, String> = given.annotations.unwrap_or_default();
        annotations.insert(SPEC_HASH.to_owned(), self.hash.clone());
        if !head_uid.is_empty() {
            annotations.insert(HEAD_UID.to_owned(), head_uid.to_owned());
        }
        let mut metadata = names::owned_by(self.cluster, name, labels);
        metadata.annotations = Some(annotations);
        metadata.finalizers = given.finalizers;
        Pod {
            metadata,
            spec: Some(spec),
            status: None,
        }
    }
}

/// The daemon of this pod runs and its head answers. Without an address the command asks for the daemon's own. Each pod asks the one
/// head, so nothing may grow with the cluster in the answer.
fn readiness() -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(["aktis", "health-check"].map(str::to_owned).to_vec()),
        }),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// Flags of the user, and of the container's resources where the user says nothing. Memory is not among them: a node
/// finds its container's limit by itself.
fn flags(params: &StartParams, resources: Option<&ResourceRequirements>) -> Vec<String> {
    let mut all = BTreeMap::new();
    let limit = |name: &str| {
        let resources = resources?;
        let of = |map: &Option<BTreeMap<String, Quantity>>| map.as_ref()?.get(name).cloned();
        of(&resources.limits).or_else(|| of(&resources.requests))
    };
    if let Some(cpus) = limit("cpu").and_then(|quantity| whole(&quantity)) {
        all.insert("num-cpus", cpus.to_string());
    }
    // Always: images may show all GPUs of the machine to containers that have not asked for one.
    all.insert("num-gpus", gpus(resources).to_string());
    for (name, value) in &params.0 {
        all.insert(name, value.clone());
    }
    all.into_iter()
        .map(|(name, value)| match &*value {
            "" => format!("--{name}"),
            _ => format!("--{name}={value}"),
        })
        .collect()
}

/// Devices of `nvidia.com/gpu`, `amd.com/gpu` and the like.
fn gpus(resources: Option<&ResourceRequirements>) -> u32 {
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    limits
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.ends_with("/gpu"))
        .filter_map(|(_, quantity)| whole(quantity))
        .sum()
}

/// A quantity of countable things, rounded up: `4`, `2500m`, `4k`.
fn whole(quantity: &Quantity) -> Option<u32> {
    let text = quantity.0.trim();
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 0.001),
        None => match text.strip_suffix('k') {
            Some(number) => (number, 1000.0),
            None => (text, 1.0),
        },
    };
    let value: f64 = number.parse().ok()?;
    let rounded = (value * factor).ceil();
    (0.0..=1e6).contains(&rounded).then_some(rounded as u32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flags_of(params: &[(&str, &str)], resources: serde_json::Value) -> Vec<String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let params = StartParams(params.iter().map(own).collect());
        flags(&params, Some(&serde_json::from_value(resources).unwrap()))
    }

    #[test]
    fn resources_of_the_container_become_those_of_the_node() {
        let resources =
            json!({ "limits": { "cpu": "2500m", "memory": "8Gi", "nvidia.com/gpu": 2 } });
        assert_eq!(flags_of(&[], resources), ["--num-cpus=3", "--num-gpus=2"]);
        assert_eq!(
            flags_of(&[], json!({ "requests": { "cpu": 4 } })),
            ["--num-cpus=4", "--num-gpus=0"]
        );
    }

    #[test]
    fn start_params_come_before_resources() {
        let params = [
            ("num-cpus", "0"),
            ("fresh", ""),
            ("labels", r#"{"zone":"a"}"#),
        ];
        assert_eq!(
            flags_of(&params, json!({ "limits": { "cpu": "8" } })),
            [
                "--fresh",
                r#"--labels={"zone":"a"}"#,
                "--num-cpus=0",
                "--num-gpus=0"
            ]
        );
    }

    #[test]
    fn quantities_of_cpus_are_rounded_up() {
        let whole = |text: &str| whole(&Quantity(text.to_owned()));
        assert_eq!(
            [whole("1"), whole("100m"), whole("1.5")],
            [Some(1), Some(1), Some(2)]
        );
        assert_eq!([whole("x"), whole("-1"), whole("")], [None, None, None]);
    }
}
