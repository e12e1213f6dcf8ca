//! Every object this process holds references to.
//!
//! ```text
//!            task ended              copies gone
//!  Pending ─────────────► Inline          │
//!     │  └──────────────► Stored ─────────┴─► Lost ── task runs again ─► Pending
//!     └─────────────────► Failed                └─── cannot ───────────► Failed
//! ```
//! A borrowed object starts as Pending and becomes what its owner answers.

use std::sync::Arc;

use aktis_common::ids::{ActorId, NodeId, ObjectId, WorkerId};
use rustc_hash::FxHashMap;

use super::effects::Watcher;
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;

/// Where an object of the stores lies.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) size_bytes: u64,
    /// Held for the object that contains them.
    pub(crate) contained: Vec<ObjectRef>,
}

/// What is known of an object's value.
#[derive(Debug)]
pub(crate) enum ObjectState {
    Pending,
    Inline(Value),
    Stored(Box<Stored>),
    Failed(Arc<TaskFailure>),
    /// All copies are gone; nobody has asked since.
    Lost,
}

impl ObjectState {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Inline(_) | Self::Stored(_) | Self::Failed(_))
    }
}

/// One object.
pub(crate) struct ObjectEntry {
    /// Handles in this process.
    pub(crate) handles: u32,
    /// Results kept as lineage that were computed from this object.
    pub(crate) lineage_pins: u32,
    /// Handed to this process that many times by senders who told the owner (borrowed objects only).
    pub(crate) credits: i64,
    /// `None`: owned by this process.
    pub(crate) owner: Option<Box<ProcessAddress>>,
    pub(crate) state: ObjectState,
    pub(crate) watchers: Vec<Watcher>,
    /// Processes that hold references (owned objects only). Counts may be negative for a moment: see `references`.
    pub(crate) borrowers: Option<Box<FxHashMap<WorkerId, i64>>>,
    /// The owner was asked (borrowed objects only).
    pub(crate) is_requested: bool,
    /// The reference stands for an actor: its end is the actor's end.
    pub(crate) actor: Option<Box<ActorId>>,
}

impl ObjectEntry {
    pub(crate) fn owned(state: ObjectState) -> Self {
        Self {
            handles: 0,
            lineage_pins: 0,
            credits: 0,
            owner: None,
            state,
            watchers: Vec::new(),
            borrowers: None,
            is_requested: false,
            actor: None,
        }
    }

    pub(crate) fn borrowed(owner: ProcessAddress) -> Self {
        Self {
            owner: Some(Box::new(owner)),
            ..Self::owned(ObjectState::Pending)
        }
    }

    /// Whether anybody may still ask for the value.
    pub(crate) fn is_referenced(&self) -> bool {
        self.handles > 0
            || self
                .borrowers
                .as_ref()
                .is_some_and(|counts| counts.values().any(|count| *count > 0))
    }
}

/// All objects, by id.
#[derive(Default)]
pub(crate) struct ObjectTable {
    pub(crate) entries: FxHashMap<ObjectId, ObjectEntry>,
}

impl ObjectTable {
    pub(crate) fn get(&self, id: ObjectId) -> Option<&ObjectEntry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ObjectId) -> Option<&mut ObjectEntry> {
        self.entries.get_mut(&id)
    }

    /// Adds an object of this process.
    pub(crate) fn insert_owned(&mut self, id: ObjectId, state: ObjectState) -> &mut ObjectEntry {
        self.entries
            .entry(id)
            .or_insert_with(|| ObjectEntry::owned(state))
    }

    /// Whether the object is ready; an unknown one counts as not ready.
    pub(crate) fn is_ready(&self, id: ObjectId) -> bool {
        self.get(id).is_some_and(|entry| entry.state.is_ready())
    }
}
