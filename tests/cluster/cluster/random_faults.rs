//! Faults by chance, over a cluster at work; afterwards everything is in order again.

#![cfg(test)]

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_common::ids::ActorId;
use aktis_common::resources::ResourceSet;
use aktis_proto::v1::lease_reply::Outcome;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{ActorState, LeaseReply};

use crate::sandbox::clock;
use crate::sandbox::driver::give_back;
use crate::sandbox::invariants::SETTLING_SECS;
use crate::sandbox::{ActorPlan, Cluster, Driver, Host, pass, run_seeds};

/// Seeds of one call of `cargo test`.
const SEEDS: u64 = 200;
/// Faults of a run.
const FAULTS: u64 = 12;
/// Nodes, besides the head.
const NODES: u8 = 3;
/// The node of the driver that looks at everything. It is cut off, but not killed: the driver would go with it.
const HOME: Host = Host(1);
const HEAD: Host = Host(0);

/// What the run knows for certain.
#[derive(Default)]
struct Promised {
    actors: Vec<ActorId>,
    /// Actors that were killed for good.
    ended: Vec<ActorId>,
    perhaps_ended: Vec<ActorId>,
    keys: BTreeMap<String, String>,
    written: u64,
}

#[test]
fn cluster_finds_its_way_after_any_faults() {
    run_seeds(SEEDS, async |cluster| {
        cluster.with_nodes(&[2, 2, 2]).await;
        let driver = cluster.driver(HOME).await;
        pass(2).await;
        let mut promised = Promised::default();
        for _ in 0..FAULTS {
            work(cluster, &driver, &mut promised).await;
            fault(cluster).await;
            let millis = cluster.chance.below(8_000);
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        settle(cluster).await;
        check(cluster, &driver, &promised).await;
    });
}

/// A little of what users do. Calls may fail while the head is away; what was answered is promised.
async fn work(cluster: &Cluster, driver: &Driver, promised: &mut Promised) {
    let chance = &cluster.chance;
    let within = |secs| Duration::from_secs(secs);
    match chance.below(5) {
        0 => {
            let plan = ActorPlan {
                resources: vec![("CPU", 0.5)],
                max_restarts: [0, 1, 3, -1][chance.below(4) as usize],
                ..ActorPlan::default()
            };
            let created = tokio::time::timeout(within(2), driver.create(&plan)).await;
            if let Ok(Ok(actor)) = created {
                promised.actors.push(actor);
            }
        }
        1 => {
            promised.written += 1;
            let (key, value) = (
                format!("key {}", promised.written),
                promised.written.to_string(),
            );
            let kept = tokio::time::timeout(within(2), driver.keep(&key, &value)).await;
            if let Ok(Ok(())) = kept {
                promised.keys.insert(key, value);
            }
        }
        2 => {
            let waiting = driver.request_lease(&[("CPU", 1.0)]);
            let link = driver.link.clone();
            tokio::spawn(async move {
                if let Ok(Kind::LeaseReply(LeaseReply {
                    outcome: Some(Outcome::Grant(grant)),
                })) = waiting.await
                {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    link.ask(Kind::LeaseReturn(give_back(&grant))).await;
                }
            });
        }
        3 => {
            if let Some(actor) = chance.pick(&promised.actors) {
                // Whoever is not answered does not know.
                promised.perhaps_ended.push(*actor);
                let killed = tokio::time::timeout(within(2), driver.kill_actor(*actor)).await;
                if let Ok(Ok(())) = killed {
                    promised.ended.push(*actor);
                }
            }
        }
        _ => {
            let living = cluster.world.living();
            if let Some(victim) = chance.pick(&living) {
                cluster
                    .log
                    .note(format!("{}: a process is killed", victim.host));
                cluster.world.kill(victim.pid);
            }
        }
    }
}

/// One fault, or the end of one.
async fn fault(cluster: &mut Cluster) {
    match cluster.chance.below(8) {
        0..=2 => fault_of_processes(cluster).await,
        3..=5 => fault_of_links(cluster).await,
        6 => fault_of_disk(cluster).await,
        _ => fault_of_machines(cluster),
    }
}

async fn fault_of_processes(cluster: &mut Cluster) {
    let host = Host(1 + cluster.chance.below(u64::from(NODES)) as u8);
    let is_running = cluster.hosts().contains(&host);
    match cluster.chance.below(6) {
        0 => cluster.crash_head(),
        1 => cluster.stop_head().await,
        2 | 3 if !cluster.has_head() => cluster.start_head().await,
        4 if host != HOME => cluster.crash_node(host),
        5 if !is_running && cluster.has_head() => {
            // A node that cannot register does not start.
            cluster.net.heal(HEAD, host);
            cluster.start_node(host, ResourceSet::of_cpus(2)).await;
        }
        _ => {}
    }
}

/// Between any two hosts. Answers that are lost, and bytes that come out of a cut link after their call was given up and
/// repeated, are how a message arrives twice, or after a later one (see [`crate::sandbox::network`]).
async fn fault_of_links(cluster: &Cluster) {
    let chance = &cluster.chance;
    let one = Host(chance.below(u64::from(NODES) + 1) as u8);
    let other = Host((one.0 + 1 + chance.below(u64::from(NODES)) as u8) % (NODES + 1));
    let millis = |limit| Duration::from_millis(chance.below(limit));
    match chance.below(7) {
        0 => cluster.net.cut(one, other),
        1 => cluster.net.cut_towards(one, other),
        2 | 3 => cluster.net.heal(one, other),
        4 => cluster.net.reset(one, other),
        5 => {
            let (delay, jitter) = (millis(200), millis(500));
            cluster.net.slow_down(one, other, delay, jitter);
        }
        _ => cluster.net.lose_answers(one, other, millis(3000)).await,
    }
}

/// The disk under the head's tables.
async fn fault_of_disk(cluster: &Cluster) {
    match cluster.chance.below(3) {
        0 => {
            let delay = Duration::from_millis(cluster.chance.below(1500));
            cluster.log.note(format!("the disk takes {delay:?}"));
            cluster.disk.set_delay(delay);
        }
        1 => {
            cluster.log.note("the disk is full");
            cluster.disk.set_full(true);
        }
        _ => {
            cluster.log.note("the disk has room");
            cluster.disk.set_full(false);
            // What was owed to it is written.
            pass(2).await;
        }
    }
}

fn fault_of_machines(cluster: &Cluster) {
    match cluster.chance.below(3) {
        0 => {
            let asleep = Duration::from_secs(cluster.chance.below(60));
            cluster
                .log
                .note(format!("all machines sleep for {asleep:?}"));
            clock::leap(asleep);
        }
        1 => {
            let dying = Duration::from_millis(cluster.chance.below(3000));
            cluster
                .log
                .note(format!("processes take {dying:?} to be gone"));
            cluster.world.set_dying(dying);
        }
        _ => {
            if let Some(seen) = cluster.chance.pick(&cluster.world.living()) {
                cluster
                    .log
                    .note(format!("{}: a process loses its connection", seen.host));
                cluster.world.hang_up(seen.pid);
            }
        }
    }
}

/// All faults end, and time passes.
async fn settle(cluster: &mut Cluster) {
    cluster.disk.set_delay(Duration::ZERO);
    cluster.disk.set_full(false);
    cluster.world.set_dying(Duration::ZERO);
    cluster.net.heal_all();
    if !cluster.has_head() {
        cluster.start_head().await;
    }
    for host in (1..=NODES).map(Host) {
        if !cluster.hosts().contains(&host) {
            cluster.start_node(host, ResourceSet::of_cpus(2)).await;
        }
    }
    pass(SETTLING_SECS).await;
}

async fn check(cluster: &Cluster, driver: &Driver, promised: &Promised) {
    for (key, value) in &promised.keys {
        assert_eq!(
            driver.kept(key).await.unwrap().as_ref(),
            Some(value),
            "what was answered is kept"
        );
    }
    for actor in &promised.actors {
        let update = driver
            .actor(*actor)
            .await
            .expect("what was answered is known");
        let is_over = update.state() == ActorState::Dead;
        if promised.ended.contains(actor) {
            assert!(is_over, "dead is final (ACT-1): {update:?}");
            continue;
        }
        let limit = update.options.as_ref().unwrap().max_restarts;
        let is_for_ever = limit < 0 && !promised.perhaps_ended.contains(actor);
        assert!(
            !(is_over && is_for_ever),
            "it may begin anew for ever: {:?}",
            update.failure
        );
        driver.check_news_of(*actor);
        let heard = driver.heard_of(*actor).last().map(|(state, _)| *state);
        assert_eq!(
            heard,
            Some(update.state()),
            "what its watcher heard last is how it is"
        );
    }
    cluster.check().await;
}
