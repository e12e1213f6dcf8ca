//! One actor.

use aktis_common::ids::{ActorId, InvalidId, JobId, NodeId, WorkerId};
use aktis_proto::v1::{
    ActorOptions, ActorState, ActorUpdate, Address, Failure, ResourceRequest, StartActor,
    StartActorRequest, TaskSpec,
};
use bytes::Bytes;

/// Where the actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits for a place.
    Queued,
    /// A raylet was asked to start it.
    Starting {
        /// Where.
        node: NodeId,
        /// Its process, as soon as the raylet has named it.
        worker: Option<WorkerId>,
        /// Tells this attempt from earlier ones.
        attempt: u64,
    },
    /// Its constructor has ended well.
    Alive {
        /// Where.
        node: NodeId,
        /// Its process.
        worker: WorkerId,
    },
    /// Lost, and to begin anew when its process has ended (`ACT-3`).
    Ending {
        /// Where that process is.
        node: NodeId,
        /// The process.
        worker: WorkerId,
    },
    /// Over for good.
    Dead,
}

impl Phase {
    /// The node it is on.
    pub fn node(self) -> Option<NodeId> {
        match self {
            Self::Starting { node, .. } | Self::Alive { node, .. } | Self::Ending { node, .. } => {
                Some(node)
            }
            Self::Queued | Self::Dead => None,
        }
    }

    /// The process that it is, if known.
    pub fn worker(self) -> Option<WorkerId> {
        match self {
            Self::Starting { worker, .. } => worker,
            Self::Alive { worker, .. } | Self::Ending { worker, .. } => Some(worker),
            Self::Queued | Self::Dead => None,
        }
    }
}

/// An actor and how to make it again.
#[derive(Debug, Clone)]
pub struct ActorRecord {
    /// Its id.
    pub id: ActorId,
    /// The job that made it.
    pub job: JobId,
    /// The creating task.
    pub spec: TaskSpec,
    /// Its options.
    pub options: ActorOptions,
    /// Arguments of its constructor.
    pub args: Bytes,
    /// Where it is in its life.
    pub phase: Phase,
    /// How often it was restarted.
    pub restarts: u32,
    /// Process id, for people.
    pub pid: u32,
    /// Why it is dead, or why nothing can place it.
    pub failure: Option<Failure>,
    /// How many changes of it this head has told.
    pub change: u64,
}

/// An actor on disk.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredActor {
    /// Its state.
    #[prost(message, optional, tag = "1")]
    pub update: Option<ActorUpdate>,
    /// The creating task.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<TaskSpec>,
    /// Arguments of its constructor.
    #[prost(bytes = "bytes", tag = "3")]
    pub args: Bytes,
    /// Node and, if known, worker that is starting it.
    #[prost(message, optional, tag = "4")]
    pub starting: Option<Address>,
    /// The lost process that has not ended.
    #[prost(message, optional, tag = "5")]
    pub ending: Option<Address>,
}

impl ActorRecord {
    /// Whether it is over.
    pub fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    /// Namespace and name, if it has one.
    pub fn full_name(&self) -> Option<(String, String)> {
        let named = !self.options.name.is_empty();
        named.then(|| (self.options.namespace.clone(), self.options.name.clone()))
    }

    /// The process that made it.
    pub fn maker(&self) -> Option<(NodeId, WorkerId)> {
        let owner = self.spec.owner.as_ref()?;
        Some((owner.node().ok()?, owner.worker().ok()?))
    }

    /// What it asks for to be placed.
    pub fn placing_resources(&self) -> ResourceRequest {
        self.spec.resources.clone().unwrap_or_default()
    }

    /// What it holds where it is: less, once it is constructed.
    pub fn held_resources(&self) -> ResourceRequest {
        let running = self.options.running_resources.clone();
        match self.phase {
            Phase::Alive { .. } | Phase::Ending { .. } => running,
            Phase::Queued | Phase::Starting { .. } | Phase::Dead => None,
        }
        .unwrap_or_else(|| self.placing_resources())
    }

