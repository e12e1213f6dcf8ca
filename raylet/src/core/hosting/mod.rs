//! The actors that live on this node, and those that wait to.
//!
//! - `HOST-1 (one-incarnation)`: at most one worker of this node hosts an actor.

use std::time::Instant;

use aktis_common::ids::{ActorId, WorkerId};
use aktis_proto::v1::StartActorRequest;
use rustc_hash::FxHashMap;

use crate::core::keys::{CallId, LeaseId};

/// An actor that has a worker here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosted {
    /// The worker.
    pub worker: WorkerId,
    /// The lease that carries its resources.
    pub lease: LeaseId,
    /// How often the actor had been restarted when this worker was asked for.
    pub restarts: u32,
}

/// All actors of the node.
#[derive(Debug, Default)]
pub struct ActorHosting {
    hosted: FxHashMap<ActorId, Hosted>,
    /// Starts that wait for resources or a worker, and until when.
    waiting: FxHashMap<CallId, (ActorId, Instant)>,
    /// Starts that cannot be decided on yet.
    held: Vec<(CallId, StartActorRequest)>,
}

impl ActorHosting {
    /// A start waits, at most until `deadline` for resources.
    pub fn await_room(&mut self, call: CallId, actor: ActorId, deadline: Instant) {
        self.waiting.insert(call, (actor, deadline));
    }

    /// A start waits no longer.
    pub fn leave(&mut self, call: CallId) {
        self.waiting.remove(&call);
        self.held.retain(|(held, _)| *held != call);
    }

    /// A start is to be tried again when this node knows more.
    pub fn hold(&mut self, call: CallId, request: StartActorRequest) {
        self.held.push((call, request));
    }

    /// The starts that were held.
    pub fn take_held_starts(&mut self) -> Vec<(CallId, StartActorRequest)> {
        std::mem::take(&mut self.held)
    }

    /// The start of this actor that waits.
    pub fn waiting_start(&self, actor: ActorId) -> Option<CallId> {
        let mut waiting = self.waiting.iter();
        waiting
            .find(|(_, (waiting, _))| *waiting == actor)
            .map(|(call, _)| *call)
    }

    /// The starts that wait of actors for which `is_meant` says so.
    pub fn waiting_starts(&self, is_meant: impl Fn(ActorId) -> bool) -> Vec<CallId> {
        let waiting = self.waiting.iter();
        let meant = waiting.filter(|(_, (actor, _))| is_meant(*actor));
        meant.map(|(call, _)| *call).collect()
    }

    /// Starts whose time for resources is over.
    pub fn overdue(&self, now: Instant) -> Vec<CallId> {
        self.waiting
            .iter()
            .filter(|(_, (_, at))| *at <= now)
            .map(|(call, _)| *call)
            .collect()
    }

    /// A start has its resources: only the start of the worker may still take time.
    pub fn has_room(&mut self, call: CallId, deadline: Instant) {
        if let Some((_, until)) = self.waiting.get_mut(&call) {
            *until = deadline;
        }
    }

    /// When the next start is overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, at)| *at).min()
    }

    /// An actor has got a worker (`HOST-1`).
    pub fn host(&mut self, actor: ActorId, hosted: Hosted) {
        let before = self.hosted.insert(actor, hosted);
        debug_assert!(before.is_none(), "HOST-1: {actor} {before:?}");
    }

    /// The worker of an actor.
    pub fn get(&self, actor: ActorId) -> Option<Hosted> {
        self.hosted.get(&actor).copied()
    }

    /// The actor that a worker hosts.
    pub fn of_worker(&self, worker: WorkerId) -> Option<ActorId> {
        let mut hosted = self.hosted.iter();
        hosted
            .find(|(_, hosted)| hosted.worker == worker)
            .map(|(actor, _)| *actor)
    }

    /// The actor of a worker is gone.
    pub fn remove(&mut self, actor: ActorId, worker: WorkerId) {
        if self
            .get(actor)
            .is_some_and(|hosted| hosted.worker == worker)
        {
            self.hosted.remove(&actor);
        }
    }

    /// All actors, each with its worker.
    pub fn all(&self) -> Vec<(ActorId, WorkerId)> {
        self.hosted
            .iter()
            .map(|(actor, hosted)| (*actor, hosted.worker))
            .collect()
    }
}
