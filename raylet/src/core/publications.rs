//! News from the gcs: nodes, deaths, actors, jobs.

use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, NodeId, WorkerId};
use aktis_proto::convert::node_resources;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    ActorState, ActorUpdate, Failure, NodeDied, NodeInfo, Publication, WorkerDied, publication,
};
use bytes::Bytes;

use super::claims::Holder;
use super::effect::{Effect, StoreEffect};
use super::keys::{ConnectionId, ReplyTo};
use super::pool::{Duty, WorkerState};
use super::{Effects, RayletCore, notify};

impl RayletCore {
    pub(super) fn on_publication(
        &mut self,
        publication: Publication,
        now: Instant,
        effects: &mut Effects,
    ) {
        match publication.kind {
            Some(publication::Kind::Node(node)) => self.on_node(node, now, effects),
            Some(publication::Kind::NodeDied(died)) => self.on_node_died(died, now, effects),
            Some(publication::Kind::WorkerDied(died)) => self.on_remote_death(died, effects),
            Some(publication::Kind::Actor(update)) => self.on_actor_update(&update, effects),
            Some(publication::Kind::JobFinished(finished)) => {
                if let Ok(job) = JobId::from_bytes(&finished.job_id) {
                    self.on_job_finished(job, now, effects);
                }
            }
            // A lost publication ends the subscription: the link registers and subscribes anew.
            Some(publication::Kind::Lagged(_)) | None => {}
        }
    }

    fn on_node(&mut self, node: NodeInfo, now: Instant, effects: &mut Effects) {
        let Ok(id) = NodeId::from_bytes(&node.node_id) else {
            return;
        };
        if id == self.settings.node_id {
            return;
        }
        if !node.is_alive {
            return self.forget_node(id, &node.death_cause, now, effects);
        }
        if self.cluster.was_given_up(id, node.given_up_generation) {
            self.forget_node(id, "it was declared dead", now, effects);
        }
        note_address(&node, effects);
        self.leases
            .set_other_node(id, Some(node_resources(&node)), now);
        self.cluster.insert(id, node);
    }

    fn on_node_died(&mut self, died: NodeDied, now: Instant, effects: &mut Effects) {
        let Ok(id) = NodeId::from_bytes(&died.node_id) else {
            return;
        };
        if id == self.settings.node_id {
            // Declared dead while alive. The gcs answers the next report with the wish that the node registers, and then says
            // what is still to be here.
            return self.report.want();
        }
        self.forget_node(id, &died.cause, now, effects);
    }

    pub(super) fn forget_node(
        &mut self,
        node: NodeId,
        cause: &str,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.cluster.remove(node);
        self.leases.set_other_node(node, None, now);
        effects.push(Effect::NoteNode {
            node,
            raylet_address: None,
        });
        effects.push(Effect::Store(StoreEffect::OwnersOfNodeGone { node }));
        self.end_claims_and_leases_of(|owner| owner.node == node, "its owner's node died", effects);
        let died = NodeDied {
            node_id: node.to_wire(),
            cause: cause.to_owned(),
        };
        for process in self.processes.iter() {
            notify(process.connection, Kind::NodeDied(died.clone()), effects);
        }
    }

    fn on_remote_death(&mut self, died: WorkerDied, effects: &mut Effects) {
        let address = died.worker.clone().unwrap_or_default();
        let (Ok(node), Ok(worker)) = (address.node(), address.worker()) else {
            return;
        };
        if node == self.settings.node_id {
            // Told when it happened.
            return;
        }
        self.forget_owner(worker, "its owner died", effects);
        for process in self.processes.iter() {
            notify(process.connection, Kind::WorkerDied(died.clone()), effects);
        }
    }

    /// An owner is gone: what it asked for, leased and owned goes with it.
    pub(super) fn forget_owner(&mut self, owner: WorkerId, cause: &str, effects: &mut Effects) {
        effects.push(Effect::Store(StoreEffect::OwnerGone { owner }));
        self.end_claims_and_leases_of(|candidate| candidate.worker == owner, cause, effects);
    }

