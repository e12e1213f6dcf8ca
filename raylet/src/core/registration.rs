//! The gcs has taken the node in, for the first time or again: what is here is brought in line with what the gcs holds true.
//!
//! A node that was cut off goes on working, while the gcs may declare it dead. Then the owners on other nodes have given up what
//! they had here, and the gcs has placed the actors anew. `NODE-3 (healed-is-reconciled)`: after a registration no lease, object
//! or actor is here that whoever is responsible for it has given up.

use std::time::{Duration, Instant};

use aktis_common::ids::{ActorId, NodeId, WorkerId};
use aktis_proto::convert::node_view;
use aktis_proto::v1::{HostedActor, NodeInfo};
use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use super::effect::{Effect, StoreEffect};
use super::event::Registration;
use super::pool::WorkerState;
use super::publications::note_address;
use super::{Effects, RayletCore};

impl RayletCore {
    /// The node is (again) known to the gcs. Everything that may have been missed is asked for.
    pub(super) fn on_registered(
        &mut self,
        registration: Registration,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Registration {
            reply,
            nodes,
            now_unix_millis,
        } = registration;
        let was_given_up = self.generation != 0 && reply.given_up_generation >= self.generation;
        self.generation = reply.generation;
        self.take_snapshot(nodes, now_unix_millis, now, effects);
        if was_given_up {
            self.free_what_others_gave_up(effects);
        }
        self.forget_owners(&reply.dead_workers, effects);
        self.end_actors_but(&reply.actors, was_given_up, effects);
        for actor in self.board.refetch() {
            effects.push(Effect::FetchActor {
                actor_id: actor.to_wire(),
            });
        }
        for (call, request) in self.actors.take_held_starts() {
            self.on_start_actor(call, request, now, effects);
        }
        self.report.want();
    }

    fn take_snapshot(
        &mut self,
        nodes: Vec<NodeInfo>,
        now_unix_millis: u64,
        now: Instant,
        effects: &mut Effects,
    ) {
        for node in &nodes {
            note_address(node, effects);
        }
        let (dead, alive): (Vec<NodeInfo>, Vec<NodeInfo>) =
            nodes.into_iter().partition(|node| !node.is_alive);
        let gone = self.cluster.replace(alive, self.settings.node_id);
        self.leases.set_other_nodes(self.cluster.views(), now);
        for node in gone {
            self.forget_node(node, "the head no longer lists it", now, effects);
        }
        for node in dead {
            let ago = now_unix_millis.saturating_sub(node.died_unix_millis);
            if let Ok(view) = node_view(&node) {
                self.leases
                    .note_lost_node(view, Duration::from_millis(ago), now);
            }
        }
    }

    /// This node was declared dead: to all others its leases were over, and its objects lost.
    fn free_what_others_gave_up(&mut self, effects: &mut Effects) {
        let here = self.settings.node_id;
        effects.push(Effect::Store(StoreEffect::ForeignOwnersGone));
        let cause = "the head declared this node dead, and its owner gave it up";
        self.end_claims_and_leases_of(|owner| owner.node != here, cause, effects);
    }

    /// Processes ended, and the news of it may have been missed.
    fn forget_owners(&mut self, dead: &[Bytes], effects: &mut Effects) {
        let dead = dead.iter().filter_map(|id| WorkerId::from_bytes(id).ok());
        let dead: FxHashSet<WorkerId> = dead.collect();
        for owner in &dead {
            effects.push(Effect::Store(StoreEffect::OwnerGone { owner: *owner }));
        }
        self.end_claims_and_leases_of(
            |owner| dead.contains(&owner.worker),
            "its owner died",
            effects,
        );
    }

    /// Ends the actors that live elsewhere now, or nowhere, and what was to become one.
    fn end_actors_but(&mut self, kept: &[HostedActor], is_given_up: bool, effects: &mut Effects) {
        let kept: FxHashMap<ActorId, Option<WorkerId>> = kept
            .iter()
            .filter_map(|hosted| {
                let actor = ActorId::from_bytes(&hosted.actor_id).ok()?;
                Some((actor, WorkerId::from_bytes(&hosted.worker_id).ok()))
            })
            .collect();
        for call in self
            .actors
            .waiting_starts(|actor| is_given_up || !kept.contains_key(&actor))
        {
            self.give_up_start(call, effects);
        }
        for (actor, worker) in self.actors.all() {
            let is_kept = kept
                .get(&actor)
                .is_some_and(|named| named.is_none_or(|named| named == worker));
            // One that was asked to end does so in good order.
            let is_ending = self
                .pool
                .get(worker)
                .is_some_and(|worker| matches!(worker.state, WorkerState::Retiring { .. }));
            if !is_kept && !is_ending {
                self.kill(worker, "the head has given this actor up here", effects);
            }
        }
    }
}

impl super::node::cluster::ClusterDirectory {
    /// Whether the node that is known was declared dead since, and came back before this node heard of it.
    pub(super) fn was_given_up(&self, id: NodeId, given_up_generation: u64) -> bool {
        given_up_generation != 0
            && self
                .get(id)
                .is_some_and(|known| known.generation <= given_up_generation)
    }
}
