//! A gcs that remembers what it was told.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_proto::convert::status;
use aktis_proto::transport::{Address, ListenError, Listener, Security, serve};
use aktis_proto::v1::gcs_server::{Gcs, GcsServer};
use aktis_proto::v1::*;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use crate::process::DEADLINE;

/// What it was told.
#[derive(Debug, Default)]
pub struct Memory {
    pub nodes: HashMap<Bytes, NodeInfo>,
    pub registrations: usize,
    pub reports: usize,
    pub unregistered: Vec<Bytes>,
    pub jobs: Vec<AddJobRequest>,
    pub finished_jobs: Vec<FinishJobRequest>,
    pub deaths: Vec<ReportWorkerDeathRequest>,
    pub started: Vec<ReportActorStartedRequest>,
    pub kv: HashMap<Bytes, Bytes>,
    pub actors: HashMap<Bytes, ActorUpdate>,
    /// Generations that it says it has given up, by node.
    pub given_up: HashMap<Bytes, u64>,
    /// How the next calls end, the last one first.
    pub failures: Vec<Status>,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct FakeGcs {
    pub memory: Arc<Mutex<Memory>>,
    publications: broadcast::Sender<Publication>,
}

/// A running gcs.
pub struct GcsServerTask {
    pub gcs: FakeGcs,
    pub address: Address,
    task: JoinHandle<()>,
}

impl GcsServerTask {
    pub async fn start(folder: &Path) -> Self {
        let gcs = FakeGcs {
            memory: Arc::default(),
            publications: broadcast::channel(1024).0,
        };
        Self::serve(gcs, Address::Unix(folder.join("gcs.sock"))).await
    }

    async fn serve(gcs: FakeGcs, address: Address) -> Self {
        let listener = bind(&address).await;
        let routes = tonic::service::Routes::new(GcsServer::new(gcs.clone()));
        let task = tokio::spawn(async move {
            serve(
                listener,
                &Security::default(),
                routes,
                std::future::pending(),
            )
            .await
            .unwrap();
        });
        Self { gcs, address, task }
    }

