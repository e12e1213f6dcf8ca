//! Actors that wait behind tasks.
//!
//! A raylet serves its own queue before it reports what is free. As long as tasks wait there, nothing ever is, and an actor that
//! waits for a report waits as long as somebody has tasks. So it is sent to a node where, but for tasks, there is room: there it
//! comes before them, and their leases are asked back. If it finds no room for a while all the same, the raylet says so, and
//! it waits here again (ADR 093).

use std::time::Duration;

use aktis_common::ids::ActorId;
use aktis_common::resources::ResourceRequest;
use aktis_common::scheduling::{Attempt, ClusterView, Placement, PlacementRequest, solve};

use crate::core::actors::placing::needs;
use crate::core::{GcsCore, Turn};

/// So long actors wait for a node that has room before tasks have to make some, and so long until the next of them is tried.
const PATIENCE: Duration = Duration::from_secs(1);

impl GcsCore {
    /// Sends actors that have waited for a while to nodes whose tasks have what they need.
    pub(super) fn place_behind_tasks(&mut self, turn: &mut Turn) {
        if self.waiting.is_empty() {
            self.displaces_at = None;
            return;
        }
        if turn.now < *self.displaces_at.get_or_insert(turn.now + PATIENCE) {
            return;
        }
        self.displaces_at = Some(turn.now + PATIENCE);
        let mut view = self.without_tasks();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.serve(turn.now, needs, |actor, request| {
            self.try_behind_tasks(*actor, request, &mut view, turn)
        });
        self.waiting = waiting;
    }

    fn try_behind_tasks(
        &mut self,
        actor: ActorId,
        request: &PlacementRequest,
        view: &mut ClusterView,
        turn: &mut Turn,
    ) -> Attempt {
        let Placement::Node(node) = solve(view, request) else {
            return Attempt::Hopeless;
        };
        if let Some(chosen) = view.node_mut(node) {
            chosen.resources.allocate(&request.resources);
        }
        self.placements += 1;
        self.start(actor, node, &request.resources, turn);
        Attempt::Granted
    }

    /// The nodes as they would be if only actors were there.
    fn without_tasks(&self) -> ClusterView {
        let mut view = self.nodes.emptied();
        for record in self.actors.iter() {
            let node = record.phase.node().and_then(|node| view.node_mut(node));
            // A request that cannot be read was never placed.
            if let (Some(node), Ok(held)) =
                (node, ResourceRequest::try_from(&record.held_resources()))
            {
                node.resources.allocate(&held);
            }
        }
        view
    }
}
