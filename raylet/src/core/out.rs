//! Where tables put what is to be done, and what others are to hear.

use std::collections::VecDeque;
use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_proto::v1::{
    Failure, LeaseReply, StartActorReply, lease_reply, node_frame, start_actor_reply,
};
use bytes::Bytes;

use super::claims::ClaimEvent;
use super::deaths::DeathEvent;
use super::effect::Effect;
use super::event::CallAnswer;
use super::hosting::HostingEvent;
use super::keys::{CallId, ConnectionId, ReplyTo};
use super::node::NodeEvent;
use super::pool::PoolEvent;
use super::processes::ProcessEvent;
use super::pulls::PullEvent;

/// What happened in a table, for the others. `step::news` says who hears of it.
#[derive(Debug)]
pub enum TableEvent {
    /// In the table of processes.
    Process(ProcessEvent),
    /// In the worker pool.
    Pool(PoolEvent),
    /// In the table of claims.
    Claim(ClaimEvent),
    /// Among the actors of this node.
    Hosting(HostingEvent),
    /// A death is told.
    Death(DeathEvent),
    /// Among the copies that are fetched.
    Pull(PullEvent),
    /// In the view of the cluster.
    Node(NodeEvent),
}

macro_rules! from_tables {
    ($($name:ident($event:ty)),* $(,)?) => {
        $(impl From<$event> for TableEvent {
            fn from(event: $event) -> Self {
                Self::$name(event)
            }
        })*
    };
}

from_tables!(
    Process(ProcessEvent),
    Pool(PoolEvent),
    Claim(ClaimEvent),
    Hosting(HostingEvent),
    Death(DeathEvent),
    Pull(PullEvent),
    Node(NodeEvent),
);

/// One step: when it happens, and what comes of it.
#[derive(Debug)]
pub struct Out<'a> {
    now: Instant,
    effects: &'a mut Vec<Effect>,
    /// In the order in which it happened; passed on once the verb that told it has returned.
    events: VecDeque<TableEvent>,
}

impl<'a> Out<'a> {
    /// A step at this time.
    pub fn new(now: Instant, effects: &'a mut Vec<Effect>) -> Self {
        let events = VecDeque::new();
        Self {
            now,
            effects,
            events,
        }
    }

    /// When the step happens.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Something is to be done to the world.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Other tables are to hear of this.
    pub fn tell(&mut self, event: impl Into<TableEvent>) {
        self.events.push_back(event.into());
    }

    /// What others have not heard yet, the oldest first.
    pub fn next_event(&mut self) -> Option<TableEvent> {
        self.events.pop_front()
    }

    /// Sends a frame that answers a request of a process.
    pub fn reply(&mut self, connection: ConnectionId, request_id: u64, kind: node_frame::Kind) {
        self.push(Effect::Send {
            connection,
            request_id,
            kind,
            payload: Bytes::new(),
        });
    }

    /// Sends a frame that nobody asked for.
    pub fn notify(&mut self, connection: ConnectionId, kind: node_frame::Kind) {
        self.reply(connection, 0, kind);
    }

    /// A request of a process that is not as it should be.
    pub fn reply_invalid(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        message: impl Into<String>,
    ) {
        let failure = Failure::of(ErrorCode::InvalidArgument, message);
        self.reply(connection, request_id, node_frame::Kind::Failure(failure));
    }

    /// Answers a process that is not what it should be, and closes its connection.
    pub fn refuse(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        message: impl Into<String>,
    ) {
        self.reply_invalid(connection, request_id, message);
        self.push(Effect::Close { connection });
    }

    /// Answers a call.
    pub fn answer(&mut self, call: CallId, answer: CallAnswer) {
        self.push(Effect::Answer { call, answer });
    }

    /// Answers the start of an actor.
    pub fn answer_start(&mut self, call: CallId, outcome: start_actor_reply::Outcome, pid: u32) {
        let outcome = Some(outcome);
        self.answer(
            call,
            CallAnswer::ActorStart(StartActorReply { outcome, pid }),
        );
    }

    /// Answers whoever claims a worker.
    pub fn answer_claim(&mut self, reply_to: ReplyTo, reply: LeaseReply) {
        match reply_to {
            ReplyTo::Process {
                connection,
                request_id,
            } => self.reply(connection, request_id, node_frame::Kind::LeaseReply(reply)),
            ReplyTo::Call(call) => self.answer(call, CallAnswer::Lease(reply)),
        }
    }

    /// A claim that ends without a grant.
    pub fn fail_claim(&mut self, reply_to: ReplyTo, code: ErrorCode, message: impl Into<String>) {
        let outcome = Some(lease_reply::Outcome::Failure(Failure::of(code, message)));
        self.answer_claim(reply_to, LeaseReply { outcome });
    }
}