    /// Whether its death in a system failure leads to a restart (`ACT-4`).
    pub fn has_restarts_left(&self) -> bool {
        match self.options.max_restarts {
            -1 => true,
            limit => i64::from(self.restarts) < i64::from(limit),
        }
    }

    fn state(&self) -> ActorState {
        match self.phase {
            Phase::Alive { .. } => ActorState::Alive,
            Phase::Dead => ActorState::Dead,
            Phase::Queued | Phase::Starting { .. } if self.restarts == 0 => ActorState::Pending,
            Phase::Queued | Phase::Starting { .. } | Phase::Ending { .. } => ActorState::Restarting,
        }
    }

    /// Everything that others may know, with the description of its methods.
    pub fn update(&self) -> ActorUpdate {
        let address = match self.phase {
            Phase::Alive { node, worker } => Some(Address::of(node, worker)),
            _ => None,
        };
        ActorUpdate {
            actor_id: self.id.to_wire(),
            state: self.state().into(),
            address,
            restarts: self.restarts,
            failure: self.failure.clone(),
            class_name: self.options.class_name.clone(),
            pid: self.pid,
            options: Some(self.options.clone()),
            function: self.spec.function.clone(),
            resources: self.spec.resources.clone(),
            name: self.options.name.clone(),
            change: self.change,
        }
    }

    /// The same without the description of its methods, which only `get_actor` needs.
    pub fn news(&self) -> ActorUpdate {
        let mut update = self.update();
        if let Some(options) = &mut update.options {
            options.handle_state = Bytes::new();
        }
        update
    }

    /// What its raylet is asked.
    pub fn start_request(&self, generation: u64) -> StartActorRequest {
        StartActorRequest {
            start: Some(StartActor {
                spec: Some(self.spec.clone()),
                options: Some(self.options.clone()),
                accelerators: None,
                restarts: self.restarts,
                ..StartActor::default()
            }),
            args_payload: self.args.clone(),
            generation,
            ..StartActorRequest::default()
        }
    }

    /// For the disk.
    pub fn to_stored(&self) -> StoredActor {
        let starting = match self.phase {
            Phase::Starting { node, worker, .. } => {
                Some(Address::of(node, worker.unwrap_or(WorkerId::NIL)))
            }
            _ => None,
        };
        let ending = match self.phase {
            Phase::Ending { node, worker } => Some(Address::of(node, worker)),
            _ => None,
        };
        StoredActor {
            update: Some(self.update()),
            spec: Some(self.spec.clone()),
            args: self.args.clone(),
            starting,
            ending,
        }
    }

    /// From the disk.
    ///
    /// # Errors
    /// When an id is broken.
    pub fn from_stored(id: ActorId, stored: StoredActor) -> Result<Self, InvalidId> {
        let update = stored.update.clone().unwrap_or_default();
        let spec = stored.spec.clone().unwrap_or_default();
        let phase = match (update.state(), &update.address, &stored) {
            (ActorState::Alive, Some(at), _) => Phase::Alive {
                node: at.node()?,
                worker: at.worker()?,
            },
            (ActorState::Dead, ..) => Phase::Dead,
            (
                ..,
                StoredActor {
                    ending: Some(at), ..
                },
            ) => Phase::Ending {
                node: at.node()?,
                worker: at.worker()?,
            },
            (
                ..,
                StoredActor {
                    starting: Some(at), ..
                },
            ) => {
                let worker = Some(at.worker()?).filter(|worker| !worker.is_nil());
                Phase::Starting {
                    node: at.node()?,
                    worker,
                    attempt: 0,
                }
            }
            _ => Phase::Queued,
        };
        Ok(Self {
            id,
            job: JobId::from_bytes(&spec.job_id)?,
            spec,
            options: update.options.unwrap_or_default(),
            args: stored.args,
            phase,
            restarts: update.restarts,
            pid: update.pid,
            failure: update.failure,
            change: 0,
        })
    }
}
