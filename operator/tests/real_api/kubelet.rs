//! Says of every pod that it is well: nodes are ready, programs have succeeded.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

pub(crate) async fn run(client: Client) {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let pods = Api::<Pod>::all(client.clone());
        let Ok(list) = pods.list(&ListParams::default()).await else {
            continue;
        };
        for pod in list {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            if phase == Some("Pending") {
                be_well(&client, &pod).await;
            }
        }
    }
}

async fn be_well(client: &Client, pod: &Pod) {
    let is_program =
        pod.labels().get("aktis.dev/node-type").map(String::as_str) == Some("submitter");
    let status = match is_program {
        true => json!({ "phase": "Succeeded" }),
        false => json!({
            "phase": "Running",
            "podIP": "10.1.2.3",
            "podIPs": [{ "ip": "10.1.2.3" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        }),
    };
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({ "status": status }));
    // It may be gone by now.
    let _ = pods
        .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
        .await;
}
