//! A request for a worker that has no worker yet.

use std::time::Instant;

use aktis_common::ids::{JobId, NodeId, WorkerId};
use aktis_common::resources::{GPU, ResourceRequest};
use aktis_common::scheduling::{NodeView, PlacementRequest, Strategy};
use aktis_proto::v1::{LeaseRequest, StartActor};
use bytes::Bytes;

/// The process that leases workers, wherever it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its node.
    pub node: NodeId,
    /// Its id.
    pub worker: WorkerId,
}

/// What the worker is wanted for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// To run the tasks of an owner.
    Tasks {
        /// The owner.
        owner: Owner,
        /// The request as it came, to be forwarded.
        request: Box<LeaseRequest>,
    },
    /// To host an actor.
    Actor {
        /// What to send the worker.
        start: Box<StartActor>,
        /// The payload behind it.
        args_payload: Bytes,
        /// What is held once the constructor has ended; `None` when that is everything.
        running: Option<ResourceRequest>,
    },
}

/// A request for a worker.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What it is for.
    pub purpose: Purpose,
    /// The job it belongs to.
    pub job: JobId,
    /// What it needs, and where it would like to be.
    pub placement: PlacementRequest,
    /// Whether only this node will do.
    pub is_here_only: bool,
    /// The number under which another raylet forwarded it; 0 for one of this node.
    pub claim_id: u64,
    /// When it came.
    pub since: Instant,
    /// Whether its owner was told that nothing can serve it.
    pub is_told_infeasible: bool,
    /// Whether no node could serve it when it was last tried.
    pub is_hopeless: bool,
    /// Why it waits, for people.
    pub waits_for: String,
}

impl Claim {
    /// The owner, unless it is for an actor.
    pub fn owner(&self) -> Option<Owner> {
        match &self.purpose {
            Purpose::Tasks { owner, .. } => Some(*owner),
            Purpose::Actor { .. } => None,
        }
    }

    /// Which task or actor it is for, and why it waits, for people.
    pub fn reason(&self) -> String {
        let name = match &self.purpose {
            Purpose::Tasks { request, .. } => request.function_name.clone(),
            Purpose::Actor { start, .. } => start
                .options
                .as_ref()
                .map(|options| format!("actor {}", options.class_name))
                .unwrap_or_default(),
        };
        let why = if self.waits_for.is_empty() {
            format!("needs {}; others came before", self.resources())
        } else {
            self.waits_for.clone()
        };
        format!("{name} {why}").trim_start().to_owned()
    }

    /// Python modules that its process must not have to import itself.
    pub fn shared_modules(&self) -> &[String] {
        match &self.purpose {
            Purpose::Tasks { .. } => &[],
            Purpose::Actor { start, .. } => start
                .options
                .as_ref()
                .map_or(&[], |options| &options.shared_modules),
        }
    }

    /// What it needs.
    pub fn resources(&self) -> &ResourceRequest {
        &self.placement.resources
    }

    /// Whether a node will do, by its id.
    pub fn is_wanted_on(&self, id: NodeId) -> bool {
        match self.placement.strategy {
            Strategy::NodeAffinity {
                node,
                is_soft: false,
            } => node == id,
            _ => true,
        }
    }

    /// Whether the node could serve it if the node were empty.
    pub fn could_run_on(&self, node: &NodeView) -> bool {
        self.is_wanted_on(node.id) && node.resources.could_ever_fit(self.resources())
    }

    /// Whether it asks for the named resource.
    pub fn needs(&self, name: &str) -> bool {
        let resources = self.resources();
        (name == GPU && resources.wants_gpu()) || !resources.resources().get(name).is_zero()
    }
}
