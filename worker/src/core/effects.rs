//! What the core wants done.

use std::sync::Arc;

use aktis_common::ids::{ActorId, NodeId, ObjectId, TaskId};
use aktis_proto::v1 as wire;
use thin_vec::ThinVec;

use super::leases::LeaseRequestKey;
use super::objects::ResultValue;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;
use aktis_lane::PayloadParts;
use aktis_lane::Waiter;
use aktis_lane::{ConnectionId, Urgency};

/// One thing to do.
pub(crate) enum Effect {
    /// Append to the connection's outbox, while the core is locked.
    Send {
        connection: ConnectionId,
        frame: wire::LaneFrame,
        payload: PayloadParts,
        urgency: Urgency,
    },
    /// Ask the raylet for a worker.
    RequestLease {
        key: LeaseRequestKey,
        request: wire::LeaseRequest,
    },
    /// The worker asked for is not needed any more.
    CancelLease { key: LeaseRequestKey },
    /// Give a worker back.
    ReturnLease { returned: wire::LeaseReturn },
    /// Open a lane to the owner, if there is none, and ask for the object.
    AskOwner {
        owner: ProcessAddress,
        object: ObjectId,
    },
    /// Tell the owner about a borrower.
    BorrowDelta {
        owner: ProcessAddress,
        object: ObjectId,
        borrower: ProcessAddress,
        delta: i64,
    },
    /// Nobody references these: free their copies.
    FreeStored {
        object: ObjectId,
        nodes: Vec<NodeId>,
    },
    /// Tell the raylet whether other processes hold references to what this one owns.
    TellLending { is_lending: bool },
    /// The lane is not needed any more.
    CloseLane { connection: ConnectionId },
    /// Ask what has become of an actor.
    WatchActor { actor: ActorId },
    /// An actor whose handles are gone has no calls left.
    KillActor { actor: ActorId },
    /// The last handle of an actor is gone.
    EndActor { actor: ActorId },
}

/// Who is told when an object is ready.
pub(crate) enum Watcher {
    /// A thread in `get` or `wait`.
    Thread(Arc<Waiter>),
    /// A function of the embedder.
    Callback(Box<dyn FnOnce() + Send>),
    /// A task that takes the object as an argument.
    Task(TaskId),
    /// Another process.
    Peer {
        connection: ConnectionId,
        request_id: u64,
        wants_readiness_only: bool,
    },
}

/// What a change of one table means for another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// An argument that the task waits for is there.
    ArgumentReady(TaskId),
    /// A result of a task lies in a store: it may have to be made again.
    ResultStored(ObjectId),
    /// It will not be made again: nobody refers to it, or it came inline, or cannot be had.
    ResultForgotten(ObjectId),
    /// Somebody waits for an own object, all copies of which are gone.
    Missed(ObjectId),
}

/// What is to be done, and what is to be dropped outside the lock (dropping a reference takes the lock again).
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) list: Vec<Effect>,
    pub(crate) callbacks: Vec<Box<dyn FnOnce() + Send>>,
    garbage_values: Vec<Value>,
    garbage_refs: Vec<ObjectRef>,
    /// What is still to be passed on from table to table, before anything else happens.
    following: Vec<Consequence>,
    /// Tasks whose last missing dependency is ready; the core works them off before it returns.
    pub(super) runnable: Vec<TaskId>,
}

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub(super) fn follow(&mut self, consequence: Consequence) {
        self.following.push(consequence);
    }

    pub(super) fn take_following(&mut self) -> Vec<Consequence> {
        std::mem::take(&mut self.following)
    }

    pub(super) fn discard_value(&mut self, value: Value) {
        self.garbage_values.push(value);
    }

    pub(super) fn discard_result(&mut self, result: ResultValue) {
        match result {
            ResultValue::Inline(value) => self.discard_value(value),
            ResultValue::Stored { contained, .. } => self.discard_refs(contained),
        }
    }

    pub(super) fn discard_refs(&mut self, refs: ThinVec<ObjectRef>) {
        self.garbage_refs.extend(refs);
    }
}
