//! The gRPC service of a raylet: every call becomes a message for the loop and waits for its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aktis_common::error::ErrorCode;
use aktis_common::ids::ObjectId;
use aktis_proto::convert::status;
use aktis_proto::v1::raylet_server::Raylet;
use aktis_proto::v1::{
    FetchObjectRequest, ForwardedLeaseRequest, FreeObjectsRequest, KillWorkerRequest, LaneBytes,
    LeaseReply, LeaseReturn, NodeInfo, ObjectChunk, RayletEmpty, ReclaimLeaseRequest,
    StartActorReply, StartActorRequest,
};
use futures::Stream;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::core::event::{CallAnswer, CallRequest, Event};
use crate::core::keys::CallId;
use crate::inbox::{Mailbox, Message, RayletEnd};
use crate::io::lane_proxy::LaneProxy;

/// Streams of this service.
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What other nodes and the gcs call.
#[derive(Debug, Clone)]
pub(crate) struct RayletService {
    mailbox: Mailbox,
    lanes: LaneProxy,
    next_call: Arc<AtomicU64>,
}

/// Tells the loop when the caller no longer waits.
struct WaitingCall {
    call: CallId,
    mailbox: Mailbox,
    is_answered: bool,
}

impl Drop for WaitingCall {
    fn drop(&mut self) {
        if !self.is_answered {
            self.mailbox.event(Event::CallDropped { call: self.call });
        }
    }
}

impl RayletService {
    /// A service that hands calls to `mailbox` and lanes to `lanes`.
    pub(crate) fn new(mailbox: Mailbox, lanes: LaneProxy) -> Self {
        Self {
            mailbox,
            lanes,
            next_call: Arc::new(AtomicU64::new(1)),
        }
    }

    fn next_call(&self) -> CallId {
        CallId(self.next_call.fetch_add(1, Ordering::Relaxed))
    }

    async fn ask(&self, request: CallRequest) -> Result<CallAnswer, Status> {
        let call = self.next_call();
        let (answer, receiver) = oneshot::channel();
        let mut waiting = WaitingCall {
            call,
            mailbox: self.mailbox.clone(),
            is_answered: false,
        };
        self.mailbox.send(Message::Call {
            call,
            request,
            answer,
        });
        let answer = receiver.await.map_err(|_| ends());
        waiting.is_answered = true;
        answer
    }

    async fn tell(&self, request: CallRequest) -> Result<Response<RayletEmpty>, Status> {
        self.ask(request).await?;
        Ok(Response::new(RayletEmpty {}))
    }
}

fn ends() -> Status {
    status(ErrorCode::NodeDied, "this node ends")
}

fn mismatch(answer: &CallAnswer) -> Status {
    status(
        ErrorCode::Internal,
        format!("the raylet answered with {answer:?}"),
    )
}

fn missing(what: &str) -> Status {
    status(
        ErrorCode::InvalidArgument,
        format!("the request has no {what}"),
    )
}

#[tonic::async_trait]
impl Raylet for RayletService {
    async fn request_lease(
        &self,
        request: Request<ForwardedLeaseRequest>,
    ) -> Result<Response<LeaseReply>, Status> {
        let ForwardedLeaseRequest {
            request,
            owner,
            claim_id,
        } = request.into_inner();
        let Some(request) = request else {
            self.tell(CallRequest::WithdrawClaim { claim_id }).await?;
            return Ok(Response::new(LeaseReply::default()));
        };
        let owner = owner.ok_or_else(|| missing("owner"))?;
        let request = CallRequest::Lease {
            request,
            owner,
            claim_id,
        };
        match self.ask(request).await? {
            CallAnswer::Lease(reply) => Ok(Response::new(reply)),
            other => Err(mismatch(&other)),
        }
    }

    async fn return_lease(
        &self,
        request: Request<LeaseReturn>,
    ) -> Result<Response<RayletEmpty>, Status> {
        self.tell(CallRequest::ReturnLease(request.into_inner()))
            .await
    }

    async fn reclaim_lease(
        &self,
        request: Request<ReclaimLeaseRequest>,
    ) -> Result<Response<RayletEmpty>, Status> {
        let ReclaimLeaseRequest { owner, reclaim } = request.into_inner();
        let owner = owner.ok_or_else(|| missing("owner"))?;
        let reclaim = reclaim.ok_or_else(|| missing("lease"))?;
        self.tell(CallRequest::ReclaimLease { owner, reclaim })
            .await
    }

    async fn start_actor(
        &self,
        request: Request<StartActorRequest>,
    ) -> Result<Response<StartActorReply>, Status> {
        match self
            .ask(CallRequest::StartActor(Box::new(request.into_inner())))
            .await?
        {
            CallAnswer::ActorStart(reply) => Ok(Response::new(reply)),
            other => Err(mismatch(&other)),
        }
    }

    async fn kill_worker(
        &self,
        request: Request<KillWorkerRequest>,
    ) -> Result<Response<RayletEmpty>, Status> {
        self.tell(CallRequest::KillWorker(request.into_inner()))
            .await
    }

    type LaneStream = BoxStream<LaneBytes>;

    async fn lane(
        &self,
        request: Request<Streaming<LaneBytes>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let answers = self.lanes.accept(request.into_inner()).await?;
        Ok(Response::new(Box::pin(answers)))
    }

    type FetchObjectStream = BoxStream<ObjectChunk>;

    async fn fetch_object(
        &self,
        request: Request<FetchObjectRequest>,
    ) -> Result<Response<Self::FetchObjectStream>, Status> {
        let FetchObjectRequest { object_id, offset } = request.into_inner();
        let object = ObjectId::from_bytes(&object_id)
            .map_err(|error| status(ErrorCode::InvalidArgument, error.to_string()))?;
        let (grant, receiver) = oneshot::channel();
        let call = self.next_call();
        self.mailbox.send(Message::ReadObject {
            call,
            object,
            grant,
        });
        let grant = receiver.await.map_err(|_| ends())?;
        let grant = grant.map_err(|failure| status(failure.error_code(), failure.message))?;
        Ok(Response::new(Box::pin(grant.chunks(offset)?)))
    }

    async fn free_objects(
        &self,
        request: Request<FreeObjectsRequest>,
    ) -> Result<Response<RayletEmpty>, Status> {
        self.tell(CallRequest::FreeObjects(request.into_inner()))
            .await
    }

    async fn node_status(
        &self,
        _request: Request<RayletEmpty>,
    ) -> Result<Response<NodeInfo>, Status> {
        match self.ask(CallRequest::Status).await? {
            CallAnswer::Status(info) => Ok(Response::new(*info)),
            other => Err(mismatch(&other)),
        }
    }

    async fn shutdown(
        &self,
        _request: Request<RayletEmpty>,
    ) -> Result<Response<RayletEmpty>, Status> {
        let end = RayletEnd::Asked("asked to shut down".to_owned());
        self.mailbox.send(Message::Shutdown { end, done: None });
        Ok(Response::new(RayletEmpty {}))
    }
}
