//! The gcs has taken the node in, for the first time or again: what is here is brought in line with what the gcs holds true.
//!
//! A node that was cut off goes on working, while the gcs may declare it dead. Then the owners on other nodes have given up what
//! they had here, and the gcs has placed the actors anew. After a registration nothing of that is
//! here any more (`NODE-3`).

use std::time::Duration;

use aktis_common::ids::WorkerId;
use aktis_proto::convert::node_view;
use aktis_proto::v1::NodeInfo;
use rustc_hash::FxHashSet;

use super::{Membership, NodeEvent, note_address};
use crate::core::effect::{Effect, NodeStoreEffect};
use crate::core::event::Registration;
use crate::core::out::Out;

impl Membership {
    /// The node is (again) known to the gcs. What may have been missed is told, in the order in which it is to be taken in: leases,
    /// objects and actors that were given up end (`NODE-3`).
    pub fn on_registered(&mut self, registration: Registration, out: &mut Out) {
        let Registration {
            reply,
            nodes,
            now_unix_millis,
        } = registration;
        let was_given_up = self.generation != 0 && reply.given_up_generation >= self.generation;
        self.generation = reply.generation;
        self.take_snapshot(nodes, now_unix_millis, out);
        if was_given_up {
            out.push(Effect::Store(NodeStoreEffect::ForeignOwnersGone));
            out.tell(NodeEvent::GivenUp);
        }
        let dead = reply.dead_workers.iter();
        let dead: FxHashSet<WorkerId> = dead
            .filter_map(|id| WorkerId::from_bytes(id).ok())
            .collect();
        for owner in &dead {
            out.push(Effect::Store(NodeStoreEffect::OwnerGone { owner: *owner }));
        }
        out.tell(NodeEvent::OwnersDied(dead));
        out.tell(NodeEvent::Kept(reply.actors));
        out.tell(NodeEvent::InStep);
        self.want_report();
    }

    fn take_snapshot(&mut self, nodes: Vec<NodeInfo>, now_unix_millis: u64, out: &mut Out) {
        for node in &nodes {
            note_address(node, out);
        }
        let (dead, alive): (Vec<NodeInfo>, Vec<NodeInfo>) =
            nodes.into_iter().partition(|node| !node.is_alive);
        let gone = self.others.replace(alive, self.here);
        out.tell(NodeEvent::Listed(self.others.views()));
        for node in gone {
            self.forget(node, "the head no longer lists it", out);
        }
        for node in dead {
            let ago = now_unix_millis.saturating_sub(node.died_unix_millis);
            if let Ok(view) = node_view(&node) {
                out.tell(NodeEvent::LostBefore {
                    view: Box::new(view),
                    ago: Duration::from_millis(ago),
                });
            }
        }
    }
}
