//! A user's program, as its node sees it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aktis_common::ids::{ActorId, JobId, NodeId, TaskId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::chance::Chance;
use super::frames::{Connection, Link};
use super::log::Log;
use super::processes::short;

/// What came without being asked for, in order.
type Events = Arc<Mutex<Vec<Kind>>>;

/// A process id that the kernel gives nobody: with its connection the process is gone.
const GONE_PID: u32 = (1 << 23) - 2;

/// A connected driver.
pub struct Driver {
    pub link: Link,
    pub job: JobId,
    pub worker: WorkerId,
    pub node: NodeId,
    events: Events,
    pub(super) chance: Chance,
    reader: JoinHandle<()>,
}

/// How an actor is to be.
#[derive(Debug, Clone)]
pub struct ActorPlan {
    pub resources: Vec<(&'static str, f64)>,
    pub max_restarts: i32,
    pub name: &'static str,
    pub is_detached: bool,
    pub class: &'static str,
}

impl Default for ActorPlan {
    fn default() -> Self {
        Self {
            resources: vec![("CPU", 1.0)],
            max_restarts: 0,
            name: "",
            is_detached: false,
            class: "Counter",
        }
    }
}

impl Driver {
    /// Connects to a node and adds its job.
    ///
    /// # Errors
    /// When the node refuses or is gone, or the gcs does not take the job.
    pub async fn join(socket: &Path, chance: &Chance, log: &Log) -> Result<Self, String> {
        let (worker, job) = (WorkerId::new(chance.id()), JobId::new(chance.id()));
        let mut hello = Hello {
            worker_id: worker.to_wire(),
            job_id: job.to_wire(),
            pid: GONE_PID,
            namespace: "tests".to_owned(),
            version: aktis_proto::VERSION.to_owned(),
            ..Hello::default()
        };
        hello.set_kind(ProcessKind::Driver);
        let (mut connection, reply) = Connection::open(socket, Kind::Hello(hello))
            .await
            .map_err(|error| error.to_string())?;
        let Kind::HelloReply(reply) = reply else {
            return Err(format!("{reply:?}"));
        };
        let events = Events::default();
        let link = connection.link.clone();
        let (kept, log, name) = (Arc::clone(&events), log.clone(), short(worker.as_bytes()));
        let reader = tokio::spawn(async move {
            while let Some(event) = connection.events.recv().await {
                if let Kind::ActorUpdate(update) = &event {
                    let (actor, state) = (short(&update.actor_id), update.state());
                    log.note(format!(
                        "driver {name} hears: actor {actor} {state:?}, restarts {}",
                        update.restarts
                    ));
                }
                kept.lock().unwrap().push(event);
            }
        });
        let driver = Self {
            link,
            job,
            worker,
            node: NodeId::from_bytes(&reply.node_id).unwrap(),
            events,
            chance: chance.clone(),
            reader,
        };
        let add = AddJobRequest {
            job_id: job.to_wire(),
            driver: Some(driver.address()),
            entrypoint: "test".to_owned(),
            namespace: "tests".to_owned(),
            driver_pid: GONE_PID,
        };
        let added: Result<FactReply, _> = driver.link.call_gcs("AddJob", &add).await;
        added.map_err(|failure| failure.message)?;
        Ok(driver)
    }

    pub fn address(&self) -> Address {
        Address::of(self.node, self.worker)
    }

    /// Ends without a word.
    pub fn crash(self) {
        self.reader.abort();
    }

    /// Asks for a worker; the answer is a grant, or that there never can be one, and then perhaps a grant.
    pub fn request_lease(&self, resources: &[(&str, f64)]) -> oneshot::Receiver<Kind> {
        let resources = ResourceRequest::from_numbers(resources.iter().copied(), 0).unwrap();
        self.link.request(Kind::LeaseRequest(LeaseRequest {
            resources: Some((&resources).into()),
            job_id: self.job.to_wire(),
            ..LeaseRequest::default()
        }))
    }

    /// Leases a worker.
    pub async fn lease(&self, resources: &[(&str, f64)]) -> LeaseGrant {
        match self.request_lease(resources).await {
            Ok(Kind::LeaseReply(LeaseReply {
                outcome: Some(lease_reply::Outcome::Grant(grant)),
            })) => grant,
            other => panic!("expected a grant, got {other:?}"),
        }
    }

