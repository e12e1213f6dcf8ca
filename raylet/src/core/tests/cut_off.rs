//! The node was cut off and is back, or others are gone: `NODE-3`, `LEASE-4`.

use aktis_proto::v1::{HostedActor, NodeDied};

use super::*;
use crate::core::effect::NodeStoreEffect;

const ACTOR: ActorId = ActorId::new([4; 16]);

impl Bench {
    fn start_actor(&mut self, call: u64, generation: u64) {
        let request = start_request(ACTOR, generation);
        self.call(call, CallRequest::StartActor(Box::new(request)));
    }

    fn lease_of(&mut self, node: NodeId, call: u64) {
        let lease = CallRequest::Lease {
            request: request(1.0),
            owner: Address::of(node, owner(call)),
            claim_id: call,
        };
        self.call(call, lease);
    }

    fn publish(&mut self, kind: publication::Kind) {
        self.happen(Event::Published(Publication { kind: Some(kind) }));
    }

    fn infeasible(&self) -> usize {
        let is_infeasible = |effect: &&Effect| {
            matches!(effect, Effect::Send { kind: Kind::LeaseReply(reply), .. }
                if matches!(reply.outcome, Some(lease_reply::Outcome::Infeasible(_))))
        };
        self.effects.iter().filter(is_infeasible).count()
    }

    fn forwards(&self) -> usize {
        let is_forward = |effect: &&Effect| matches!(effect, Effect::ForwardLease { .. });
        self.effects.iter().filter(is_forward).count()
    }
}

fn kept(worker: Option<WorkerId>) -> HostedActor {
    HostedActor {
        actor_id: ACTOR.to_wire(),
        worker_id: worker.map(WorkerId::to_wire).unwrap_or_default(),
    }
}

fn info(id: NodeId, cpus: i64, generation: u64) -> NodeInfo {
    let mut info = NodeInfo {
        node_id: id.to_wire(),
        generation,
        is_alive: true,
        ..NodeInfo::default()
    };
    let resources = NodeResources::new(ResourceSet::of_cpus(cpus), Vec::new(), BTreeMap::new());
    aktis_proto::convert::fill_resources(&mut info, &resources);
    info
}

#[test]
fn leases_and_objects_that_others_gave_up_are_freed_when_the_node_is_back() {
    let mut bench = Bench::new(3);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    bench.lease_of(THERE, 7);
    assert_eq!(bench.free_cpus(), 1.0);
    bench.effects.clear();
    bench.register(4, |said| said.reply.given_up_generation = 1);
    assert_eq!(
        bench.free_cpus(),
        2.0,
        "NODE-3: that of its own driver stays"
    );
    let are_freed =
        |effect: &Effect| matches!(effect, Effect::Store(NodeStoreEffect::ForeignOwnersGone));
    assert!(bench.effects.iter().any(are_freed), "NODE-3");
    // The node registers once more, and nothing was given up since.
    bench.lease_of(THERE, 8);
    bench.effects.clear();
    bench.register(5, |said| said.reply.given_up_generation = 1);
    assert_eq!(bench.free_cpus(), 1.0);
    assert!(!bench.effects.iter().any(are_freed));
}

#[test]
fn node_that_only_lost_its_subscription_keeps_what_others_have_here() {
    let mut bench = Bench::new(1);
    bench.lease_of(THERE, 7);
    bench.register(2, |_| ());
    assert_eq!(bench.free_cpus(), 0.0);
}

#[test]
fn leases_of_owners_that_ended_meanwhile_are_freed() {
    let mut bench = Bench::new(1);
    bench.lease_of(THERE, 7);
    bench.register(2, |said| said.reply.dead_workers = vec![owner(7).to_wire()]);
    assert_eq!(bench.free_cpus(), 1.0, "NODE-3");
}

#[test]
fn actors_that_are_elsewhere_now_end_and_the_others_stay() {
    for (said, stays) in [
        (vec![], false),
        (vec![kept(Some(owner(9)))], false),
        (vec![kept(None)], true),
    ] {
        let mut bench = Bench::new(1);
        bench.start_actor(1, 1);
        let worker = bench.hosted(0);
        bench.register(2, |registration| registration.reply.actors = said);
        assert_eq!(bench.core.pool().get(worker).is_some(), stays, "NODE-3");
    }
    let mut bench = Bench::new(1);
    bench.start_actor(1, 1);
    let worker = bench.hosted(0);
    bench.register(2, |said| said.reply.actors = vec![kept(Some(worker))]);
    assert!(bench.core.pool().get(worker).is_some());
}

