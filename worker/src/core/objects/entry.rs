//! One object, and what is known of its value.

use std::sync::Arc;

use aktis_common::ids::{ActorId, NodeId, ObjectId, WorkerId};
use rustc_hash::FxHashMap;
use thin_vec::ThinVec;

use crate::core::{Consequence, Effects, Watcher};
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;

/// Where an object of the stores lies.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) size_bytes: u64,
    /// Grows whenever a copy is made. A reader that misses one says which it was told of: one that was made since may lie on
    /// the same node.
    pub(crate) making: u64,
    /// Held for the object that contains them.
    pub(crate) contained: ThinVec<ObjectRef>,
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

/// A value as it arrived: one result of a task, or the answer of an owner.
pub(crate) enum ResultValue {
    Inline(Value),
    Stored {
        node: NodeId,
        size_bytes: u64,
        /// As the owner told it; 0 from the process that made the copy.
        making: u64,
        contained: ThinVec<ObjectRef>,
    },
}

impl ResultValue {
    pub(super) fn into_state(self) -> ObjectState {
        match self {
            Self::Inline(value) => ObjectState::Inline(value),
            Self::Stored {
                node,
                size_bytes,
                making,
                contained,
            } => ObjectState::Stored(Box::new(Stored {
                nodes: vec![node],
                size_bytes,
                making,
                contained,
            })),
        }
    }
}

/// One object.
pub(crate) struct ObjectEntry {
    /// Handles in this process.
    pub(super) handles: u32,
    /// Results kept as lineage that were computed from this object.
    pub(super) lineage_pins: u32,
    /// It counts among the results that its task is kept for (own objects only).
    claims_task: bool,
    /// Its value counts among those that are kept for lineage alone.
    is_kept: bool,
    pub(super) state: ObjectState,
    pub(super) watchers: ThinVec<Watcher>,
    /// Most objects are this process's own, and no other process knows of them.
    elsewhere: Option<Box<Elsewhere>>,
}

/// What other processes, and actors, have to do with an object.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// `None`: owned by this process.
    owner: Option<ProcessAddress>,
    /// Handed to this process that many times by senders who told the owner (borrowed objects only).
    pub(super) credits: i64,
    /// The owner was asked (borrowed objects only).
    pub(super) is_requested: bool,
    /// Processes that hold references (owned objects only). Counts may be negative for a moment: see `references`.
    pub(super) borrowers: FxHashMap<WorkerId, i64>,
    /// The reference stands for an actor: its end is the actor's end.
    pub(super) actor: Option<ActorId>,
}

impl ObjectEntry {
    pub(super) fn owned(state: ObjectState) -> Self {
        Self {
            handles: 0,
            lineage_pins: 0,
            claims_task: false,
            is_kept: false,
            state,
            watchers: ThinVec::new(),
            elsewhere: None,
        }
    }

    pub(super) fn borrowed(owner: ProcessAddress) -> Self {
        let mut entry = Self::owned(ObjectState::Pending);
        entry.elsewhere().owner = Some(owner);
        entry
    }

    pub(crate) fn state(&self) -> &ObjectState {
        &self.state
    }

    /// To be called when the object has become ready: its task is kept for it while it lies in a store, and after that until
    /// it is ready in another way.
    pub(super) fn review_claim(&mut self, id: ObjectId, effects: &mut Effects) {
        match self.state {
            ObjectState::Stored(_) if self.owner().is_none() && !self.claims_task => {
                self.claims_task = true;
                effects.follow(Consequence::ResultStored(id));
            }
            ObjectState::Inline(_) | ObjectState::Failed(_) => self.drop_claim(id, effects),
            ObjectState::Stored(_) | ObjectState::Pending | ObjectState::Lost => {}
        }
    }

    /// The object is not to be made again.
    pub(super) fn drop_claim(&mut self, id: ObjectId, effects: &mut Effects) {
        if std::mem::take(&mut self.claims_task) {
            effects.follow(Consequence::ResultForgotten(id));
        }
    }

    pub(super) fn claims_task(&self) -> bool {
        self.claims_task
    }

    /// The process that owns the object; `None` if it is this one.
    pub(crate) fn owner(&self) -> Option<ProcessAddress> {
        self.elsewhere.as_ref()?.owner
    }

    pub(super) fn elsewhere(&mut self) -> &mut Elsewhere {
        self.elsewhere.get_or_insert_default()
    }

    /// How many of this process's handles the owner knows of.
    pub(super) fn credits(&self) -> i64 {
        let elsewhere = self.elsewhere.as_ref();
        elsewhere.map_or(0, |elsewhere| elsewhere.credits)
    }

    /// Nothing refers to the object any more: its owner, the credits to be given back to it, the actor it stands for.
    pub(super) fn part_with(&mut self) -> (Option<ProcessAddress>, i64, Option<ActorId>) {
        match &mut self.elsewhere {
            Some(elsewhere) => (
                elsewhere.owner,
                std::mem::take(&mut elsewhere.credits),
                elsewhere.actor.take(),
            ),
            None => (None, 0, None),
        }
    }

    pub(super) fn is_borrowed_by(&self, worker: WorkerId) -> bool {
        self.elsewhere
            .as_ref()
            .is_some_and(|elsewhere| elsewhere.borrowers.contains_key(&worker))
    }

    /// Whether anybody may still ask for the value.
    pub(super) fn is_referenced(&self) -> bool {
        self.handles > 0 || self.is_lent()
    }

    /// To be called when somebody begins or ends to refer to it, or a task to need it: counts its value in `kept_bytes` if it is
    /// kept for lineage alone.
    pub(super) fn count_kept(&mut self, kept_bytes: &mut u64) {
        let ObjectState::Inline(value) = &self.state else {
            return;
        };
        let bytes = value.data_bytes() as u64;
        let is_kept = self.lineage_pins > 0 && !self.is_referenced();
        match (self.is_kept, is_kept) {
            (false, true) => *kept_bytes += bytes,
            (true, false) => *kept_bytes -= bytes,
            _ => {}
        }
        self.is_kept = is_kept;
    }

    /// Whether other processes hold references to this object of this process.
    pub(super) fn is_lent(&self) -> bool {
        let is_borrowed =
            |elsewhere: &Elsewhere| elsewhere.borrowers.values().any(|count| *count > 0);
        self.elsewhere.as_deref().is_some_and(is_borrowed)
    }

    /// The actor that the reference stands for.
    pub(super) fn actor(&self) -> Option<ActorId> {
        self.elsewhere.as_ref()?.actor
    }

    /// What the value refers to.
    pub(super) fn contained(&self) -> &[ObjectRef] {
        match &self.state {
            ObjectState::Inline(value) => &value.contained,
            ObjectState::Stored(stored) => &stored.contained,
            ObjectState::Pending | ObjectState::Failed(_) | ObjectState::Lost => &[],
        }
    }
}
