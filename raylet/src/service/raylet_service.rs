//! The gRPC service of a raylet: every call becomes a message for the loop and waits for its answer.

use std::pin::Pin;

use aktis_common::error::ErrorCode;
use aktis_proto::convert::status;
use aktis_proto::v1::raylet_server::Raylet;
use aktis_proto::v1::{
    ForwardedLeaseRequest, FreeObjectsRequest, KillWorkerRequest, LaneBytes, LeaseReply,
    LeaseReturn, NodeInfo, RayletEmpty, ReclaimLeaseRequest, RunningReply, StartActorReply,
    StartActorRequest, TransferDoor,
};
use futures::Stream;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::core::event::{CallAnswer, CallRequest, Event};
use crate::core::keys::CallId;
use crate::inbox::{Mailbox, Message, RayletEnd};
use crate::io::at_work::list_running;
use crate::io::lane_proxy::LaneProxy;

/// Streams of this service.
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What other nodes and the gcs call.
#[derive(Debug, Clone)]
pub(crate) struct RayletService {
    mailbox: Mailbox,
    lanes: LaneProxy,
    /// Where streams for copies are taken.
    transfer_door: String,
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
    pub(crate) fn new(mailbox: Mailbox, lanes: LaneProxy, transfer_door: String) -> Self {
        Self {
            mailbox,
            lanes,
            transfer_door,
        }
    }

    async fn ask(&self, request: CallRequest) -> Result<CallAnswer, Status> {
        let call = self.mailbox.next_call();
        let (answer, receiver) = oneshot::channel();
        let mut waiting = WaitingCall {
            call,
            mailbox: self.mailbox.clone(),
            is_answered: false,
        };
        let message = Message::Call {
            call,
            request,
            answer,
        };
        self.mailbox.ask(message).await;
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

    async fn find_transfer_door(
        &self,
        _request: Request<RayletEmpty>,
    ) -> Result<Response<TransferDoor>, Status> {
        let address = self.transfer_door.clone();
        Ok(Response::new(TransferDoor { address }))
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

    async fn list_running(
        &self,
        _request: Request<RayletEmpty>,
    ) -> Result<Response<RunningReply>, Status> {
        Ok(Response::new(list_running(&self.lanes.lane_dir).await))
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
