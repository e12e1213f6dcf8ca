use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Move {
    Register(usize),
    Report {
        node: usize,
        free: i64,
    },
    Leave(usize),
    Create {
        restarts: i32,
        cpus: i64,
        name: Option<u8>,
    },
    Accept(usize),
    NoRoom(usize),
    Unreachable(usize),
    Unanswered(usize),
    Construct(usize),
    WorkerDies(usize),
    Kill {
        actor: usize,
        no_restart: bool,
    },
    Pass(u64),
    Restart,
}

fn any_move() -> impl Strategy<Value = Move> {
    let index = 0..8usize;
    prop_oneof![
        2 => index.clone().prop_map(Move::Register),
        2 => (index.clone(), 0..4i64).prop_map(|(node, free)| Move::Report { node, free }),
        1 => index.clone().prop_map(Move::Leave),
        4 => (-1..3i32, 0..3i64, prop::option::of(0..3u8))
            .prop_map(|(restarts, cpus, name)| Move::Create { restarts, cpus, name }),
        4 => index.clone().prop_map(Move::Accept),
        1 => index.clone().prop_map(Move::NoRoom),
        1 => index.clone().prop_map(Move::Unreachable),
        1 => index.clone().prop_map(Move::Unanswered),
        4 => index.clone().prop_map(Move::Construct),
        2 => index.clone().prop_map(Move::WorkerDies),
        1 => (index, any::<bool>()).prop_map(|(actor, no_restart)| Move::Kill { actor, no_restart }),
        1 => (0..12u64).prop_map(Move::Pass),
        1 => Just(Move::Restart),
    ]
}

/// What the test remembers of the outside world.
#[derive(Default)]
struct World {
    nodes: Vec<NodeId>,
    actors: Vec<ActorId>,
    open: Vec<(ActorId, u64, NodeId)>,
    /// Each with the number of restarts before it.
    running: Vec<(ActorId, NodeId, WorkerId, u32)>,
    dead: BTreeSet<ActorId>,
    restarts: BTreeMap<ActorId, u32>,
}

impl World {
    fn apply(&mut self, scene: &mut Scene, step: Move) {
        let node_at = |n: usize| self.nodes.get(n % self.nodes.len().max(1)).copied();
        match step {
            Move::Register(n) => {
                let id = node_at(n).filter(|_| n > 3).unwrap_or_else(NodeId::random);
                scene.register(id, 3);
                self.nodes.push(id);
            }
            Move::Report { node, free } => {
                if let Some(id) = node_at(node) {
                    let known = scene.core.nodes();
                    let info = known.iter().find(|info| info.node_id == id.to_wire());
                    let generation = info.map_or(0, |info| info.generation);
                    scene.report(id, generation, free);
                }
            }
            Move::Leave(n) => {
                if let Some(id) = node_at(n) {
                    let leave = |core: &mut GcsCore, turn: &mut Turn| {
                        core.unregister_node(id.as_bytes(), "left", turn)
                    };
                    scene.step(leave).unwrap();
                }
            }
            Move::Create {
                restarts,
                cpus,
                name,
            } => {
                let name = name.map_or(String::new(), |name| format!("name{name}"));
                let options = ActorOptions {
                    name,
                    ..restarting(restarts)
                };
                let id = ActorId::random();
                if scene.try_create(id, options, cpus).is_ok() {
                    self.actors.push(id);
                }
            }
            Move::Accept(n) if !self.open.is_empty() => {
                let start = self.open.remove(n % self.open.len());
                let restarts = scene.update(start.0).restarts;
                let worker = scene.accept(start);
                self.running.push((start.0, start.2, worker, restarts));
            }
            Move::NoRoom(n) => self.refuse(scene, n, StartOutcome::NoRoom),
            Move::Unreachable(n) => {
                self.refuse(scene, n, StartOutcome::Unreachable("away".to_owned()));
            }
            Move::Unanswered(n) => {
                self.refuse(scene, n, StartOutcome::Unanswered("away".to_owned()));
            }
            Move::Construct(n) if !self.running.is_empty() => {
                let (actor, node, worker, restarts) = self.running[n % self.running.len()];
                scene.construct_after(restarts, actor, node, worker);
            }
            Move::WorkerDies(n) if !self.running.is_empty() => {
                let (actor, node, worker, _) = self.running.remove(n % self.running.len());
                scene.worker_dies(actor, node, worker);
            }
            Move::Kill { actor, no_restart } if !self.actors.is_empty() => {
                scene.kill(self.actors[actor % self.actors.len()], no_restart);
            }
            Move::Pass(seconds) => scene.pass(Duration::from_secs(seconds)),
            Move::Restart => {
                *scene = scene.restarted();
                self.open.clear();
            }
            _ => {}
        }
        self.open.extend(scene.starts());
    }

