//! The actors that live on this node, and those that wait to.
//!
//! ```text
//!  start ──► waiting (for resources, then for a worker) ──► hosted ──► (worker gone, or stays only for what it owns)
//!    │ ▲                   └── patience over, given up ──► the gcs is to place it anew
//!    ▼ │ this node knows more
//!   held
//! ```
//! Owns: which worker is which actor, and the calls that want one to start. Does not own: resources, workers.
//!
//! - `HOST-1 (one-incarnation)`: at most one worker of this node hosts an actor, and that worker hosts no other.
//! - `HOST-2 (hosted-or-waiting)`: an actor that is hosted does not wait to be; one that waits does so in one call.

mod check;
mod starting;

use std::time::{Duration, Instant};

use aktis_common::ids::{ActorId, NodeId, WorkerId};
use aktis_proto::v1::{HostedActor, StartActorRequest};
use rustc_hash::FxHashMap;

use crate::core::claims::Claim;
use crate::core::keys::{CallId, LeaseId};
use crate::core::out::Out;

pub use self::starting::actor_of;

/// An actor that has a worker here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosted {
    /// The worker.
    pub worker: WorkerId,
    /// Its process id.
    pub pid: u32,
    /// How often the actor had been restarted when this worker was asked for.
    pub restarts: u32,
}

/// A start that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    actor: ActorId,
    /// When it is looked at again.
    until: Instant,
    /// How long it may wait for resources that tasks are to give back (ADR 132).
    at_most: Instant,
}

/// What happens to actors here.
#[derive(Debug)]
pub enum HostingEvent {
    /// A start wants resources and a worker.
    Wanted {
        /// Who waits.
        call: CallId,
        /// What for.
        claim: Box<Claim>,
    },
    /// A start wants nothing any more.
    GivenUp(CallId),
    /// The constructor of an actor has ended well: what only it needed is free.
    Constructed(LeaseId),
    /// The constructor of an actor has failed: its worker is to end.
    Broken(WorkerId),
}

/// All actors of the node.
#[derive(Debug)]
pub struct ActorHosting {
    here: NodeId,
    /// How long a start waits for resources.
    patience: Duration,
    /// How long one that has them waits for its worker.
    start_patience: Duration,
    hosted: FxHashMap<ActorId, Hosted>,
    /// Starts that wait for resources or a worker.
    waiting: FxHashMap<CallId, Waiting>,
    /// Starts that cannot be decided on yet.
    held: Vec<(CallId, StartActorRequest)>,
}

impl ActorHosting {
    /// No actor is on node `here`. A start waits for resources as long as `patience`, and then for its worker while that has
    /// time to start (`start_timeout`).
    pub fn new(here: NodeId, patience: Duration, start_timeout: Duration) -> Self {
        Self {
            here,
            patience,
            // A worker that is overdue fails the claim before.
            start_patience: start_timeout * 2,
            hosted: FxHashMap::default(),
            waiting: FxHashMap::default(),
            held: Vec::new(),
        }
    }

    /// A start waits no longer.
    pub fn leave(&mut self, call: CallId) {
        self.waiting.remove(&call);
        self.held.retain(|(held, _)| *held != call);
    }

    /// The starts that could not be decided on yet, to be tried again.
    pub fn take_held_starts(&mut self) -> Vec<(CallId, StartActorRequest)> {
        std::mem::take(&mut self.held)
    }

    /// A start has its resources: from now on only the worker's start limits it.
    pub fn has_room(&mut self, call: CallId, out: &Out) {
        if let Some(waiting) = self.waiting.get_mut(&call) {
            waiting.until = out.now() + self.start_patience;
        }
    }

    /// When the next start is overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }

    /// The worker of an actor.
    pub fn get(&self, actor: ActorId) -> Option<Hosted> {
        self.hosted.get(&actor).copied()
    }

    /// All actors that have a worker here, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ActorId, Hosted)> {
        self.hosted.iter().map(|(actor, hosted)| (*actor, *hosted))
    }

    /// The calls that wait for an actor to have a worker.
    pub fn waiting_calls(&self) -> impl Iterator<Item = CallId> {
        self.waiting.keys().copied()
    }

    /// The actor that a worker hosts.
    pub fn of_worker(&self, worker: WorkerId) -> Option<ActorId> {
        let mut hosted = self.hosted.iter();
        hosted
            .find(|(_, hosted)| hosted.worker == worker)
            .map(|(actor, _)| *actor)
    }

    /// A worker is gone, or runs nothing any more: gives the actor that it was.
    pub fn worker_gone(&mut self, worker: WorkerId) -> Option<ActorId> {
        let actor = self.of_worker(worker)?;
        self.hosted.remove(&actor);
        Some(actor)
    }

    /// Whether an order about a worker, and maybe the actor it is, is about what is here.
    pub fn is_meant(&self, worker: WorkerId, actor_id: &[u8]) -> bool {
        let actor = ActorId::from_bytes(actor_id).ok();
        let hosts = |actor| {
            self.get(actor)
                .is_some_and(|hosted| hosted.worker == worker)
        };
        actor.is_none_or(hosts)
    }

    /// The gcs says which actors it holds to be here. Starts of others wait no longer; gives the workers of actors that live
    /// elsewhere now, or nowhere.
    pub fn keep_only(&mut self, kept: &[HostedActor], out: &mut Out) -> Vec<WorkerId> {
        let kept: FxHashMap<ActorId, Option<WorkerId>> = kept
            .iter()
            .filter_map(|hosted| {
                let actor = ActorId::from_bytes(&hosted.actor_id).ok()?;
                Some((actor, WorkerId::from_bytes(&hosted.worker_id).ok()))
            })
            .collect();
        self.give_up_where(|waiting| !kept.contains_key(&waiting.actor), out);
        let is_kept = |actor: &ActorId, worker: WorkerId| {
            let named = kept.get(actor);
            named.is_some_and(|named| named.is_none_or(|named| named == worker))
        };
        self.hosted
            .iter()
            .filter(|(actor, hosted)| !is_kept(actor, hosted.worker))
            .map(|(_, hosted)| hosted.worker)
            .collect()
    }
}