#[test]
fn doomed_worker_is_never_the_answer_to_a_start() {
    let mut bench = Bench::new(2);
    bench.start_actor(1, 1);
    let doomed = bench.hosted(0);
    let (pid, connection) = bench.detach(doomed);
    // The gcs places the actor here again as soon as it has taken the node in, maybe before the node knows of that.
    bench.start_actor(2, 2);
    assert_eq!(bench.start_answers().len(), 1);
    bench.register(2, |said| said.reply.given_up_generation = 1);
    assert_eq!(bench.start_answers().len(), 1, "HOST-1: it is not gone yet");
    bench.happen(Event::Disconnected { connection });
    assert_eq!(
        bench.start_answers().len(),
        1,
        "HOST-1: its process may run still"
    );
    bench.exit(pid, "killed by signal 9");
    assert_ne!(bench.hosted(1), doomed);
}

#[test]
fn start_that_is_dropped_while_it_is_held_makes_no_actor() {
    let mut bench = Bench::new(1);
    bench.start_actor(1, 2);
    bench.happen(Event::CallDropped { call: CallId(1) });
    bench.register(2, |_| ());
    assert!(bench.start_answers().is_empty());
    assert_eq!(bench.free_cpus(), 1.0);
}

#[test]
fn held_start_of_a_generation_that_was_skipped_is_to_be_placed_anew() {
    let mut bench = Bench::new(1);
    bench.start_actor(1, 2);
    bench.register(3, |_| ());
    let answers = bench.start_answers();
    assert_eq!(answers, [start_actor_reply::Outcome::NoRoom(true)]);
}

#[test]
fn node_that_came_back_between_two_snapshots_has_given_up_its_owners() {
    let mut bench = Bench::new(1);
    bench.publish(publication::Kind::Node(info(THERE, 1, 3)));
    bench.lease_of(THERE, 7);
    let back = NodeInfo {
        given_up_generation: 3,
        ..info(THERE, 1, 5)
    };
    let mut other = Bench::new(1);
    other.publish(publication::Kind::Node(info(THERE, 1, 3)));
    other.lease_of(THERE, 7);
    bench.publish(publication::Kind::Node(back.clone()));
    other.register(6, |said| said.nodes = vec![back]);
    assert_eq!((bench.free_cpus(), other.free_cpus()), (1.0, 1.0));
}

#[test]
fn work_for_a_node_that_was_lost_waits_for_the_next_one_like_it() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.publish(publication::Kind::Node(info(THERE, 8, 2)));
    let died = NodeDied {
        node_id: THERE.to_wire(),
        cause: "gone".to_owned(),
    };
    bench.publish(publication::Kind::NodeDied(died));
    bench.ask(driver, 2, 8.0);
    assert_eq!(bench.infeasible(), 0, "LEASE-4");
    let waiting = bench.core.node_info().waiting;
    assert!(
        waiting[0].contains("may come back or be replaced"),
        "{waiting:?}"
    );
    bench.ask(driver, 3, 9.0);
    assert_eq!(bench.infeasible(), 1, "no node was ever so large");
    let replaced = NodeId::new([5; 16]);
    bench.publish(publication::Kind::Node(info(replaced, 8, 3)));
    assert_eq!(bench.forwards(), 1);
}

#[test]
fn hope_for_a_lost_node_ends_and_counts_from_its_death() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    let dead = NodeInfo {
        is_alive: false,
        died_unix_millis: 1_000_000,
        ..info(THERE, 8, 2)
    };
    bench.register(2, |said| {
        said.nodes = vec![dead];
        said.now_unix_millis = 1_100_000;
    });
    bench.ask(driver, 2, 8.0);
    bench.now += Duration::from_secs(199);
    bench.happen(Event::Tick);
    assert_eq!(bench.infeasible(), 0, "LEASE-4");
    let deadline = bench.core.next_deadline().unwrap();
    assert!(deadline <= bench.now + Duration::from_secs(1));
    bench.now += Duration::from_secs(2);
    bench.happen(Event::Tick);
    assert_eq!(bench.infeasible(), 1);
}

#[test]
fn node_that_cannot_be_reached_for_a_moment_makes_nothing_infeasible() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.publish(publication::Kind::Node(info(THERE, 8, 2)));
    bench.ask(driver, 2, 8.0);
    let claim_id = bench.effects.iter().find_map(|effect| match effect {
        Effect::ForwardLease { request, .. } => Some(request.claim_id),
        _ => None,
    });
    let reply_to = ReplyTo::Process {
        connection: driver,
        request_id: 2,
    };
    bench.happen(Event::ForwardEnded {
        reply_to,
        claim_id: claim_id.unwrap(),
        outcome: Err("connection refused".to_owned()),
    });
    assert_eq!(bench.infeasible(), 0, "LEASE-4");
    bench.publish(publication::Kind::Node(info(THERE, 8, 2)));
    assert_eq!(
        bench.forwards(),
        2,
        "it is asked again with its next report"
    );
}
