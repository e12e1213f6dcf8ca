//! Events of nodes.

use std::time::Duration;

use aktis_common::ids::{ActorId, NodeId, WorkerId};
use aktis_proto::v1::{
    HostedActor, KillWorkerRequest, NodeDied, NodeInfo, RegisterNodeReply, publication::Kind,
};

use crate::core::actors::table::{ActorRecord, Phase};
use crate::core::jobs::table::Away;
use crate::core::{Effect, GcsCore, GcsError, Table, Turn, read_id};

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
        let is_new = !self.nodes.is_known(id);
        let generation = self.nodes.register(id, info, turn.now);
        let mut given_up_generation = 0;
        if let Some(info) = self.nodes.living(id).cloned() {
            given_up_generation = info.given_up_generation;
            turn.keep(Table::Nodes, id.to_wire(), &info);
            turn.publish(Kind::Node(info));
        }
        self.jobs.came_back(id);
        self.is_placing_due = true;
        self.withdraw_unanswered(id, turn);
        let departed = self.departed.workers();
        let dead_workers = departed.map(WorkerId::to_wire).filter(|_| !is_new);
        let reply = RegisterNodeReply {
            generation,
            session_id: self.session_id.clone(),
            actors: self.hosted_on(id),
            given_up_generation,
            dead_workers: dead_workers.collect(),
        };
        self.start_held(id, turn);
        Ok(reply)
    }

    /// The actors that are on the node, as far as the gcs knows.
    fn hosted_on(&self, node: NodeId) -> Vec<HostedActor> {
        let there = self.actors.on_node(node).into_iter();
        there
            .map(|(actor, worker)| HostedActor {
                actor_id: actor.to_wire(),
                worker_id: worker.map(WorkerId::to_wire).unwrap_or_default(),
            })
            .collect()
    }

    /// Actors that were being started on a node that is back: the request may have been lost.
    fn start_held(&mut self, id: NodeId, turn: &mut Turn) {
        for (actor, _) in self.actors.on_node(id) {
            self.ask_again_to_start(actor, turn);
        }
    }

    /// Sends the request for an actor that is [`Phase::Starting`] again; a raylet that has the actor already says so.
    pub(in crate::core) fn ask_again_to_start(&mut self, actor: ActorId, turn: &mut Turn) {
        let next = self.actors.next_attempt();
        if let Some(record) = self.actors.get_mut(actor)
            && let Phase::Starting { attempt, .. } = &mut record.phase
        {
            *attempt = next;
            self.unanswered.entry(actor).or_insert(turn.now);
            self.ask_to_start(actor, turn);
        }
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
            if let Some(info) = self.nodes.tell(id, turn.now) {
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
        let cause = if cause.is_empty() {
            "it left the cluster"
        } else {
            cause
        };
        // It does not come back, and its drivers neither.
        self.node_died(id, cause, Duration::ZERO, turn);
        self.end_away_jobs(|away| away.node == id, turn);
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

    /// Declares a node dead. Its drivers may come back with it within `grace`: so long their jobs go on, with the actors they made
    /// there. All others lose their place with it (`GCS-6`).
    pub(in crate::core) fn node_died(
        &mut self,
        id: NodeId,
        cause: &str,
        grace: Duration,
        turn: &mut Turn,
    ) {
        let died = self.nodes.die(id, cause, turn.now, turn.unix_millis);
        let Some(info) = died else {
            return;
        };
        tracing::info!(node = %id, cause, "node died");
        turn.keep(Table::Nodes, id.to_wire(), &info);
        for forgotten in self.nodes.prune() {
            turn.forget(Table::Nodes, forgotten.to_wire());
        }
        turn.publish(Kind::NodeDied(NodeDied {
            node_id: id.to_wire(),
            cause: cause.to_owned(),
        }));
        for job in self.jobs.on_node(id) {
            let away = Away {
                node: id,
                cause: cause.to_owned(),
                until: turn.now + grace,
            };
            if grace.is_zero() {
                self.end_away_job(job, &away, turn);
            } else {
                self.jobs.set_away(job, away);
            }
        }
        for actor in self.actors.made_by(|node, _| node == id) {
            let job = self.actors.get(actor).map(|record| record.job);
            if !job.is_some_and(|job| self.jobs.is_away(job, id)) {
                let cause = format!("the node of the process that made it died: {cause}");
                self.end_with_maker(actor, &cause, turn);
            }
        }
        for (actor, _) in self.actors.on_node(id) {
            if !self.is_held(actor) {
                self.incarnation_lost(actor, &format!("its node died: {cause}"), turn);
            }
        }
        self.is_placing_due = true;
    }

    /// Whether the actor is on a dead node together with the driver of its job: cut off, the two may go on.
    pub(in crate::core) fn is_held(&self, actor: ActorId) -> bool {
        let place = self
            .actors
            .get(actor)
            .and_then(|record| Some((record.job, record.phase.node()?)));
        place.is_some_and(|(job, node)| self.jobs.is_away(job, node))
    }

    /// Asks the actor's raylet to end its worker, if it has one.
    pub(in crate::core) fn kill_worker_of(
        &self,
        record: &ActorRecord,
        cause: &str,
        turn: &mut Turn,
    ) {
        self.end_worker_of(record, cause, turn, |request| request);
    }

    /// The same for an actor that does not begin anew.
    pub(in crate::core) fn kill_for_good(
        &self,
        record: &ActorRecord,
        cause: &str,
        turn: &mut Turn,
    ) {
        self.end_worker_of(record, cause, turn, |request| KillWorkerRequest {
            is_final: true,
            ..request
        });
    }

    /// Asks the actor's worker, if it has one, to end in good order.
    pub(in crate::core) fn retire_worker_of(
        &self,
        record: &ActorRecord,
        cause: &str,
        turn: &mut Turn,
    ) {
        self.end_worker_of(record, cause, turn, |request| KillWorkerRequest {
            is_graceful: true,
            is_final: true,
            ..request
        });
    }

    fn end_worker_of(
        &self,
        record: &ActorRecord,
        cause: &str,
        turn: &mut Turn,
        how: impl FnOnce(KillWorkerRequest) -> KillWorkerRequest,
    ) {
        if let (Some(node), Some(worker)) = (record.phase.node(), record.phase.worker()) {
            let request = kill_request(worker, record.id.to_wire(), cause);
            self.push_kill(node, how(request), turn);
        }
    }

    pub(in crate::core) fn kill_worker(
        &self,
        node: NodeId,
        worker: WorkerId,
        actor: bytes::Bytes,
        cause: &str,
        turn: &mut Turn,
    ) {
        self.push_kill(node, kill_request(worker, actor, cause), turn);
    }

    /// The actor is not to be: no room is to be kept for it there.
    pub(in crate::core) fn withdraw_start(
        &self,
        node: NodeId,
        record: &ActorRecord,
        turn: &mut Turn,
    ) {
        let request = KillWorkerRequest {
            actor_id: record.id.to_wire(),
            ..KillWorkerRequest::default()
        };
        self.push_kill(node, request, turn);
    }

    fn push_kill(&self, node: NodeId, request: KillWorkerRequest, turn: &mut Turn) {
        if let Some(info) = self.nodes.living(node) {
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
        is_final: false,
    }
}
