//! A head on a unix socket, and raylets that start actors by saying so.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aktis_common::ids::{ActorId, JobId, NodeId, TaskId, WorkerId};
use aktis_common::resources::ResourceSet;
use aktis_gcs::{Gcs, GcsConfig, GcsHandle, StorageKind};
use aktis_proto::transport::{
    Address, Channel, Listener, Security, connect_lazy, gcs_client, serve,
};
use aktis_proto::v1::gcs_client::GcsClient;
use aktis_proto::v1::raylet_server::{Raylet, RayletServer};
use aktis_proto::v1::{
    ActorOptions, ActorState, ActorUpdate, CreateActorRequest, ForwardedLeaseRequest,
    FreeObjectsRequest, GetActorRequest, KillWorkerRequest, LaneBytes, LeaseReply, LeaseReturn,
    NodeInfo, RayletEmpty, ReclaimLeaseRequest, RegisterNodeRequest, ReportActorStartedRequest,
    ReportNodeRequest, ResourceRequest, RunningReply, StartActorReply, StartActorRequest, TaskSpec,
    TransferDoor, start_actor_reply::Outcome,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(30);

/// A gcs under test.
pub(crate) struct Head {
    handle: GcsHandle,
    folder: std::path::PathBuf,
    _temp: Option<tempfile::TempDir>,
}

impl Head {
    pub(crate) async fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut head = Self::start_at(temp.path(), StorageKind::Memory).await;
        head._temp = Some(temp);
        head
    }

    pub(crate) async fn start_at(folder: &Path, storage: StorageKind) -> Self {
        let address = Address::Unix(folder.join("gcs.sock"));
        let mut config = GcsConfig::new("session", vec![address]);
        config.storage = storage;
        config.node_disconnect_grace = Duration::from_millis(200);
        let handle = Gcs::start(config).await.unwrap();
        Self {
            handle,
            folder: folder.to_owned(),
            _temp: None,
        }
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.folder.join("gcs.sock")
    }

    pub(crate) fn client(&self) -> GcsClient<Channel> {
        gcs_client(connect_lazy(self.handle.address(), &Security::default()).unwrap())
    }

    pub(crate) async fn until_alive(&self, actor: ActorId, restarts: u32) -> ActorUpdate {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = GetActorRequest {
                actor_id: actor.to_wire(),
                ..Default::default()
            };
            let update = self.client().get_actor(request).await.unwrap().into_inner();
            if update.state() == ActorState::Alive && update.restarts == restarts {
                return update;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not alive: {update:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.handle.shutdown().await;
    }
}

/// A raylet that pretends: every actor is started at once.
#[derive(Clone)]
pub(crate) struct FakeRaylet {
    node: NodeId,
    generation: u64,
    cpus: i64,
    gcs: GcsClient<Channel>,
    started: Arc<Mutex<Vec<ActorId>>>,
    killed: Arc<Mutex<Vec<WorkerId>>>,
}

impl FakeRaylet {
    pub(crate) async fn join(head: &Head, cpus: i64) -> Self {
        let node = NodeId::random();
        let address = Address::Unix(head.folder.join(format!("{}.sock", &node.to_string()[..8])));
        let mut raylet = Self {
            node,
            generation: 0,
            cpus,
            gcs: head.client(),
            started: Arc::default(),
            killed: Arc::default(),
        };
        let listener = Listener::bind(&address, &Security::default())
            .await
            .unwrap();
        let routes = Routes::new(RayletServer::new(raylet.clone()));
        tokio::spawn(async move {
            serve(
                listener,
                &Security::default(),
                routes,
                std::future::pending(),
            )
            .await
        });
        let info = NodeInfo {
            raylet_address: address.to_string(),
            ..raylet.info()
        };
        let request = RegisterNodeRequest { node: Some(info) };
        let reply = head
            .client()
            .register_node(request)
            .await
            .unwrap()
            .into_inner();
        raylet.generation = reply.generation;
        raylet
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn pretending_to_be(&self, node: NodeId) -> Self {
        Self {
            node,
            ..self.clone()
        }
    }

    pub(crate) fn started(&self) -> Vec<ActorId> {
        self.started.lock().unwrap().clone()
    }

    pub(crate) fn killed(&self) -> Vec<WorkerId> {
        self.killed.lock().unwrap().clone()
    }

    /// Reports; gives whether it must register.
    pub(crate) async fn report(&self, head: &Head) -> bool {
        let request = ReportNodeRequest {
            node: Some(self.info()),
        };
        head.client()
            .report_node(request)
            .await
            .unwrap()
            .into_inner()
            .must_register
    }

    fn info(&self) -> NodeInfo {
        let all: aktis_proto::v1::ResourceSet = (&ResourceSet::of_cpus(self.cpus)).into();
        NodeInfo {
            node_id: self.node.to_wire(),
            generation: self.generation,
            total: Some(all.clone()),
            available: Some(all),
            ..NodeInfo::default()
        }
    }
}

pub(crate) fn creation(
    id: ActorId,
    job: JobId,
    options: ActorOptions,
    cpus: i64,
) -> CreateActorRequest {
    let resources = ResourceRequest {
        resources: Some((&ResourceSet::of_cpus(cpus)).into()),
        ..ResourceRequest::default()
    };
    let spec = TaskSpec {
        task_id: TaskId::next().to_wire(),
        actor_id: id.to_wire(),
        job_id: job.to_wire(),
        resources: Some(resources),
        ..TaskSpec::default()
    };
    CreateActorRequest {
        spec: Some(spec),
        options: Some(options),
        ..Default::default()
    }
}

pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Reply<T> = Result<Response<T>, Status>;
type Never<T> = tokio_stream::Empty<Result<T, Status>>;

fn unused<T>() -> Reply<T> {
    Err(Status::unimplemented("the gcs does not call this"))
}

#[tonic::async_trait]
impl Raylet for FakeRaylet {
    type LaneStream = Never<LaneBytes>;

    async fn start_actor(&self, request: Request<StartActorRequest>) -> Reply<StartActorReply> {
        let start = request.into_inner().start.unwrap_or_default();
        let spec = start.spec.unwrap_or_default();
        let actor = ActorId::from_bytes(&spec.actor_id).unwrap();
        self.started.lock().unwrap().push(actor);
        let address = aktis_proto::v1::Address::of(self.node, WorkerId::random());
        let report = ReportActorStartedRequest {
            actor_id: spec.actor_id,
            address: Some(address.clone()),
            pid: 1,
            failure: None,
            restarts: start.restarts,
        };
        let mut gcs = self.gcs.clone();
        tokio::spawn(async move { gcs.report_actor_started(report).await });
        Ok(Response::new(StartActorReply {
            outcome: Some(Outcome::Address(address)),
            pid: 1,
        }))
    }

    async fn kill_worker(&self, request: Request<KillWorkerRequest>) -> Reply<RayletEmpty> {
        let worker = WorkerId::from_bytes(&request.into_inner().worker_id).unwrap();
        self.killed.lock().unwrap().push(worker);
        Ok(Response::new(RayletEmpty {}))
    }

    async fn request_lease(&self, _: Request<ForwardedLeaseRequest>) -> Reply<LeaseReply> {
        unused()
    }

    async fn return_lease(&self, _: Request<LeaseReturn>) -> Reply<RayletEmpty> {
        unused()
    }

    async fn reclaim_lease(&self, _: Request<ReclaimLeaseRequest>) -> Reply<RayletEmpty> {
        unused()
    }

    async fn lane(&self, _: Request<Streaming<LaneBytes>>) -> Reply<Self::LaneStream> {
        unused()
    }

    async fn find_transfer_door(&self, _: Request<RayletEmpty>) -> Reply<TransferDoor> {
        unused()
    }

    async fn free_objects(&self, _: Request<FreeObjectsRequest>) -> Reply<RayletEmpty> {
        unused()
    }

    async fn list_running(&self, _: Request<RayletEmpty>) -> Reply<RunningReply> {
        unused()
    }

    async fn node_status(&self, _: Request<RayletEmpty>) -> Reply<NodeInfo> {
        unused()
    }

    async fn shutdown(&self, _: Request<RayletEmpty>) -> Reply<RayletEmpty> {
        unused()
    }
}
