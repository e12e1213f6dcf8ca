//! What the controllers look at, and which plan they follow.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;

use super::Reconciled;
use crate::api::{
    AktisCluster, AktisClusterStatus, AktisCronJob, AktisCronJobStatus, AktisJob, AktisJobStatus,
};
use crate::core::cluster::ObservedCluster;
use crate::core::job::ObservedJob;
use crate::core::{Plan, cluster, cron_job, job};
use crate::io::{ApiError, observe_cluster, observe_job, observe_jobs_of};

impl Reconciled for AktisCluster {
    type Observed = ObservedCluster;
    type Status = AktisClusterStatus;

    async fn observe(&self, client: &Client) -> Result<Self::Observed, ApiError> {
        observe_cluster(client, self).await
    }

    fn plan(&self, observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status> {
        cluster::plan(self, observed, now)
    }

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Reconciled for AktisJob {
    type Observed = ObservedJob;
    type Status = AktisJobStatus;

    async fn observe(&self, client: &Client) -> Result<Self::Observed, ApiError> {
        observe_job(client, self).await
    }

    fn plan(&self, observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status> {
        job::plan(self, observed, now)
    }

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Reconciled for AktisCronJob {
    type Observed = Vec<AktisJob>;
    type Status = AktisCronJobStatus;

    async fn observe(&self, client: &Client) -> Result<Self::Observed, ApiError> {
        observe_jobs_of(client, self).await
    }

    fn plan(&self, observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status> {
        cron_job::plan(self, observed, now)
    }

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}
