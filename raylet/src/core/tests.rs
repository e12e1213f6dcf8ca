//! The core as a whole: events in, effects out.

mod actors;
mod bench;
mod check;
mod cut_off;
mod ends;
mod gpus;
mod hello;
mod leases;
mod lingering;
mod random;

use std::collections::BTreeMap;

use aktis_common::checks::Rhythm;
use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, WorkerId};
use aktis_common::resources::{CPU, GPU, Quantity, ResourceRequest, ResourceSet};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    Address, Blocked, CreateActorRequest, GcsCall, Goodbye, Hello, KillWorkerRequest, LeaseGrant,
    LeaseReply, LeaseRequest, LeaseReturn, ProcessKind, Publication, ReportWorkerDeathRequest,
    StartActor, StartActorRequest, TaskSpec, Unblocked, WorkerDied, lease_reply, publication,
    start_actor_reply,
};
use bytes::Bytes;
use prost::Message;

use self::bench::{Bench, give_back, owner, request, start_request};
use super::effect::{Effect, GcsReport, NodeStoreEffect, PeerMessage};
use super::event::{CallAnswer, CallRequest, Event, Exit, Overgrown, Registration, ZygoteEvent};
use super::keys::{CallId, ConnectionId, LeaseId, ReplyTo, StartupToken};
use super::*;

const HERE: NodeId = NodeId::new([1; 16]);
const THERE: NodeId = NodeId::new([2; 16]);
const JOB: JobId = JobId::new([9; 16]);
