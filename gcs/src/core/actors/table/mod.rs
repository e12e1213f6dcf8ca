//! The actors of the cluster.
//!
//! ```text
//!             place            constructor ended
//!  QUEUED ───────────► STARTING ───────────────► ALIVE
//!    ▲  ▲   no room       │ worker lost            │ worker lost, restarts left
//!    │  └─────────────────┤                        │
//!    └────── ENDING ◄─────┴────────────────────────┘
//!      process ended, or node died: at once if that is what was told of the loss
//!         any ── killed, constructor raised, no restarts left, its maker or its job is over ──► DEAD
//! ```
//! To others QUEUED and STARTING are PENDING before the first restart and RESTARTING after; ENDING is RESTARTING.
//!
//! - `ACT-1 (dead-is-final)`: a dead actor never lives again, and holds no name.
//! - `ACT-2 (one-name-one-actor)`: in a namespace at most one actor that is not dead has a given name.
//! - `ACT-3 (one-incarnation)`: at most one worker is the actor; a report from another one is not believed, and that
//!   worker is killed. Nor does the next one begin while the process of the last may run, as far as its node can say.
//! - `ACT-4 (restarts-are-bounded)`: an actor is restarted at most `max_restarts` times, -1 is without end.
//! - `ACT-5 (ends-with-its-maker)`: an actor that is not detached ends when the process that made it does.

mod check;
mod record;

use std::collections::{BTreeMap, HashMap, VecDeque};

use aktis_common::ids::{ActorId, JobId, NodeId, WorkerId};

pub use record::{ActorRecord, Phase, StoredActor};

/// Dead actors that stay listed.
const DEAD_KEPT: usize = 1_000;

/// All actors, dead ones for a while too.
#[derive(Debug, Default)]
pub struct ActorTable {
    actors: BTreeMap<ActorId, ActorRecord>,
    /// Living actors by namespace and name (`ACT-2`).
    names: HashMap<(String, String), ActorId>,
    dead: VecDeque<ActorId>,
    last_attempt: u64,
}

impl ActorTable {
    /// The actor.
    pub fn get(&self, id: ActorId) -> Option<&ActorRecord> {
        self.actors.get(&id)
    }

    /// The actor, to change its phase. Names are kept by [`Self::insert`] and [`Self::bury`].
    pub fn get_mut(&mut self, id: ActorId) -> Option<&mut ActorRecord> {
        self.actors.get_mut(&id)
    }

    /// The living actor of this name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&ActorRecord> {
        let id = self.names.get(&(namespace.to_owned(), name.to_owned()))?;
        self.actors.get(id)
    }

    /// Namespaces that have a living actor of this name.
    pub fn namespaces_with(&self, name: &str) -> Vec<&str> {
        let mut found: Vec<&str> = self
            .names
            .keys()
            .filter(|(_, other)| other == name)
            .map(|(namespace, _)| namespace.as_str())
            .collect();
        found.sort_unstable();
        found
    }

    /// Adds an actor; its name must be free.
    pub fn insert(&mut self, record: ActorRecord) {
        let id = record.id;
        if record.is_dead() {
            self.dead.push_back(id);
        } else if let Some(name) = record.full_name() {
            let before = self.names.insert(name, id);
            debug_assert!(before.is_none_or(|other| other == id), "ACT-2");
        }
        self.actors.insert(id, record);
    }

    /// A dead actor gives its name back (`ACT-1`); gives the actors that are taken off the list for it.
    pub fn bury(&mut self, id: ActorId) -> Vec<ActorId> {
        if let Some(record) = self.actors.get(&id) {
            debug_assert!(record.is_dead(), "ACT-1");
            if let Some(name) = record.full_name()
                && self.names.get(&name) == Some(&id)
            {
                self.names.remove(&name);
            }
            self.dead.push_back(id);
        }
        let surplus = self.dead.len().saturating_sub(DEAD_KEPT);
        let forgotten: Vec<ActorId> = self.dead.drain(..surplus).collect();
        forgotten.iter().for_each(|id| {
            self.actors.remove(id);
        });
        forgotten
    }

    /// Takes an actor off the list as if it had never been there.
    pub fn remove(&mut self, id: ActorId) -> Option<ActorRecord> {
        let record = self.actors.remove(&id)?;
        if let Some(name) = record.full_name()
            && self.names.get(&name) == Some(&id)
        {
            self.names.remove(&name);
        }
        self.dead.retain(|other| *other != id);
        Some(record)
    }

    /// A number that no earlier attempt had.
    pub fn next_attempt(&mut self) -> u64 {
        self.last_attempt += 1;
        self.last_attempt
    }

    /// The living actor that this worker is.
    pub fn of_worker(&self, worker: WorkerId) -> Option<ActorId> {
        let mut living = self.actors.values().filter(|record| !record.is_dead());
        living
            .find(|record| record.phase.worker() == Some(worker))
            .map(|record| record.id)
    }

    /// Living actors on a node, with the worker of each as far as it is known.
    pub fn on_node(&self, node: NodeId) -> Vec<(ActorId, Option<WorkerId>)> {
        let there = self
            .actors
            .values()
            .filter(|record| record.phase.node() == Some(node));
        there
            .map(|record| (record.id, record.phase.worker()))
            .collect()
    }

    /// Living actors that end with a process for which `is_meant` says so, which made them.
    pub fn made_by(&self, is_meant: impl Fn(NodeId, WorkerId) -> bool) -> Vec<ActorId> {
        let is_made = |record: &ActorRecord| {
            record
                .maker()
                .is_some_and(|(node, worker)| is_meant(node, worker))
        };
        let made = self
            .actors
            .values()
            .filter(|record| !record.is_dead() && !record.options.is_detached && is_made(record));
        made.map(|record| record.id).collect()
    }

    /// Living actors that end with this job.
    pub fn owned_by(&self, job: JobId) -> Vec<ActorId> {
        let owned = self
            .actors
            .values()
            .filter(|record| !record.is_dead() && record.job == job && !record.options.is_detached);
        owned.map(|record| record.id).collect()
    }

    /// All actors.
    pub fn iter(&self) -> impl Iterator<Item = &ActorRecord> {
        self.actors.values()
    }
}
