//! A Kubernetes that holds objects, carries actions out, and lets pods live and die as the test says.

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_operator::api::{AktisCluster, AktisJob};
use aktis_operator::core::cluster::{self, CredentialsFacts, ObservedCluster};
use aktis_operator::core::job::{self, ObservedJob};
use aktis_operator::core::{Action, Plan, cron_job};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
    Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::fixtures::{START, time};

pub(crate) struct Pretended {
    pub(crate) now: Timestamp,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) clusters: BTreeMap<String, AktisCluster>,
    pub(crate) jobs: BTreeMap<String, AktisJob>,
    pub(crate) service: Option<Service>,
    pub(crate) credentials: Option<CredentialsFacts>,
    /// Actions so far, as text: "create pod demo-head".
    pub(crate) log: Vec<String>,
    uids: u32,
}

impl Pretended {
    pub(crate) fn new() -> Self {
        Self {
            now: time(START),
            pods: BTreeMap::new(),
            clusters: BTreeMap::new(),
            jobs: BTreeMap::new(),
            service: None,
            credentials: None,
            log: Vec::new(),
            uids: 0,
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.checked_add(Duration::from_secs(seconds)).unwrap();
    }

    pub(crate) fn observe_cluster(&self) -> ObservedCluster {
        ObservedCluster {
            credentials: self.credentials.clone(),
            service: self.service.clone(),
            pods: self.pods.values().cloned().collect(),
        }
    }

    pub(crate) fn observe_job(&self) -> ObservedJob {
        ObservedJob {
            clusters: self.clusters.values().cloned().collect(),
            submitters: self.pods.values().cloned().collect(),
        }
    }

    /// One round for `cluster`; gives what was done.
    pub(crate) fn cluster_round(&mut self, cluster: &mut AktisCluster) -> Vec<String> {
        let plan = cluster::plan(cluster, &self.observe_cluster(), self.now);
        cluster.status = Some(plan.status.clone());
        self.follow(plan)
    }

    /// One round for `job`; gives what was done.
    pub(crate) fn job_round(&mut self, job: &mut AktisJob) -> Vec<String> {
        let plan = job::plan(job, &self.observe_job(), self.now);
        job.status = Some(plan.status.clone());
        self.follow(plan)
    }

    /// One round for a schedule; gives what was done.
    pub(crate) fn cron_round(
        &mut self,
        cron_job: &mut aktis_operator::api::AktisCronJob,
    ) -> Vec<String> {
        let jobs: Vec<AktisJob> = self.jobs.values().cloned().collect();
        let plan = cron_job::plan(cron_job, &jobs, self.now);
        cron_job.status = Some(plan.status.clone());
        self.follow(plan)
    }

    /// Rounds until nothing is left to do.
    pub(crate) fn settle(&mut self, cluster: &mut AktisCluster) {
        for _ in 0..50 {
            self.finish_leaving();
            self.all_ready();
            let before = cluster.status.clone();
            self.pass(11);
            if self.cluster_round(cluster).is_empty() && cluster.status == before {
                return;
            }
        }
        panic!(
            "does not settle; the last actions: {:?}",
            &self.log[self.log.len() - 10..]
        );
    }

    fn follow<S>(&mut self, plan: Plan<S>) -> Vec<String> {
        let before = self.log.len();
        for action in plan.actions {
            self.carry_out(action);
        }
        self.log[before..].to_vec()
    }

    fn carry_out(&mut self, action: Action) {
        let shown = match action {
            Action::CreateCredentials(order) => {
                assert!(self.credentials.is_none(), "OPR-8");
                let keys = ["token", "ca.crt", "tls.crt", "tls.key"];
                self.uids += 1;
                self.credentials = Some(CredentialsFacts {
                    keys: keys.map(str::to_owned).to_vec(),
                    digest: format!("digest-{}", self.uids),
                });
                format!("create secret {}", order.metadata.name.unwrap())
            }
            Action::ApplyService(service) => {
                let shown = format!("apply service {}", service.metadata.name.as_ref().unwrap());
                self.service = Some(*service);
                shown
            }
            Action::CreatePod(mut pod) => {
                let name = self.born(&mut pod.metadata);
                pod.status = Some(phase("Pending"));
                assert!(
                    self.pods.insert(name.clone(), *pod).is_none(),
                    "{name} is taken"
                );
                format!("create pod {name}")
            }
            Action::DeletePod(target) => {
                let pod = self.pods.get_mut(&target.name).expect("it is there");
                assert_eq!(pod.metadata.uid.as_deref(), Some(&*target.uid));
                pod.metadata.deletion_timestamp = Some(Time(self.now));
                format!("delete pod {}: {}", target.name, target.reason)
            }
            Action::CreateCluster(mut cluster) => {
                let name = self.born(&mut cluster.metadata);
                assert!(self.clusters.insert(name.clone(), *cluster).is_none());
                format!("create cluster {name}")
            }
            Action::DeleteCluster(target) => {
                self.clusters.remove(&target.name).expect("it is there");
                format!("delete cluster {}: {}", target.name, target.reason)
            }
            Action::CreateJob(mut job) => {
                let name = self.born(&mut job.metadata);
                assert!(self.jobs.insert(name.clone(), *job).is_none());
                format!("create job {name}")
            }
            Action::DeleteJob(target) => {
                self.jobs.remove(&target.name).expect("it is there");
                format!("delete job {}: {}", target.name, target.reason)
            }
        };
        self.log.push(shown);
    }

    fn born(&mut self, metadata: &mut ObjectMeta) -> String {
        self.uids += 1;
        metadata.uid = Some(format!("uid-{}", self.uids));
        metadata.creation_timestamp = Some(Time(self.now));
        metadata.name.clone().unwrap()
    }

    /// Pods on their way out are gone.
    pub(crate) fn finish_leaving(&mut self) {
        self.pods
            .retain(|_, pod| pod.metadata.deletion_timestamp.is_none());
    }

    pub(crate) fn all_ready(&mut self) {
        for pod in self.pods.values_mut() {
            let is_pending = pod.status.as_ref().unwrap().phase.as_deref() == Some("Pending");
            if is_pending {
                pod.status = Some(ready());
            }
        }
    }

    pub(crate) fn set_status(&mut self, pod: &str, status: PodStatus) {
        self.pods.get_mut(pod).expect("it is there").status = Some(status);
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.pods.keys().map(String::as_str).collect()
    }
}

pub(crate) fn phase(phase: &str) -> PodStatus {
    PodStatus {
        phase: Some(phase.to_owned()),
        ..PodStatus::default()
    }
}

pub(crate) fn ready() -> PodStatus {
    PodStatus {
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..PodCondition::default()
        }]),
        pod_ip: Some("10.0.0.7".to_owned()),
        ..phase("Running")
    }
}

pub(crate) fn failed(exit_code: i32, at: Timestamp) -> PodStatus {
    let terminated = ContainerStateTerminated {
        exit_code,
        reason: Some("Error".to_owned()),
        finished_at: Some(Time(at)),
        ..ContainerStateTerminated::default()
    };
    PodStatus {
        container_statuses: Some(vec![ContainerStatus {
            state: Some(ContainerState {
                terminated: Some(terminated),
                ..ContainerState::default()
            }),
            ..ContainerStatus::default()
        }]),
        ..phase("Failed")
    }
}
