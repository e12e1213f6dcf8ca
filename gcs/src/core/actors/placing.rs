//! Gives waiting actors their nodes.

use std::time::Duration;

use aktis_common::checks::insist;
use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, NodeId};
use aktis_common::resources::{GPU, ResourceRequest};
use aktis_common::scheduling::{
    Attempt, ClusterView, Placement, PlacementRequest, Standing, solve,
};
use aktis_proto::convert::{ConvertError, placement_request};
use aktis_proto::v1::{Failure, StartActorRequest};

use crate::core::actors::table::{ActorRecord, Phase};
use crate::core::{Effect, GcsCore, Turn};

/// What the actor asks of the scheduler. Near its maker among equals.
pub(in crate::core) fn placement_of(
    record: &ActorRecord,
) -> Result<PlacementRequest, ConvertError> {
    let mut request = placement_request(&record.placing_resources())?;
    let owner = record.spec.owner.as_ref();
    request.local_node = owner.and_then(|owner| owner.node().ok());
    Ok(request)
}

/// What is free while actors are placed.
struct Room {
    all: ClusterView,
    /// The nodes that nobody holds who has waited for long; once somebody asks.
    open: Option<ClusterView>,
    kept: Vec<NodeId>,
}

impl Room {
    fn of(all: ClusterView) -> Self {
        Self {
            all,
            open: None,
            kept: Vec::new(),
        }
    }

    /// One node is kept for the request: others may have all the rest (ADR 132).
    fn keep_for(&mut self, request: &PlacementRequest) {
        if let Some(node) = self.all.closest(request).map(|node| node.id) {
            self.kept.push(node);
            if let Some(open) = &mut self.open {
                open.remove(node);
            }
        }
    }

    fn open(&mut self) -> &ClusterView {
        let (all, kept) = (&self.all, &self.kept);
        self.open.get_or_insert_with(|| {
            let mut open = all.clone();
            for node in kept {
                open.remove(*node);
            }
            open
        })
    }

    fn book(&mut self, node: NodeId, request: &PlacementRequest) {
        for view in [Some(&mut self.all), self.open.as_mut()] {
            if let Some(node) = view.and_then(|view| view.node_mut(node)) {
                node.resources.allocate(&request.resources);
            }
        }
    }
}

impl GcsCore {
    /// Ends a batch of events: tries the actors that wait, if anything happened that may help them.
    pub fn settle(&mut self, turn: &mut Turn) {
        self.release_withheld();
        self.place_waiting(turn);
        self.place_behind_tasks(turn);
        if self.lookout.is_due(turn.now) {
            insist(self.check());
        }
    }

    fn place_waiting(&mut self, turn: &mut Turn) {
        if !std::mem::take(&mut self.is_placing_due) || self.waiting.is_empty() {
            return;
        }
        self.hope_ends = None;
        let mut room = Room::of(self.nodes.view());
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.serve(turn.now, needs, |actor, request, standing| {
            request.seed = self.placements;
            self.try_to_place(*actor, request, standing, &mut room, turn)
        });
        self.waiting = waiting;
    }

    /// All nodes of the last head were heard: actors that none of them has wait for a place now (`GCS-5`).
    fn release_withheld(&mut self) {
        if self.withheld.is_empty() || self.nodes.has_unheard() {
            return;
        }
        for actor in std::mem::take(&mut self.withheld) {
            let record = self.actors.get(actor);
            let queued = record.filter(|record| record.phase == Phase::Queued);
            if let Some(Ok(placement)) = queued.map(placement_of) {
                // Lost twice meanwhile, it waits once.
                self.waiting.remove(&actor);
                self.waiting.push(actor, placement);
                self.is_placing_due = true;
            }
        }
    }

