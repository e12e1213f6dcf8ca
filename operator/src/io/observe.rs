//! What there is.

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};

use super::ApiError;
use crate::api::{AktisCluster, AktisCronJob, AktisJob};
use crate::core::cluster::{self, CredentialsFacts, ObservedCluster};
use crate::core::job::{self, ObservedJob};
use crate::core::names::{self, CLUSTER_LABEL, CRON_JOB_LABEL, JOB_LABEL};

/// Credentials, service and pods of a cluster.
///
/// # Errors
/// When the API does not answer, or refuses.
pub async fn observe_cluster(
    client: &Client,
    cluster: &AktisCluster,
) -> Result<ObservedCluster, ApiError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let secret = cluster::credentials_secret(cluster);
    let found = Api::<Secret>::namespaced(client.clone(), &namespace)
        .get_opt(&secret)
        .await
        .map_err(|error| ApiError::new("read", format!("Secret {secret}"), &error))?;
    let service = cluster::service_name(cluster);
    let service = Api::<Service>::namespaced(client.clone(), &namespace)
        .get_opt(&service)
        .await
        .map_err(|error| ApiError::new("read", format!("Service {service}"), &error))?;
    let label = names::label_value(&cluster.name_any());
    Ok(ObservedCluster {
        credentials: found.map(|secret| facts(&secret)),
        service,
        pods: labelled::<Pod>(client, &namespace, CLUSTER_LABEL, &label).await?,
    })
}

/// Cluster and pods of a job.
///
/// # Errors
/// When the API does not answer, or refuses.
pub async fn observe_job(client: &Client, job: &AktisJob) -> Result<ObservedJob, ApiError> {
    let namespace = job.namespace().unwrap_or_default();
    let clusters = Api::<AktisCluster>::namespaced(client.clone(), &namespace);
    let failed = |error: &kube::Error| ApiError::new("read", "AktisClusters", error);
    let found = if let Some(name) = job::cluster_name(job) {
        let cluster = clusters.get_opt(&name).await;
        cluster
            .map_err(|error| failed(&error))?
            .into_iter()
            .collect()
    } else {
        let (labels, _) = job::selector(job);
        let list = clusters.list(&ListParams::default().labels(&labels)).await;
        list.map_err(|error| failed(&error))?.items
    };
    let label = names::label_value(&job.name_any());
    Ok(ObservedJob {
        clusters: found,
        submitters: labelled::<Pod>(client, &namespace, JOB_LABEL, &label).await?,
    })
}

/// Jobs of a schedule.
///
/// # Errors
/// When the API does not answer, or refuses.
pub async fn observe_jobs_of(
    client: &Client,
    cron_job: &AktisCronJob,
) -> Result<Vec<AktisJob>, ApiError> {
    let namespace = cron_job.namespace().unwrap_or_default();
    let label = names::label_value(&cron_job.name_any());
    labelled(client, &namespace, CRON_JOB_LABEL, &label).await
}

async fn labelled<K>(
    client: &Client,
    namespace: &str,
    label: &str,
    value: &str,
) -> Result<Vec<K>, ApiError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let params = ListParams::default().labels(&format!("{label}={value}"));
    let list = Api::<K>::namespaced(client.clone(), namespace)
        .list(&params)
        .await;
    let list = list.map_err(|error| ApiError::new("list", K::plural(&()), &error))?;
    Ok(list.items)
}

fn facts(secret: &Secret) -> CredentialsFacts {
    let mut digest = Sha256::new();
    let mut keys = Vec::new();
    for (key, value) in secret
        .data
        .iter()
        .flatten()
        .filter(|(_, value)| !value.0.is_empty())
    {
        digest.update(key.as_bytes());
        digest.update(value.0.len().to_le_bytes());
        digest.update(&value.0);
        keys.push(key.clone());
    }
    CredentialsFacts {
        keys,
        digest: names::digest(&digest.finalize()),
    }
}