    pub async fn return_lease(&self, grant: &LeaseGrant) {
        self.link.ask(Kind::LeaseReturn(give_back(grant))).await;
    }

    /// Creates an actor and watches it.
    ///
    /// # Errors
    /// What the gcs says against it.
    pub async fn create(&self, plan: &ActorPlan) -> Result<ActorId, Failure> {
        let actor = ActorId::new(self.chance.id());
        self.link
            .ask(Kind::WatchActor(WatchActor {
                actor_id: actor.to_wire(),
            }))
            .await;
        let request = ResourceRequest::from_numbers(plan.resources.iter().copied(), 0).unwrap();
        let task = TaskId::from_words(self.chance.word(), 1);
        let spec = TaskSpec {
            task_id: task.to_wire(),
            actor_id: actor.to_wire(),
            job_id: self.job.to_wire(),
            owner: Some(self.address()),
            resources: Some((&request).into()),
            ..TaskSpec::default()
        };
        let options = ActorOptions {
            max_restarts: plan.max_restarts,
            name: plan.name.to_owned(),
            namespace: "tests".to_owned(),
            is_detached: plan.is_detached,
            class_name: plan.class.to_owned(),
            running_resources: Some((&request).into()),
            ..ActorOptions::default()
        };
        let create = CreateActorRequest {
            spec: Some(spec),
            options: Some(options),
            ..CreateActorRequest::default()
        };
        let created: Result<CreateActorReply, _> = self.link.call_gcs("CreateActor", &create).await;
        created.map(|_| actor)
    }

    /// What the gcs says of an actor.
    pub async fn actor(&self, actor: ActorId) -> Result<ActorUpdate, Failure> {
        let request = GetActorRequest {
            actor_id: actor.to_wire(),
            ..GetActorRequest::default()
        };
        self.link.call_gcs("GetActor", &request).await
    }

    /// # Errors
    /// What the gcs says against it.
    pub async fn kill_actor(&self, actor: ActorId) -> Result<(), Failure> {
        let request = KillActorRequest {
            actor_id: actor.to_wire(),
            no_restart: true,
            cause: "killed by its owner".to_owned(),
            is_graceful: false,
        };
        let killed: Result<Empty, _> = self.link.call_gcs("KillActor", &request).await;
        killed.map(|_| ())
    }

    /// # Errors
    /// What the gcs says against it.
    pub async fn keep(&self, key: &str, value: &str) -> Result<(), Failure> {
        let request = KvPutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            overwrite: true,
            ..KvPutRequest::default()
        };
        let kept: Result<KvPutReply, _> = self.link.call_gcs("KvPut", &request).await;
        kept.map(|_| ())
    }

    /// # Errors
    /// What the gcs says against it.
    pub async fn kept(&self, key: &str) -> Result<Option<String>, Failure> {
        let request = KvGetRequest {
            key: key.to_owned().into(),
        };
        let reply: KvGetReply = self.link.call_gcs("KvGet", &request).await?;
        Ok(reply
            .value
            .map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    /// States of an actor as this driver heard of them.
    pub fn heard_of(&self, actor: ActorId) -> Vec<(ActorState, u32)> {
        let events = self.events.lock().unwrap();
        let of_actor = events.iter().filter_map(|event| match event {
            Kind::ActorUpdate(update) if update.actor_id == actor.to_wire() => {
                Some((update.state(), update.restarts))
            }
            _ => None,
        });
        of_actor.collect()
    }

    /// Whether it was told that a process died.
    pub fn heard_of_death(&self, worker: &WorkerId) -> bool {
        let events = self.events.lock().unwrap();
        events.iter().any(|event| match event {
            Kind::WorkerDied(died) => died
                .worker
                .as_ref()
                .is_some_and(|at| at.worker_id == worker.to_wire()),
            _ => false,
        })
    }
}

/// What gives a lease back.
pub fn give_back(grant: &LeaseGrant) -> LeaseReturn {
    LeaseReturn {
        lease_id: grant.lease_id,
        node_id: grant.worker.as_ref().unwrap().node_id.clone(),
        is_worker_unusable: false,
    }
}

/// Waits a while of the run's time.
pub async fn pass(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
