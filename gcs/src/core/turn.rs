//! What one step of the core may see, and what it may cause.

use std::time::Duration;

use aktis_common::ids::{ActorId, NodeId};
use aktis_proto::v1::{KillWorkerRequest, Publication, StartActorRequest, publication};
use bytes::Bytes;

/// Tables that survive a restart of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Session id and counters.
    Meta,
    /// `NodeInfo` by node id.
    Nodes,
    /// `JobInfo` by job id.
    Jobs,
    /// `StoredActor` by actor id.
    Actors,
    /// The key-value table of the cluster's processes.
    KeyValues,
    /// Which jobs put a key: job and key, without content. After the values.
    KeyJobs,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 6] = [
        Self::Meta,
        Self::Nodes,
        Self::Jobs,
        Self::Actors,
        Self::KeyValues,
        Self::KeyJobs,
    ];
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which table.
    pub table: Table,
    /// Which row.
    pub key: Bytes,
    /// Its new content; `None` removes it.
    pub value: Option<Bytes>,
}

/// What the core wants to happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Keep this before anybody hears of it.
    Persist(Write),
    /// Tell all subscribers.
    Publish(Box<Publication>),
    /// Ask a raylet to start an actor; the answer is an event.
    StartActor {
        /// Which.
        actor: ActorId,
        /// Tells this attempt from earlier ones.
        attempt: u64,
        /// Where.
        node: NodeId,
        /// Its raylet.
        raylet_address: String,
        /// What it is asked.
        request: Box<StartActorRequest>,
    },
    /// Ask a raylet to end a worker.
    KillWorker {
        /// Its raylet.
        raylet_address: String,
        /// What it is asked.
        request: KillWorkerRequest,
    },
}

/// One step: the time it happens at, and the effects it collects.
#[derive(Debug, Default)]
pub struct Turn {
    /// Time since the gcs started.
    pub now: Duration,
    /// Wall clock, for people.
    pub unix_millis: u64,
    effects: Vec<Effect>,
}

impl Turn {
    /// A step at this time.
    pub fn at(now: Duration, unix_millis: u64) -> Self {
        Self {
            now,
            unix_millis,
            effects: Vec::new(),
        }
    }

    /// The effects so far, in order.
    pub fn into_effects(self) -> Vec<Effect> {
        self.effects
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn publish(&mut self, kind: publication::Kind) {
        self.push(Effect::Publish(Box::new(Publication { kind: Some(kind) })));
    }

    pub(super) fn keep(&mut self, table: Table, key: Bytes, message: &impl prost::Message) {
        let value = Some(Bytes::from(message.encode_to_vec()));
        self.push(Effect::Persist(Write { table, key, value }));
    }

    pub(super) fn keep_bytes(&mut self, table: Table, key: Bytes, value: Bytes) {
        self.push(Effect::Persist(Write {
            table,
            key,
            value: Some(value),
        }));
    }

    pub(super) fn forget(&mut self, table: Table, key: Bytes) {
        self.push(Effect::Persist(Write {
            table,
            key,
            value: None,
        }));
    }
}