    /// Whether a worker has ended its work, and stays for what it owns (LEND-1).
    pub(super) fn is_lingering(&self, worker: WorkerId) -> bool {
        self.pool
            .get(worker)
            .is_some_and(|worker| worker.state == WorkerState::Lingering)
    }

    pub(super) fn end_claims_and_leases_of(
        &mut self,
        is_meant: impl Fn(super::claims::Owner) -> bool,
        cause: &str,
        effects: &mut Effects,
    ) {
        for reply_to in self
            .leases
            .claims_where(|_, claim| claim.owner().is_some_and(&is_meant))
        {
            self.withdraw_claim(reply_to, effects);
            // The raylet that forwarded it may live, and decides anew.
            if let ReplyTo::Call(_) = reply_to {
                Self::fail_claim(reply_to, ErrorCode::Cancelled, cause, effects);
            }
        }
        let leases = self
            .leases
            .leases_where(|grant| matches!(grant.holder, Holder::Owner(owner) if is_meant(owner)));
        for lease in leases {
            // The worker may be running the owner's tasks: it ends, and its lease with it.
            match self.leases.get(lease).and_then(|grant| grant.worker) {
                // It runs nothing any more; what it holds is free when it has ended.
                Some(worker) if self.is_lingering(worker) => {}
                Some(worker) => self.kill(worker, cause, effects),
                None => {
                    self.leases.end(lease);
                }
            }
        }
    }

    fn on_job_finished(&mut self, job: JobId, now: Instant, effects: &mut Effects) {
        for reply_to in self
            .leases
            .claims_where(|_, claim| claim.job == job && claim.owner().is_some())
        {
            self.withdraw_claim(reply_to, effects);
        }
        // Actors of the job are ended by the gcs, which knows the detached ones.
        let workers: Vec<(WorkerId, WorkerState)> = self
            .pool
            .iter()
            .filter(|worker| worker.job == Some(job))
            .map(|worker| (worker.id, worker.state))
            .collect();
        for (worker, state) in workers {
            match state {
                WorkerState::Busy(Duty::Lease(_)) => self.kill(worker, "its job is over", effects),
                WorkerState::Idle { .. } | WorkerState::Lingering => {
                    self.dismiss(worker, "its job is over", now, effects);
                }
                _ => {}
            }
        }
    }

    fn on_actor_update(&mut self, update: &ActorUpdate, effects: &mut Effects) {
        let Ok(actor) = ActorId::from_bytes(&update.actor_id) else {
            return;
        };
        let watchers = self.board.published(actor, update);
        tell_watchers(watchers, update, effects);
    }

    pub(super) fn on_actor_fetched(
        &mut self,
        actor_id: &Bytes,
        outcome: Result<ActorUpdate, Failure>,
        effects: &mut Effects,
    ) {
        let Ok(actor) = ActorId::from_bytes(actor_id) else {
            return;
        };
        match outcome {
            Ok(update) => {
                let watchers = self.board.fetched(actor, &update);
                tell_watchers(watchers, &update, effects);
            }
            Err(failure) => {
                let mut update = ActorUpdate {
                    actor_id: actor_id.clone(),
                    failure: Some(failure),
                    ..ActorUpdate::default()
                };
                update.set_state(ActorState::Dead);
                let watchers = self.board.fetch_failed(actor);
                tell_watchers(&watchers, &update, effects);
            }
        }
    }
}

fn tell_watchers(watchers: &[ConnectionId], update: &ActorUpdate, effects: &mut Effects) {
    for watcher in watchers {
        notify(*watcher, Kind::ActorUpdate(update.clone()), effects);
    }
}

pub(super) fn note_address(node: &NodeInfo, effects: &mut Effects) {
    if let Ok(id) = NodeId::from_bytes(&node.node_id) {
        let raylet_address = Some(node.raylet_address.clone()).filter(|_| node.is_alive);
        effects.push(Effect::NoteNode {
            node: id,
            raylet_address,
        });
    }
}
