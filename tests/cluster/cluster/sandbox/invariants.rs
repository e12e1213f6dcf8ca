//! What holds once faults are over and nobody asks for anything any more.

use std::collections::BTreeMap;

use aktis_common::ids::{ActorId, NodeId};
use aktis_common::resources::ResourceSet;
use aktis_proto::convert::node_resources;
use aktis_proto::v1::{ActorState, ActorUpdate};

use super::cluster::Cluster;
use super::driver::Driver;
use super::network::Host;
use super::processes::short;

/// How long a cluster may take to find its way after the last fault: silence of a node, patience of calls, both twice.
pub const SETTLING_SECS: u64 = 120;

impl Cluster {
    /// Everything that has no other time to be looked at.
    pub async fn check(&self) {
        self.check_nodes().await;
        self.check_actors().await;
        self.check_resources().await;
    }

    /// The gcs counts exactly the nodes among the living that run.
    pub async fn check_nodes(&self) {
        let alive = self.listed().await.into_iter().filter(|node| node.is_alive);
        let mut alive: Vec<NodeId> = alive
            .map(|node| NodeId::from_bytes(&node.node_id).unwrap())
            .collect();
        let mut running: Vec<NodeId> = self
            .hosts()
            .iter()
            .map(|host| self.node(*host).id)
            .collect();
        alive.sort();
        running.sort();
        assert_eq!(
            alive, running,
            "nodes that the gcs counts among the living, and those that run"
        );
    }

    /// An actor that is alive has one process, the one that the gcs names; a dead one has none (`ACT-3`).
    pub async fn check_actors(&self) {
        for actor in self.actors().await {
            let hosts = self.world.hosts_of(&actor.actor_id);
            let name = short(&actor.actor_id);
            match actor.state() {
                ActorState::Alive => {
                    let worker = actor.address.clone().unwrap().worker().unwrap().to_string();
                    assert!(
                        hosts.len() == 1 && hosts[0].worker == worker,
                        "actor {name} is alive in {worker}, but its processes are {hosts:?}"
                    );
                }
                ActorState::Dead => assert!(
                    hosts.is_empty(),
                    "actor {name} is dead, but {hosts:?} host it"
                ),
                _ => assert!(hosts.len() <= 1, "actor {name} has {hosts:?}"),
            }
            self.check_restarts(&actor);
        }
        // Nothing runs that the gcs does not know.
        for seen in self.world.living() {
            let Some(actor) = seen.actor else {
                continue;
            };
            let known = self
                .actors()
                .await
                .iter()
                .any(|update| update.actor_id == actor);
            assert!(
                known,
                "actor {} runs on {}, and the gcs does not know it",
                short(&actor),
                seen.host
            );
        }
    }

    /// `ACT-4`: never more restarts than allowed, and none without a constructor that was begun for it.
    fn check_restarts(&self, actor: &ActorUpdate) {
        let limit = actor
            .options
            .as_ref()
            .map_or(0, |options| options.max_restarts);
        if let Ok(limit) = u32::try_from(limit) {
            assert!(
                actor.restarts <= limit,
                "actor {}: {} restarts",
                short(&actor.actor_id),
                actor.restarts
            );
        }
    }

    /// What is free and what living actors hold is all there is: no lease without an owner. For when no task runs.
    pub async fn check_resources(&self) {
        let mut held: BTreeMap<Host, ResourceSet> = BTreeMap::new();
        for actor in self.actors().await {
            if actor.state() != ActorState::Alive {
                continue;
            }
            let node = actor.address.clone().unwrap().node().unwrap();
            let running = actor
                .options
                .clone()
                .and_then(|options| options.running_resources);
            let running = running
                .and_then(|request| request.resources)
                .unwrap_or_default();
            let host = self
                .hosts()
                .into_iter()
                .find(|host| self.node(*host).id == node);
            held.entry(host.expect("its node runs"))
                .or_default()
                .add(&ResourceSet::from(&running));
        }
        for host in self.hosts() {
            let node = node_resources(&self.status(host).await);
            let mut sum = node.available();
            sum.add(&held.remove(&host).unwrap_or_default());
            assert_eq!(
                sum,
                node.total(),
                "{host}: what is free, and what actors hold, against all"
            );
        }
    }

    /// No object is left in any store. For when all owners are gone or have let go.
    pub async fn check_stores_empty(&self) {
        for host in self.hosts() {
            let used = self.status(host).await.store_used_bytes;
            assert_eq!(used, 0, "{host}: bytes in its store");
        }
    }
}

impl Driver {
    /// `WATCH-1`, `WATCH-2`: no step back, nothing after the end.
    pub fn check_news_of(&self, actor: ActorId) {
        let heard = self.heard_of(actor);
        for pair in heard.windows(2) {
            let [(before, restarts), (after, later)] = [pair[0], pair[1]];
            assert!(
                later >= restarts,
                "actor {}: {heard:?}",
                short(actor.as_bytes())
            );
            let is_back = before == ActorState::Dead && after != ActorState::Dead;
            assert!(!is_back, "actor {}: {heard:?}", short(actor.as_bytes()));
        }
    }
}
