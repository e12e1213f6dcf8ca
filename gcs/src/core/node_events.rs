//! Events of nodes.

use std::time::Duration;

use aktis_common::ids::{NodeId, WorkerId};
use aktis_proto::v1::{
    KillWorkerRequest, NodeDied, NodeInfo, RegisterNodeReply, publication::Kind,
};

use super::actor_table::ActorRecord;
use super::{Effect, GcsCore, GcsError, Table, Turn, read_id};

impl GcsCore {
    /// A raylet has started, or finds that it is not known any more.
    ///
    /// # Errors
    /// When the node has no valid id.
    pub fn register_node(
        &mut self,
        info: NodeInfo,
        turn: &mut Turn,
    ) -> Result<RegisterNodeReply, GcsError> {
        let id = read_id("node.node_id", NodeId::from_bytes(&info.node_id))?;
        let generation = self.nodes.register(id, info, turn.now);
        if let Some(info) = self.nodes.living(id).cloned() {
            turn.keep(Table::Nodes, id.to_wire(), &info);
            for (actor, worker) in self.orphans.remove(&id).unwrap_or_default() {
                let request = kill_request(worker, actor.to_wire(), "its node was declared dead");
                let raylet_address = info.raylet_address.clone();
                turn.push(Effect::KillWorker {
                    raylet_address,
                    request,
                });
            }
            turn.publish(Kind::Node(info));
        }
        self.is_placing_due = true;
        Ok(RegisterNodeReply {
            generation,
            session_id: self.session_id.clone(),
        })
    }

    /// A raylet says what is free; gives whether it must register first.
    ///
    /// # Errors
    /// When the node has no valid id.
    pub fn report_node(&mut self, report: &NodeInfo, turn: &mut Turn) -> Result<bool, GcsError> {
        let id = read_id("node.node_id", NodeId::from_bytes(&report.node_id))?;
        let Some(has_changed) = self.nodes.report(id, report, turn.now) else {
            return Ok(true);
        };
        if has_changed {
            self.is_placing_due = true;
            if let Some(info) = self.nodes.living(id).cloned() {
                turn.publish(Kind::Node(info));
            }
        }
        Ok(false)
    }

    /// A raylet goes down in good order.
    ///
    /// # Errors
    /// When the request has no valid node id.
    pub fn unregister_node(
        &mut self,
        node_id: &[u8],
        cause: &str,
        turn: &mut Turn,
    ) -> Result<(), GcsError> {
        let id = read_id("node_id", NodeId::from_bytes(node_id))?;
        self.node_died(
            id,
            if cause.is_empty() {
                "it left the cluster"
            } else {
                cause
            },
            turn,
        );
        Ok(())
    }

    /// A node subscribes.
    pub fn subscription_opened(&mut self, node: NodeId, number: u64) {
        self.nodes.subscribed(node, number);
    }

    /// A subscription of a node is closed: if the node does not come back soon it is dead.
    pub fn subscription_closed(&mut self, node: NodeId, number: u64, turn: &mut Turn) {
        self.nodes.unsubscribed(node, number, turn.now);
    }

    /// The gcs itself stood still for so long, and could not hear its nodes.
    pub fn stalled(&mut self, stall: Duration) {
        self.nodes.forgive(stall);
    }

    /// All nodes.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.nodes.list()
    }

    pub(super) fn node_died(&mut self, id: NodeId, cause: &str, turn: &mut Turn) {
        let Some(info) = self.nodes.die(id, cause) else {
            return;
        };
        tracing::info!(node = %id, cause, "node died");
        turn.keep(Table::Nodes, id.to_wire(), &info);
        for forgotten in self.nodes.prune() {
            turn.forget(Table::Nodes, forgotten.to_wire());
            self.orphans.remove(&forgotten);
        }
        turn.publish(Kind::NodeDied(NodeDied {
            node_id: id.to_wire(),
            cause: cause.to_owned(),
        }));
        for job in self.jobs.on_node(id) {
            self.end_job(job, &format!("the node of its driver died: {cause}"), turn);
        }
        for (actor, worker) in self.actors.on_node(id) {
            if let Some(worker) = worker {
                self.orphans.entry(id).or_default().push((actor, worker));
            }
            self.incarnation_lost(actor, &format!("its node died: {cause}"), turn);
        }
        self.is_placing_due = true;
    }

    /// Asks the actor's raylet to end its worker, if it has one.
    pub(super) fn kill_worker_of(&self, record: &ActorRecord, cause: &str, turn: &mut Turn) {
        let (Some(node), Some(worker)) = (record.phase.node(), record.phase.worker()) else {
            return;
        };
        self.kill_worker(node, worker, record.id.to_wire(), cause, turn);
    }

    pub(super) fn kill_worker(
        &self,
        node: NodeId,
        worker: WorkerId,
        actor: bytes::Bytes,
        cause: &str,
        turn: &mut Turn,
    ) {
        if let Some(info) = self.nodes.living(node) {
            let request = kill_request(worker, actor, cause);
            let raylet_address = info.raylet_address.clone();
            turn.push(Effect::KillWorker {
                raylet_address,
                request,
            });
        }
    }
}

fn kill_request(worker: WorkerId, actor_id: bytes::Bytes, cause: &str) -> KillWorkerRequest {
    KillWorkerRequest {
        worker_id: worker.to_wire(),
        actor_id,
        cause: cause.to_owned(),
        is_graceful: false,
    }
}