    /// Ends this gcs and begins one that has forgotten everything, at the same place.
    pub async fn restart(self) -> Self {
        self.task.abort();
        let _ = self.task.await;
        let gcs = FakeGcs {
            memory: Arc::default(),
            publications: broadcast::channel(1024).0,
        };
        Self::serve(gcs, self.address).await
    }
}

/// Binds where a listener may just have ended: a process that another test starts at this moment holds it until its `exec`.
async fn bind(address: &Address) -> Listener {
    let give_up_at = Instant::now() + DEADLINE;
    loop {
        match Listener::bind(address, &Security::default()).await {
            Err(ListenError::InUse { .. }) if Instant::now() < give_up_at => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bound => return bound.unwrap(),
        }
    }
}

impl FakeGcs {
    pub fn publish(&self, kind: publication::Kind) {
        let _ = self.publications.send(Publication { kind: Some(kind) });
    }
}

impl FakeGcs {
    fn fail_if_told(&self) -> Result<(), Status> {
        self.memory.lock().failures.pop().map_or(Ok(()), Err)
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn fact() -> Answer<FactReply> {
    Ok(Response::new(FactReply::default()))
}

fn empty() -> Answer<Empty> {
    Ok(Response::new(Empty {}))
}

#[tonic::async_trait]
impl Gcs for FakeGcs {
    async fn register_node(
        &self,
        request: Request<RegisterNodeRequest>,
    ) -> Answer<RegisterNodeReply> {
        let node = request.into_inner().node.unwrap();
        let mut memory = self.memory.lock();
        memory.registrations += 1;
        let generation = memory.registrations as u64;
        memory.nodes.insert(node.node_id.clone(), node.clone());
        let given_up = memory.given_up.get(&node.node_id);
        let given_up_generation = given_up.copied().unwrap_or(0);
        drop(memory);
        self.publish(publication::Kind::Node(node));
        Ok(Response::new(RegisterNodeReply {
            generation,
            session_id: "s".to_owned(),
            given_up_generation,
            ..RegisterNodeReply::default()
        }))
    }

    async fn report_node(&self, request: Request<ReportNodeRequest>) -> Answer<ReportNodeReply> {
        let node = request.into_inner().node.unwrap();
        let is_known = {
            let mut memory = self.memory.lock();
            memory.reports += 1;
            memory.nodes.contains_key(&node.node_id)
        };
        if is_known {
            self.memory
                .lock()
                .nodes
                .insert(node.node_id.clone(), node.clone());
            self.publish(publication::Kind::Node(node));
        }
        Ok(Response::new(ReportNodeReply {
            must_register: !is_known,
        }))
    }

    async fn unregister_node(&self, request: Request<UnregisterNodeRequest>) -> Answer<Empty> {
        let UnregisterNodeRequest { node_id, cause } = request.into_inner();
        self.memory.lock().nodes.remove(&node_id);
        self.memory.lock().unregistered.push(node_id.clone());
        self.publish(publication::Kind::NodeDied(NodeDied { node_id, cause }));
        empty()
    }

    async fn list_nodes(&self, _: Request<Empty>) -> Answer<ListNodesReply> {
        let nodes = self.memory.lock().nodes.values().cloned().collect();
        Ok(Response::new(ListNodesReply {
            nodes,
            now_unix_millis: 0,
        }))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Publication, Status>> + Send>>;

    async fn subscribe(&self, _: Request<SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let publications = BroadcastStream::new(self.publications.subscribe());
        let publications = publications.map(|item| item.map_err(|_| Status::aborted("lagged")));
        Ok(Response::new(Box::pin(publications)))
    }

    async fn add_job(&self, request: Request<AddJobRequest>) -> Answer<FactReply> {
        self.memory.lock().jobs.push(request.into_inner());
        fact()
    }

    async fn finish_job(&self, request: Request<FinishJobRequest>) -> Answer<FactReply> {
        self.memory.lock().finished_jobs.push(request.into_inner());
        fact()
    }

    async fn list_jobs(&self, _: Request<Empty>) -> Answer<ListJobsReply> {
        Ok(Response::new(ListJobsReply::default()))
    }

    async fn create_actor(&self, _: Request<CreateActorRequest>) -> Answer<CreateActorReply> {
        Ok(Response::new(CreateActorReply::default()))
    }

    async fn get_actor(&self, request: Request<GetActorRequest>) -> Answer<ActorUpdate> {
        self.fail_if_told()?;
        let actor_id = request.into_inner().actor_id;
        let known = self.memory.lock().actors.get(&actor_id).cloned();
        known
            .map(Response::new)
            .ok_or_else(|| status(ErrorCode::NotFound, "no such actor"))
    }

    async fn list_actors(&self, _: Request<Empty>) -> Answer<ListActorsReply> {
        Ok(Response::new(ListActorsReply::default()))
    }

    async fn kill_actor(&self, _: Request<KillActorRequest>) -> Answer<Empty> {
        empty()
    }

    async fn report_worker_death(
        &self,
        request: Request<ReportWorkerDeathRequest>,
    ) -> Answer<FactReply> {
        self.fail_if_told()?;
        let report = request.into_inner();
        self.memory.lock().deaths.push(report.clone());
        if let Some(death) = report.death {
            self.publish(publication::Kind::WorkerDied(death));
        }
        fact()
    }

    async fn report_actor_started(
        &self,
        request: Request<ReportActorStartedRequest>,
    ) -> Answer<FactReply> {
        self.memory.lock().started.push(request.into_inner());
        fact()
    }

    async fn kv_put(&self, request: Request<KvPutRequest>) -> Answer<KvPutReply> {
        self.fail_if_told()?;
        let KvPutRequest { key, value, .. } = request.into_inner();
        let is_added = self.memory.lock().kv.insert(key, value).is_none();
        Ok(Response::new(KvPutReply { is_added }))
    }

    async fn kv_get(&self, request: Request<KvGetRequest>) -> Answer<KvGetReply> {
        let value = self
            .memory
            .lock()
            .kv
            .get(&request.into_inner().key)
            .cloned();
        Ok(Response::new(KvGetReply { value }))
    }

    async fn kv_delete(&self, _: Request<KvGetRequest>) -> Answer<Empty> {
        empty()
    }

    async fn kv_keys(&self, _: Request<KvKeysRequest>) -> Answer<KvKeysReply> {
        Err(status(
            ErrorCode::PendingCallsLimit,
            "as a test of failures",
        ))
    }

    async fn cluster_status(&self, _: Request<Empty>) -> Answer<ClusterStatusReply> {
        Ok(Response::new(ClusterStatusReply::default()))
    }

    async fn health(&self, _: Request<Empty>) -> Answer<HealthReply> {
        Ok(Response::new(HealthReply::default()))
    }
}
