//! Which cluster a job runs on.

use kube::ResourceExt;

use super::super::names::{self, CLUSTER_LABEL, JOB_LABEL};
use crate::api::{AktisCluster, AktisJob, AktisJobStatus, ClusterState};

/// Why there is no cluster for a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoCluster {
    #[error("the cluster is being made")]
    NotMade,
    #[error("the last cluster of this job is still being deleted")]
    Leaving,
    #[error("there is a cluster {0:?} that is not this job's")]
    NameTaken(String),
    #[error("no cluster of this namespace has these labels")]
    NotFound,
}

impl NoCluster {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotMade => "Creating",
            Self::Leaving => "Deleting",
            Self::NameTaken(_) => "NameTaken",
            Self::NotFound => "ClusterNotFound",
        }
    }

    pub(super) fn is_to_be_made(&self) -> bool {
        *self == Self::NotMade
    }
}

/// Name of the cluster that is made for `job`; none if it runs on one that is there.
pub fn cluster_name(job: &AktisJob) -> Option<String> {
    let own = job.spec.cluster_spec.as_ref();
    own.map(|_| names::name(&job.name_any(), "-cluster"))
}

/// The labels that are asked for, as the API takes them, and the name that is asked for.
pub fn selector(job: &AktisJob) -> (String, Option<String>) {
    let asked = job.spec.cluster_selector.iter().flatten();
    let (names, labels): (Vec<_>, Vec<_>) = asked.partition(|(key, _)| *key == CLUSTER_LABEL);
    let labels: Vec<String> = labels
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (
        labels.join(","),
        names.into_iter().next().map(|(_, name)| name.clone()),
    )
}

/// The job's own cluster; of those that were selected the one it is on already, else a ready one, else any.
pub(super) fn choose<'a>(
    job: &AktisJob,
    status: &AktisJobStatus,
    clusters: &'a [AktisCluster],
) -> Result<&'a AktisCluster, NoCluster> {
    if let Some(name) = cluster_name(job) {
        let found = clusters.iter().find(|cluster| cluster.name_any() == name);
        let cluster = found.ok_or(NoCluster::NotMade)?;
        return match () {
            () if !names::is_owned_by(&cluster.metadata, job) => Err(NoCluster::NameTaken(name)),
            () if cluster.metadata.deletion_timestamp.is_some() => Err(NoCluster::Leaving),
            () => Ok(cluster),
        };
    }
    let (_, name) = selector(job);
    let is_ready = |cluster: &AktisCluster| {
        let status = cluster.status.as_ref();
        status.and_then(|status| status.state) == Some(ClusterState::Ready)
    };
    clusters
        .iter()
        .filter(|cluster| name.as_ref().is_none_or(|name| cluster.name_any() == *name))
        .min_by_key(|cluster| {
            let is_current = status.cluster_name.as_deref() == Some(&*cluster.name_any());
            (!is_current, !is_ready(cluster), cluster.name_any())
        })
        .ok_or(NoCluster::NotFound)
}

/// The cluster to make.
pub(super) fn wanted(job: &AktisJob) -> Option<AktisCluster> {
    let labels = names::labels([(JOB_LABEL, names::label_value(&job.name_any()))]);
    let mut cluster = AktisCluster::new("", job.spec.cluster_spec.clone()?);
    cluster.metadata = names::owned_by(job, cluster_name(job)?, labels);
    Some(cluster)
}