    fn refuse(&mut self, scene: &mut Scene, n: usize, outcome: StartOutcome) {
        if self.open.is_empty() {
            return;
        }
        let (actor, attempt, node) = self.open.remove(n % self.open.len());
        scene.step(|core, turn| core.start_answered(actor, attempt, node, outcome, turn));
    }

    fn check(&mut self, scene: &Scene) {
        let mut names = BTreeSet::new();
        let mut workers = BTreeSet::new();
        let alive: Vec<Bytes> = scene
            .core
            .nodes()
            .into_iter()
            .filter(|n| n.is_alive)
            .map(|n| n.node_id)
            .collect();
        for actor in &self.actors {
            let update = scene.update(*actor);
            let options = update.options.clone().unwrap_or_default();
            let is_dead = update.state() == ActorState::Dead;
            assert!(is_dead || !self.dead.contains(actor), "ACT-1");
            if is_dead {
                self.dead.insert(*actor);
                assert!(update.failure.is_some(), "a dead actor says why");
            } else {
                assert!(
                    options.name.is_empty() || names.insert(options.name),
                    "ACT-2"
                );
            }
            if let Some(address) = &update.address {
                assert!(workers.insert(address.worker_id.clone()), "ACT-3");
                assert!(
                    alive.contains(&address.node_id),
                    "nobody lives on a dead node"
                );
            }
            let limit = options.max_restarts;
            assert!(
                limit < 0 || i64::from(update.restarts) <= i64::from(limit),
                "ACT-4"
            );
            let before = self.restarts.insert(*actor, update.restarts).unwrap_or(0);
            assert!(before <= update.restarts);
        }
    }

    /// Answers everything until nothing is under way.
    fn drain(&mut self, scene: &mut Scene) {
        for _ in 0..10_000 {
            self.open.extend(scene.starts());
            let Some(start) = self.open.pop() else { return };
            let worker = scene.accept(start);
            scene.construct(start.0, start.2, worker);
        }
        panic!("starts never end");
    }
}

proptest! {
    #[test]
    fn invariants_hold_and_every_feasible_actor_lives_in_the_end(
        moves in prop::collection::vec(any_move(), 0..80),
    ) {
        let mut scene = Scene::new();
        let mut world = World::default();
        for step in moves {
            world.apply(&mut scene, step);
            world.check(&scene);
        }
        // A large node joins and everybody answers: nothing may be left waiting.
        world.open.extend(scene.starts());
        for node in world.nodes.clone() {
            let leave = |core: &mut GcsCore, turn: &mut Turn| {
                core.unregister_node(node.as_bytes(), "left", turn)
            };
            scene.step(leave).unwrap();
        }
        scene.node(1_000);
        world.drain(&mut scene);
        world.check(&scene);
        for actor in &world.actors {
            let state = scene.state(*actor);
            prop_assert!(matches!(state, ActorState::Alive | ActorState::Dead), "{:?}", state);
        }
    }
}