    fn try_to_place(
        &mut self,
        actor: ActorId,
        request: &PlacementRequest,
        standing: Standing,
        room: &mut Room,
        turn: &mut Turn,
    ) -> Attempt {
        let placement = match standing {
            Standing::Held => solve(room.open(), request),
            _ => solve(&room.all, request),
        };
        match placement {
            Placement::Node(node) => {
                room.book(node, request);
                self.placements += 1;
                self.start(actor, node, &request.resources, turn);
                Attempt::Granted
            }
            // Some node that it may not have now could serve it.
            _ if standing == Standing::Held => Attempt::Waits {
                short_of: Vec::new(),
            },
            Placement::Wait { reason } => {
                self.reasons.insert(actor, reason);
                self.set_infeasible(actor, None, turn);
                if standing == Standing::Holds {
                    room.keep_for(request);
                }
                Attempt::Waits {
                    short_of: room.all.short_of(request),
                }
            }
            // The first node is about to register: too early to call anything infeasible.
            Placement::Infeasible { missing } if room.all.nodes().is_empty() => {
                self.reasons.insert(actor, missing);
                Attempt::Hopeless
            }
            Placement::Infeasible { missing } if self.may_wait(actor, request, turn.now) => {
                self.reasons.insert(actor, missing);
                self.set_infeasible(actor, None, turn);
                Attempt::Hopeless
            }
            Placement::Infeasible { missing } => {
                self.reasons.insert(actor, format!("infeasible: {missing}"));
                self.set_infeasible(actor, Some(format!("infeasible: {missing}")), turn);
                Attempt::Hopeless
            }
        }
    }

    /// Whether an actor that no node can take is to wait: because it was made so, or because a node that was there lately could
    /// have taken it, and may come back or be replaced.
    fn may_wait(&mut self, actor: ActorId, request: &PlacementRequest, now: Duration) -> bool {
        let record = self.actors.get(actor);
        if record.is_some_and(|record| record.options.waits_when_infeasible) {
            return true;
        }
        let Some(until) = self.nodes.hope(request, now) else {
            return false;
        };
        self.hope_ends = Some(self.hope_ends.map_or(until, |at| at.min(until)));
        true
    }

    /// Asks the node's raylet to start the actor.
    pub(super) fn start(
        &mut self,
        actor: ActorId,
        node: NodeId,
        resources: &ResourceRequest,
        turn: &mut Turn,
    ) {
        self.reasons.remove(&actor);
        self.nodes.book(node, actor, resources);
        self.displacing.is_sent(actor, turn.now);
        let attempt = self.actors.next_attempt();
        if let Some(record) = self.actors.get_mut(actor) {
            record.phase = Phase::Starting {
                node,
                worker: None,
                attempt,
            };
            record.failure = None;
        }
        self.keep_actor(actor, turn);
        self.ask_to_start(actor, turn);
    }

    /// Sends the request for an actor that is [`Phase::Starting`].
    pub(in crate::core) fn ask_to_start(&self, actor: ActorId, turn: &mut Turn) {
        let Some(record) = self.actors.get(actor) else {
            return;
        };
        let Phase::Starting { node, attempt, .. } = record.phase else {
            return;
        };
        if let Some(info) = self.nodes.living(node) {
            turn.push(Effect::StartActor {
                actor,
                attempt,
                node,
                raylet_address: info.raylet_address.clone(),
                request: Box::new(StartActorRequest {
                    patience_ms: self.displacing.patience_ms(actor),
                    ..record.start_request(info.generation)
                }),
            });
        }
    }

    /// Tells everybody when an actor begins or ceases to be infeasible.
    fn set_infeasible(&mut self, actor: ActorId, message: Option<String>, turn: &mut Turn) {
        let Some(record) = self.actors.get_mut(actor) else {
            return;
        };
        let failure = message.map(|message| Failure::of(ErrorCode::Unschedulable, message));
        if record.failure != failure {
            record.failure = failure;
            self.actor_changed(actor, turn);
        }
    }
}

/// Whether a request asks for the named resource.
pub(super) fn needs(request: &PlacementRequest, name: &str) -> bool {
    match name {
        GPU => request.resources.wants_gpu(),
        _ => !request.resources.resources().get(name).is_zero(),
    }
}
