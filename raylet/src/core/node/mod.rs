//! This node as a member of the cluster: what the gcs calls it, what it knows of the others, and what it reports of itself.
//!
//! Owns: the number of this incarnation, the directory of the other nodes, when the next report is due. Does not own: what is
//! free, here and there (the claims, which book what they send elsewhere).
//!
//! - `NODE-3 (healed-is-reconciled)`: after a registration no lease, object or actor is here that whoever is responsible for it has
//!   given up ([`registration`]).
//! - `NODE-4 (others-only)`: the directory lists other nodes, and of those only living ones.

mod check;
mod cluster;
pub mod registration;
mod report;

use std::time::{Duration, Instant};

use aktis_common::ids::{NodeId, WorkerId};
use aktis_common::resources::NodeResources;
use aktis_common::scheduling::NodeView;
use aktis_proto::convert::{fill_resources, node_resources};
use aktis_proto::v1::{ClusterReply, HostedActor, NodeDied, NodeInfo, WorkerDied};
use rustc_hash::FxHashSet;

use self::cluster::ClusterDirectory;
use self::report::ReportSchedule;
use crate::core::effect::{Effect, NodeStoreEffect};
use crate::core::keys::ConnectionId;
use crate::core::out::Out;

/// What this node hears of the cluster.
#[derive(Debug)]
pub enum NodeEvent {
    /// All other nodes, and what is free there.
    Listed(Vec<NodeView>),
    /// What is free on another node.
    Seen {
        /// The node.
        node: NodeId,
        /// What it has.
        resources: Box<NodeResources>,
    },
    /// Another node is gone.
    Lost {
        /// The node.
        node: NodeId,
        /// Why.
        cause: String,
    },
    /// Another node was lost before this one heard of it.
    LostBefore {
        /// What it had.
        view: Box<NodeView>,
        /// How long before.
        ago: Duration,
    },
    /// A process of another node has ended.
    WorkerDied {
        /// The process.
        worker: WorkerId,
        /// What others are told.
        died: WorkerDied,
    },
    /// Processes ended, and the news of it may have been missed.
    OwnersDied(FxHashSet<WorkerId>),
    /// This node was declared dead: to all others its leases were over, and its objects lost.
    GivenUp,
    /// The actors that are to be here; others live elsewhere now, or nowhere.
    Kept(Vec<HostedActor>),
    /// The gcs has said all that this node is to know.
    InStep,
}

/// This node among the others.
#[derive(Debug)]
pub struct Membership {
    here: NodeId,
    /// This node as it describes itself; the figures that change are filled in.
    info: NodeInfo,
    generation: u64,
    others: ClusterDirectory,
    report: ReportSchedule,
}

impl Membership {
    /// A node that nobody knows yet. Between two of its reports passes this time at least.
    pub fn new(here: NodeId, info: NodeInfo, report_gap: Duration) -> Self {
        Self {
            here,
            info,
            generation: 0,
            others: ClusterDirectory::default(),
            report: ReportSchedule::new(report_gap),
        }
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.here
    }

    /// Whether another node is known to live.
    pub fn lists(&self, node: NodeId) -> bool {
        self.others.iter().any(|(id, _)| id == node)
    }

    /// The number of this incarnation; 0 before the first registration.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Something has changed that the gcs is to know.
    pub fn want_report(&mut self) {
        self.report.want();
    }

    /// Whether a report is due now; the caller makes it.
    pub fn take_due_report(&mut self, now: Instant) -> bool {
        self.report.take_due(now)
    }

    /// When the next report is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.report.next_deadline()
    }

    /// This node as of now, with what it has and why requests wait. Figures of the store are filled in by whoever has the
    /// store.
    pub fn info(&self, resources: &NodeResources, waiting: Vec<String>) -> NodeInfo {
        let mut info = NodeInfo {
            waiting,
            generation: self.generation,
            is_alive: true,
            ..self.info.clone()
        };
        fill_resources(&mut info, resources);
        info
    }

    /// Answers a process that asks for the cluster: this node, the others, and what those had that were lost lately.
    pub fn describe<'a>(
        &self,
        (connection, request_id): (ConnectionId, u64),
        this: NodeInfo,
        lost: impl Iterator<Item = &'a NodeView>,
        out: &mut Out,
    ) {
        let nodes = self.others.iter().map(|(_, node)| node.clone());
        let lost = lost.map(|node| {
            let mut info = NodeInfo {
                node_id: node.id.to_wire(),
                ..NodeInfo::default()
            };
            fill_resources(&mut info, &node.resources);
            info
        });
        out.push(Effect::Describe {
            connection,
            request_id,
            this: Box::new(this),
            others: ClusterReply {
                nodes: nodes.collect(),
                lost: lost.collect(),
            },
        });
    }

    /// The gcs published the state of a node: it is listed as long as it lives, unless it is this one (`NODE-4`).
    pub fn on_node(&mut self, node: NodeInfo, out: &mut Out) {
        let Ok(id) = NodeId::from_bytes(&node.node_id) else {
            return;
        };
        if id == self.here {
            return;
        }
        if !node.is_alive {
            return self.forget(id, &node.death_cause, out);
        }
        if self.others.was_given_up(id, node.given_up_generation) {
            self.forget(id, "it was declared dead", out);
        }
        note_address(&node, out);
        out.tell(NodeEvent::Seen {
            node: id,
            resources: Box::new(node_resources(&node)),
        });
        self.others.insert(id, node);
    }

    /// The gcs published the death of a node.
    pub fn on_node_died(&mut self, died: &NodeDied, out: &mut Out) {
        let Ok(id) = NodeId::from_bytes(&died.node_id) else {
            return;
        };
        if id == self.here {
            // Declared dead while alive. The gcs answers the next report with the wish that the node registers, and then says
            // what is still to be here.
            return self.want_report();
        }
        self.forget(id, &died.cause, out);
    }

    /// The gcs published the death of a process.
    pub fn on_worker_died(&self, died: WorkerDied, out: &mut Out) {
        let address = died.worker.clone().unwrap_or_default();
        let (Ok(node), Ok(worker)) = (address.node(), address.worker()) else {
            return;
        };
        if node == self.here {
            // Told when it happened.
            return;
        }
        out.push(Effect::Store(NodeStoreEffect::OwnerGone { owner: worker }));
        out.tell(NodeEvent::WorkerDied { worker, died });
    }

    /// A node is gone: claims, links and the store hear of it, and send nothing there any more (`NODE-5`).
    fn forget(&mut self, node: NodeId, cause: &str, out: &mut Out) {
        self.others.remove(node);
        out.push(Effect::NoteNode {
            node,
            raylet_address: None,
        });
        out.push(Effect::Store(NodeStoreEffect::OwnersOfNodeGone { node }));
        out.tell(NodeEvent::Lost {
            node,
            cause: cause.to_owned(),
        });
    }
}

fn note_address(node: &NodeInfo, out: &mut Out) {
    if let Ok(id) = NodeId::from_bytes(&node.node_id) {
        let raylet_address = Some(node.raylet_address.clone()).filter(|_| node.is_alive);
        out.push(Effect::NoteNode {
            node: id,
            raylet_address,
        });
    }
}
