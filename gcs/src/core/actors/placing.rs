//! Gives waiting actors their nodes.

use std::time::Duration;

use aktis_common::checks::insist;
use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, NodeId};
use aktis_common::resources::{GPU, ResourceRequest};
use aktis_common::scheduling::{Attempt, ClusterView, Placement, PlacementRequest, solve};
use aktis_proto::convert::{ConvertError, placement_request};
use aktis_proto::v1::Failure;

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
        let mut view = self.nodes.view();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.serve(turn.now, needs, |actor, request| {
            request.seed = self.placements;
            self.try_to_place(*actor, request, &mut view, turn)
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
        view: &mut ClusterView,
        turn: &mut Turn,
    ) -> Attempt {
        match solve(view, request) {
            Placement::Node(node) => {
                if let Some(chosen) = view.node_mut(node) {
                    chosen.resources.allocate(&request.resources);
                }
                self.placements += 1;
                self.start(actor, node, &request.resources, turn);
                Attempt::Granted
            }
            Placement::Wait { reason } => {
                self.reasons.insert(actor, reason);
                self.set_infeasible(actor, None, turn);
                Attempt::Waits {
                    short_of: view.short_of(request),
                }
            }
            // The first node is about to register: too early to call anything infeasible.
            Placement::Infeasible { missing } if view.nodes().is_empty() => {
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
                request: Box::new(record.start_request(info.generation)),
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
