//! Actors that wait behind tasks.
//!
//! A raylet serves its own queue before it reports what is free. As long as tasks wait there, nothing ever is, and an actor that
//! waits for a report waits as long as somebody has tasks. So it is sent to a node where, but for tasks, there is room: there it
//! comes before them, and their leases are asked back. If it finds no room for a while all the same, the raylet says so, and
//! it waits here again (ADR 093).
//!
//! There, what tasks give back is kept for it until it is enough (ADR 132). If they give it back too late, it has been kept for
//! nothing: others have the node for as long again, and then it is kept for twice as long.

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_common::ids::ActorId;
use aktis_common::resources::ResourceRequest;
use aktis_common::scheduling::{Attempt, ClusterView, Placement, PlacementRequest, solve};

use crate::core::actors::placing::needs;
use crate::core::{GcsCore, Turn};

/// So long actors wait for a node that has room before tasks have to make some, and so long until the next of them is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long room is kept first.
const FIRST_HOLD: Duration = Duration::from_secs(2);
/// For how long at most.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// Actors that were sent to where tasks are.
#[derive(Debug, Default)]
pub(in crate::core) struct Displacing {
    /// When waiting actors are to be sent next, while any wait.
    next: Option<Duration>,
    holds: BTreeMap<ActorId, Hold>,
}

/// How room is kept for one actor.
#[derive(Debug)]
struct Hold {
    /// For how long.
    patience: Duration,
    since: Duration,
    /// When it may be kept again.
    again_at: Duration,
}

impl Displacing {
    /// When actors are to be sent, if nothing else happens.
    pub(in crate::core) fn next_wake(&self) -> Option<Duration> {
        self.next
    }

    /// For how long a raylet may keep room for the actor, in milliseconds.
    pub(in crate::core) fn patience_ms(&self, actor: ActorId) -> u64 {
        let patience = self.holds.get(&actor).map(|hold| hold.patience);
        patience.map_or(0, |patience| {
            u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// The actor has its place, or needs none any more.
    pub(in crate::core) fn forget(&mut self, actor: ActorId) {
        self.holds.remove(&actor);
    }

    /// The actor found no room where it was sent.
    pub(in crate::core) fn came_back(&mut self, actor: ActorId, now: Duration) {
        if let Some(hold) = self.holds.get_mut(&actor) {
            let kept_for = now.saturating_sub(hold.since);
            hold.again_at = now + kept_for;
            if kept_for >= hold.patience {
                hold.patience = (hold.patience * 2).min(LONGEST_HOLD);
            }
        }
    }

    fn may_be_sent(&self, actor: ActorId, now: Duration) -> bool {
        self.holds
            .get(&actor)
            .is_none_or(|hold| hold.again_at <= now)
    }

    /// The actor is sent to a node. If it was displacing tasks before, it may do so there.
    pub(in crate::core) fn is_sent(&mut self, actor: ActorId, now: Duration) {
        if let Some(hold) = self.holds.get_mut(&actor) {
            hold.since = now;
        }
    }

    fn may_displace(&mut self, actor: ActorId, now: Duration) {
        self.holds.entry(actor).or_insert(Hold {
            patience: FIRST_HOLD,
            since: now,
            again_at: now,
        });
    }
}

impl GcsCore {
    /// Sends actors that have waited for a while to nodes whose tasks have what they need.
    pub(super) fn place_behind_tasks(&mut self, turn: &mut Turn) {
        if self.waiting.is_empty() {
            self.displacing.next = None;
            return;
        }
        let next = &mut self.displacing.next;
        if turn.now < *next.get_or_insert(turn.now + PATIENCE) {
            return;
        }
        *next = Some(turn.now + PATIENCE);
        let mut view = self.without_tasks();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.serve(turn.now, needs, |actor, request, _| {
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
        if !self.displacing.may_be_sent(actor, turn.now) {
            return Attempt::Hopeless;
        }
        let Placement::Node(node) = solve(view, request) else {
            return Attempt::Hopeless;
        };
        self.displacing.may_displace(actor, turn.now);
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
