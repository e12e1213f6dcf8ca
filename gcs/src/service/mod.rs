//! The wire: each call becomes one step of the core. No decisions here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aktis_common::ids::{NodeId, random_bytes};
use aktis_proto::convert::status;
use aktis_proto::transport::MAX_MESSAGE_BYTES;
use aktis_proto::v1::gcs_server::{Gcs, GcsServer};
use aktis_proto::v1::{
    ActorUpdate, AddJobRequest, ClusterStatusReply, CreateActorReply, CreateActorRequest, Empty,
    FactReply, FinishJobRequest, GetActorRequest, HealthReply, KillActorRequest, KvGetReply,
    KvGetRequest, KvKeysReply, KvKeysRequest, KvPutReply, KvPutRequest, ListActorsReply,
    ListJobsReply, ListNodesReply, NodeInfo, Publication, RegisterNodeReply, RegisterNodeRequest,
    ReportActorStartedRequest, ReportNodeReply, ReportNodeRequest, ReportWorkerDeathRequest,
    SubscribeRequest, UnregisterNodeRequest, publication::Kind,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::core::GcsError;
use crate::inbox::{GcsMailbox, NotKept};
use crate::io::publish::{Publisher, Subscription};

/// Serves `aktis.v1.Gcs`.
#[derive(Debug, Clone)]
pub(crate) struct GcsService {
    port: GcsMailbox,
    publisher: Publisher,
    storage_name: String,
    subscriptions: Arc<AtomicU64>,
    /// Tells this process from other heads.
    head: u64,
}

type Reply<T> = Result<Response<T>, Status>;

impl GcsService {
    pub(crate) fn new(port: GcsMailbox, publisher: Publisher, storage_name: String) -> Self {
        Self {
            port,
            publisher,
            storage_name,
            subscriptions: Arc::default(),
            head: u64::from_le_bytes(random_bytes()),
        }
    }

    fn heard(&self, kept: &Result<(), NotKept>) -> FactReply {
        FactReply {
            is_owed: kept.is_err(),
            head: self.head,
        }
    }

    pub(crate) fn routes(self) -> Routes {
        let server = GcsServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(server)
    }
}

/// The answer to who asked for an end that has come, and that a head which ends now would forget.
fn not_kept(error: &NotKept) -> Status {
    let message = format!(
        "it was done, but the head cannot keep that yet, and forgets it if it ends now: {error}"
    );
    status(error.code(), message)
}

fn node_of(node: Option<NodeInfo>) -> Result<NodeInfo, GcsError> {
    node.ok_or(GcsError::Missing { field: "node" })
}

#[tonic::async_trait]
impl Gcs for GcsService {
    type SubscribeStream = Subscription;

    async fn register_node(
        &self,
        request: Request<RegisterNodeRequest>,
    ) -> Reply<RegisterNodeReply> {
        let node = node_of(request.into_inner().node)?;
        let reply = self
            .port
            .call(|core, turn| core.register_node(node, turn))
            .await??;
        Ok(Response::new(reply))
    }

    async fn report_node(&self, request: Request<ReportNodeRequest>) -> Reply<ReportNodeReply> {
        let node = node_of(request.into_inner().node)?;
        let must_register = self
            .port
            .call(move |core, turn| core.report_node(&node, turn))
            .await??;
        Ok(Response::new(ReportNodeReply { must_register }))
    }

    async fn unregister_node(&self, request: Request<UnregisterNodeRequest>) -> Reply<Empty> {
        let UnregisterNodeRequest { node_id, cause } = request.into_inner();
        let step = self
            .port
            .call(move |core, turn| core.unregister_node(&node_id, &cause, turn));
        step.await??;
        Ok(Response::new(Empty {}))
    }

    async fn list_nodes(&self, _request: Request<Empty>) -> Reply<ListNodesReply> {
        let listed = self.port.call(|core, turn| ListNodesReply {
            nodes: core.nodes(),
            now_unix_millis: turn.unix_millis,
        });
        Ok(Response::new(listed.await?))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Reply<Self::SubscribeStream> {
        // The command line subscribes without being a node.
        let node = NodeId::from_bytes(&request.into_inner().node_id).unwrap_or(NodeId::NIL);
        let number = 1 + self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let publisher = self.publisher.clone();
        // Snapshot and subscription in one step: nothing is published between them.
        let (nodes, news) = self
            .port
            .call(move |core, _| {
                core.subscription_opened(node, number);
                (core.nodes(), publisher.subscribe())
            })
            .await?;
        let snapshot = nodes.into_iter().map(|node| Publication {
            kind: Some(Kind::Node(node)),
        });
        let port = self.port.clone();
        let on_close =
            move || port.tell(move |core, turn| core.subscription_closed(node, number, turn));
        Ok(Response::new(Subscription::new(
            snapshot.collect(),
            news,
            on_close,
        )))
    }

    async fn add_job(&self, request: Request<AddJobRequest>) -> Reply<FactReply> {
        let request = request.into_inner();
        let told = self
            .port
            .fact(move |core, turn| core.add_job(request, turn));
        let (done, kept) = told.await?;
        done?;
        Ok(Response::new(self.heard(&kept)))
    }

    async fn finish_job(&self, request: Request<FinishJobRequest>) -> Reply<FactReply> {
        let request = request.into_inner();
        let told = self
            .port
            .fact(move |core, turn| core.finish_job(&request, turn));
        let (done, kept) = told.await?;
        done?;
        Ok(Response::new(self.heard(&kept)))
    }

    async fn list_jobs(&self, _request: Request<Empty>) -> Reply<ListJobsReply> {
        let jobs = self.port.call(|core, _| core.jobs()).await?;
        Ok(Response::new(ListJobsReply { jobs }))
    }

    async fn create_actor(&self, request: Request<CreateActorRequest>) -> Reply<CreateActorReply> {
        let request = request.into_inner();
        let actor = self
            .port
            .promise(move |core, turn| {
                let undo = core.undo_of_creation(&request);
                (core.create_actor(request, turn), undo)
            })
            .await??;
        Ok(Response::new(CreateActorReply { actor: Some(actor) }))
    }

    async fn get_actor(&self, request: Request<GetActorRequest>) -> Reply<ActorUpdate> {
        let request = request.into_inner();
        let actor = self
            .port
            .call(move |core, _| core.get_actor(&request))
            .await??;
        Ok(Response::new(actor))
    }

    async fn list_actors(&self, _request: Request<Empty>) -> Reply<ListActorsReply> {
        let actors = self.port.call(|core, _| core.actors()).await?;
        Ok(Response::new(ListActorsReply { actors }))
    }

    async fn kill_actor(&self, request: Request<KillActorRequest>) -> Reply<Empty> {
        let request = request.into_inner();
        let asked = self
            .port
            .fact(move |core, turn| core.kill_actor(&request, turn));
        let (done, kept) = asked.await?;
        done?;
        kept.map_err(|error| not_kept(&error))?;
        Ok(Response::new(Empty {}))
    }

    async fn report_worker_death(
        &self,
        request: Request<ReportWorkerDeathRequest>,
    ) -> Reply<FactReply> {
        let request = request.into_inner();
        let told = self
            .port
            .fact(move |core, turn| core.worker_died(request, turn));
        let (done, kept) = told.await?;
        done?;
        Ok(Response::new(self.heard(&kept)))
    }

    async fn report_actor_started(
        &self,
        request: Request<ReportActorStartedRequest>,
    ) -> Reply<FactReply> {
        let request = request.into_inner();
        let told = self
            .port
            .fact(move |core, turn| core.actor_started(request, turn));
        let (done, kept) = told.await?;
        done?;
        Ok(Response::new(self.heard(&kept)))
    }

    async fn kv_put(&self, request: Request<KvPutRequest>) -> Reply<KvPutReply> {
        let request = request.into_inner();
        let is_added = self
            .port
            .promise(move |core, turn| {
                let undo = core.undo_of_put(&request);
                (core.kv_put(request, turn), undo)
            })
            .await?;
        Ok(Response::new(KvPutReply { is_added }))
    }

    async fn kv_get(&self, request: Request<KvGetRequest>) -> Reply<KvGetReply> {
        let key = request.into_inner().key;
        let value = self.port.call(move |core, _| core.kv().get(&key)).await?;
        Ok(Response::new(KvGetReply { value }))
    }

    async fn kv_delete(&self, request: Request<KvGetRequest>) -> Reply<Empty> {
        let key = request.into_inner().key;
        let asked = self.port.fact(move |core, turn| core.kv_delete(key, turn));
        let ((), kept) = asked.await?;
        kept.map_err(|error| not_kept(&error))?;
        Ok(Response::new(Empty {}))
    }

    async fn kv_keys(&self, request: Request<KvKeysRequest>) -> Reply<KvKeysReply> {
        let prefix = request.into_inner().prefix;
        let keys = self
            .port
            .call(move |core, _| core.kv().keys(&prefix))
            .await?;
        Ok(Response::new(KvKeysReply { keys }))
    }

    async fn cluster_status(&self, _request: Request<Empty>) -> Reply<ClusterStatusReply> {
        let storage = self.storage_name.clone();
        let status = self.port.call(move |core, _| core.status(&storage)).await?;
        Ok(Response::new(status))
    }

    async fn health(&self, _request: Request<Empty>) -> Reply<HealthReply> {
        let asked = self.port.call(|core, _| core.session_id().to_owned());
        let session_id = asked.await?;
        Ok(Response::new(HealthReply { session_id }))
    }
}
