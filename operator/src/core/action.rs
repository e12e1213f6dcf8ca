//! What a plan asks for.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{AktisCluster, AktisJob};

/// What to do about one resource, and what its status is then.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<Status> {
    /// In this order.
    pub actions: Vec<Action>,
    /// The status to be written, before the actions.
    pub status: Status,
    /// When to look again although nothing has changed.
    pub requeue_after: Option<Duration>,
}

/// One change of the Kubernetes cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Makes a Secret with a random token and certificates. Never replaces one.
    CreateCredentials(Box<CredentialsOrder>),
    /// Makes a service, or makes it what it should be.
    ApplyService(Box<Service>),
    /// Makes a pod. One of this name that is there already is seen by the next look.
    CreatePod(Box<Pod>),
    /// Deletes this very pod.
    DeletePod(Target),
    /// Makes the cluster of a job.
    CreateCluster(Box<AktisCluster>),
    /// Deletes this very cluster.
    DeleteCluster(Target),
    /// Makes the job of a schedule.
    CreateJob(Box<AktisJob>),
    /// Deletes this very job.
    DeleteJob(Target),
}

/// A Secret whose content is random, and so not core's to write.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialsOrder {
    /// Name, labels and owner of the Secret.
    pub metadata: ObjectMeta,
}

/// One object, and not another one that has got its name since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Why, for the log.
    pub reason: &'static str,
}
