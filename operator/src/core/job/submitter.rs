//! The pod that runs an entrypoint: a node of the cluster without CPUs, and the program on it.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::super::cluster::{credentials_secret, head_address};
use super::super::names::{self, CLUSTER_LABEL, JOB_LABEL, ROLE_LABEL};
use super::super::pods::{WAIT_FOR_HEAD, equip, plain, set_env, split};
use super::attempt::pod_name;
use crate::api::{AktisCluster, AktisJob, TemplateError};

/// A driver joins by the node of its machine, so the pod becomes a node first. Its tasks run elsewhere.
const RUN: &str = r#"aktis start --address "$1" --node-ip-address "$POD_IP" --num-cpus 0 --num-gpus 0 >&2 || exit 1
exec /bin/sh -c "$2"
"#;

/// The pod of attempt `number` on `cluster`.
///
/// # Errors
/// When the template is none: that of a cluster that is ready may have been changed a moment ago.
pub(super) fn pod(
    job: &AktisJob,
    cluster: &AktisCluster,
    number: i32,
) -> Result<Pod, TemplateError> {
    let own = job.spec.submitter_pod_template.as_ref();
    let head = &cluster.spec.head_group_spec.template;
    let (template, mut spec, mut main) = split(own.unwrap_or(head).typed()?)?;
    if own.is_none() {
        make_small(&mut main);
        spec.containers.clear();
    }
    equip(&mut spec, &mut main, &credentials_secret(cluster));
    let address = head_address(cluster);
    set_env(&mut main, plain("AKTIS_ADDRESS", address.clone()));
    let script = format!("{WAIT_FOR_HEAD}{RUN}");
    let command = ["/bin/sh", "-c", &script, "aktis-submitter"];
    main.command = Some(command.map(str::to_owned).to_vec());
    main.args = Some(vec![address, job.spec.entrypoint.clone()]);
    spec.containers.insert(0, main);
    spec.restart_policy = Some("Never".to_owned());

    let given = template.metadata.unwrap_or_default();
    let mut labels = given.labels.unwrap_or_default();
    labels.extend(names::labels([
        (JOB_LABEL, names::label_value(&job.name_any())),
        (CLUSTER_LABEL, names::label_value(&cluster.name_any())),
        (ROLE_LABEL, "submitter".to_owned()),
    ]));
    let mut metadata = names::owned_by(job, pod_name(job, number), labels);
    metadata.annotations = given.annotations;
    Ok(Pod {
        metadata,
        spec: Some(spec),
        status: None,
    })
}

/// The head's container without what makes it a head.
fn make_small(main: &mut Container) {
    main.ports = None;
    main.lifecycle = None;
    main.liveness_probe = None;
    main.readiness_probe = None;
    main.startup_probe = None;
    let quantity = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    main.resources = Some(ResourceRequirements {
        requests: Some([quantity("cpu", "500m"), quantity("memory", "1Gi")].into()),
        limits: Some([quantity("memory", "2Gi")].into()),
        ..ResourceRequirements::default()
    });
}
