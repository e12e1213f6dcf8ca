mod elsewhere;
mod holding;

use std::collections::BTreeMap;

use aktis_common::ids::{ActorId, JobId};
use aktis_common::resources::{CPU, GPU, GpuDevice, Quantity, ResourceRequest, ResourceSet};
use aktis_common::scheduling::PlacementRequest;
use aktis_proto::v1::{LeaseRequest, StartActor, TaskSpec};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::core::keys::{CallId, ConnectionId};

pub(super) const HERE: NodeId = NodeId::new([1; 16]);
pub(super) const THERE: NodeId = NodeId::new([2; 16]);
const JOB: JobId = JobId::new([9; 16]);

fn node(cpus: i64, gpus: u32) -> NodeResources {
    let devices = (0..gpus).map(|id| GpuDevice::new(id, 0)).collect();
    NodeResources::new(ResourceSet::of_cpus(cpus), devices, BTreeMap::new())
}

pub(super) fn table(cpus: i64, gpus: u32, now: Instant) -> LeaseTable {
    let mut table = LeaseTable::new(HERE, node(cpus, gpus), 5, now);
    table.set_other_nodes(Vec::new(), now);
    table.pump(now);
    table
}

fn owner(n: u8) -> Owner {
    Owner {
        node: HERE,
        worker: WorkerId::new([n; 16]),
    }
}

pub(super) fn key(n: u64) -> ReplyTo {
    ReplyTo::Process {
        connection: ConnectionId(1),
        request_id: n,
    }
}

pub(super) fn request(numbers: &[(&str, f64)]) -> ResourceRequest {
    ResourceRequest::from_numbers(numbers.iter().copied(), 0).unwrap()
}

pub(super) fn claim(by: u8, resources: ResourceRequest, now: Instant) -> Claim {
    Claim {
        purpose: Purpose::Tasks {
            owner: owner(by),
            request: Box::new(LeaseRequest::default()),
        },
        job: JOB,
        placement: PlacementRequest {
            resources,
            ..PlacementRequest::default()
        },
        is_here_only: false,
        claim_id: 0,
        since: now,
        is_told_infeasible: false,
        is_hopeless: false,
        waits_for: String::new(),
    }
}

pub(super) fn cpus(by: u8, count: f64, now: Instant) -> Claim {
    claim(by, request(&[(CPU, count)]), now)
}

/// Submits and gives the first placed claim a worker.
pub(super) fn lease(table: &mut LeaseTable, n: u64, claim: Claim, now: Instant) -> LeaseId {
    table.submit(key(n), claim);
    assert_eq!(table.pump(now), [Decision::Placed(key(n))]);
    let worker = WorkerId::new([u8::try_from(n).unwrap(); 16]);
    table.attach(0, worker).lease
}

fn free(table: &LeaseTable, name: &str) -> Quantity {
    table.resources().available().get(name)
}

#[test]
fn claim_waits_until_a_lease_ends() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let first = lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.submit(key(2), cpus(2, 1.0, now));
    assert!(table.pump(now).is_empty());
    assert_eq!(
        table.waiting_reasons(),
        [r#"1 x needs {"CPU": 1}; free on the best node: {"CPU": 0}"#]
    );
    table.end(first);
    assert_eq!(table.pump(now), [Decision::Placed(key(2))], "LEASE-2");
}

#[test]
fn what_waits_is_named_also_before_it_was_looked_at() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    lease(&mut table, 1, cpus(1, 1.0, now), now);
    for (number, name) in [(2, "load"), (3, "load"), (4, "train")] {
        let mut claim = cpus(number, 1.0, now);
        let Purpose::Tasks { request, .. } = &mut claim.purpose else {
            panic!("a claim for tasks");
        };
        request.function_name = name.to_owned();
        table.submit(key(u64::from(number)), claim);
        if number == 2 {
            assert!(table.pump(now).is_empty());
        }
    }
    assert_eq!(
        table.waiting_reasons(),
        [
            r#"1 x load needs {"CPU": 1}; free on the best node: {"CPU": 0}"#,
            r#"1 x load needs {"CPU": 1}; others came before"#,
            r#"1 x train needs {"CPU": 1}; others came before"#,
        ]
    );
}

#[test]
fn infeasible_claim_is_told_once_and_granted_when_a_node_joins() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    table.submit(key(1), cpus(1, 8.0, now));
    let missing = r#"needs {"CPU": 8}, but the largest node has {"CPU": 1}"#;
    assert_eq!(
        table.pump(now),
        [Decision::Infeasible(key(1), missing.to_owned())]
    );
    table.submit(key(2), cpus(1, 1.0, now));
    assert_eq!(table.pump(now), [Decision::Placed(key(2))]);
    table.set_other_node(THERE, Some(node(8, 0)), now);
    assert_eq!(table.pump(now), [Decision::Forward(key(1), THERE)]);
}

#[test]
fn before_the_first_view_of_the_cluster_infeasible_takes_a_moment() {
    let now = Instant::now();
    let mut table = LeaseTable::new(HERE, node(1, 0), 5, now);
    table.submit(key(1), cpus(1, 8.0, now));
    assert!(table.pump(now).is_empty());
    let deadline = table.next_deadline().unwrap();
    assert!(deadline <= now + Duration::from_secs(1));
    assert!(matches!(
        table.pump(deadline)[..],
        [Decision::Infeasible(..)]
    ));
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn actor_comes_before_tasks_that_wait() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let held = lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.submit(key(2), cpus(2, 1.0, now));
    let mut actor = cpus(1, 1.0, now);
    actor.purpose = Purpose::Actor {
        start: Box::default(),
        args_payload: Bytes::new(),
        running: None,
    };
    table.submit(key(3), actor);
    assert!(table.pump(now).is_empty());
    assert_eq!(table.take_reclaims().len(), 1);
    table.end(held);
    assert_eq!(table.pump(now), [Decision::Placed(key(3))]);
}

/// D16: the queue is walked when something has changed for it, and not with every event of the node.
#[test]
fn queue_that_nothing_changed_for_is_not_looked_through() {
    let now = Instant::now();
    let mut table = table(2, 0, now);
    let held = lease(&mut table, 1, cpus(1, 2.0, now), now);
    table.submit(key(2), cpus(1, 1.0, now));
    assert!(table.needs_pump(now));
    assert!(table.pump(now).is_empty());
    for number in 3..1000 {
        table.submit(key(number), cpus(1, 1.0, now));
        assert!(!table.needs_pump(now), "one more that has to wait");
    }
    table.withdraw(key(1));
    assert!(!table.needs_pump(now), "nobody of the queue");
    table.end(held);
    assert!(table.needs_pump(now));
    assert_eq!(table.pump(now).len(), 2);
    assert!(!table.needs_pump(now));
}

#[test]
fn withdrawn_claim_gives_back_what_it_held() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    table.submit(key(1), cpus(1, 1.0, now));
    table.pump(now);
    assert_eq!(free(&table, CPU), Quantity::ZERO);
    assert!(matches!(table.withdraw(key(1)), Some(Withdrawn::Here)));
    assert_eq!(free(&table, CPU), Quantity::ONE, "LEASE-2");
    assert!(table.withdraw(key(1)).is_none());
}

#[test]
fn blocked_worker_lends_its_cpu() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let parent = lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.submit(key(2), cpus(2, 1.0, now));
    assert!(table.pump(now).is_empty());
    table.block(parent);
    assert_eq!(table.pump(now), [Decision::Placed(key(2))]);
    table.unblock(parent);
    assert_eq!(free(&table, CPU), Quantity::from_whole(-1));
    table.end(parent);
    assert_eq!(free(&table, CPU), Quantity::ZERO);
}

#[test]
fn actor_keeps_its_gpu_and_returns_its_cpu_after_its_start() {
    let now = Instant::now();
    let mut table = table(1, 1, now);
    let mut actor = claim(1, request(&[(CPU, 1.0), (GPU, 0.5)]), now);
    let spec = TaskSpec {
        actor_id: ActorId::random().to_wire(),
        ..TaskSpec::default()
    };
    actor.purpose = Purpose::Actor {
        start: Box::new(StartActor {
            spec: Some(spec),
            ..StartActor::default()
        }),
        args_payload: Bytes::new(),
        running: Some(request(&[(GPU, 0.5)])),
    };
    let held = lease(&mut table, 1, actor, now);
    assert_eq!(free(&table, CPU), Quantity::ZERO);
    assert_eq!(table.get(held).unwrap().allocation.gpu_ids(), [0]);
    table.end_startup(held);
    assert_eq!(free(&table, CPU), Quantity::ONE);
    assert_eq!(free(&table, GPU), Quantity::from_units(5_000));
    table.end(held);
    assert_eq!(free(&table, GPU), Quantity::ONE, "LEASE-2");
}

#[test]
fn lease_has_its_resources_from_the_moment_they_were_free() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let first = lease(&mut table, 1, cpus(1, 1.0, now), now);
    let later = now + Duration::from_secs(5);
    assert_eq!(table.held_nanos(first, later), 5_000_000_000);
    table.end(first);
    // It was asked for long before.
    let second = lease(&mut table, 2, cpus(2, 1.0, now), later);
    assert_eq!(table.held_nanos(second, later), 0);
    assert_eq!(table.held_nanos(first, later), 0, "it is over");
}

#[test]
fn leases_of_others_are_asked_back_once_and_no_more_than_needed() {
    let now = Instant::now();
    let mut table = table(3, 0, now);
    let leases: Vec<LeaseId> = (1..=3)
        .map(|n| lease(&mut table, n, cpus(1, 1.0, now), now))
        .collect();
    assert!(table.take_reclaims().is_empty(), "nobody waits");
    table.submit(key(4), cpus(2, 2.0, now));
    table.pump(now);
    let asked = [(leases[0], owner(1)), (leases[1], owner(1))];
    assert_eq!(table.take_reclaims(), asked);
    assert!(table.take_reclaims().is_empty(), "asked already");
}

#[test]
fn owner_that_wants_more_of_the_same_need_not_return_any() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.submit(key(2), cpus(1, 1.0, now));
    table.pump(now);
    assert!(table.take_reclaims().is_empty());
    table.submit(key(3), cpus(1, 0.5, now));
    table.pump(now);
    assert_eq!(
        table.take_reclaims().len(),
        1,
        "another class of the same owner does wait for it"
    );
}

#[test]
fn lease_numbers_of_different_nodes_differ() {
    let now = Instant::now();
    let mut here = table(1, 0, now);
    let mut there = LeaseTable::new(THERE, node(1, 0), 6, now);
    there.set_other_nodes(Vec::new(), now);
    let first = lease(&mut here, 1, cpus(1, 1.0, now), now);
    let second = lease(&mut there, 1, cpus(1, 1.0, now), now);
    assert_ne!(first, second);
}

#[derive(Debug, Clone)]
enum Step {
    Submit {
        by: u8,
        cpu: i64,
        gpu: i64,
        is_actor: bool,
    },
    Attach,
    Withdraw(usize),
    End(usize),
    Block(usize),
    Unblock(usize),
    EndStartup(usize),
    OtherNode(Option<i64>),
    ForwardFailed(usize),
    ForwardAnswered(usize),
    Reclaim,
}

fn step() -> impl Strategy<Value = Step> {
    let gpu = prop_oneof![Just(0i64), 1..=10_000i64, Just(20_000i64)];
    prop_oneof![
        4 => (1..4u8, 0..30_000i64, gpu, any::<bool>())
            .prop_map(|(by, cpu, gpu, is_actor)| Step::Submit { by, cpu, gpu, is_actor }),
        4 => Just(Step::Attach),
        1 => any::<usize>().prop_map(Step::Withdraw),
        3 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::Block),
        1 => any::<usize>().prop_map(Step::Unblock),
        1 => any::<usize>().prop_map(Step::EndStartup),
        1 => proptest::option::of(0..4i64).prop_map(Step::OtherNode),
        1 => any::<usize>().prop_map(Step::ForwardFailed),
        1 => any::<usize>().prop_map(Step::ForwardAnswered),
        1 => Just(Step::Reclaim),
    ]
}

/// `LEASE-1`: what all grants hold and what is free make up the node.
fn check_books(table: &LeaseTable) {
    let resources = table.resources();
    let mut held = ResourceSet::new();
    let mut gpu_units: BTreeMap<u32, i64> = BTreeMap::new();
    for (_, grant) in table.grants() {
        for part in [Some(&grant.allocation), grant.startup_extra.as_ref()]
            .into_iter()
            .flatten()
        {
            let lends = part.is_cpu_lent();
            let set = if lends {
                part.resources().clone().without(CPU)
            } else {
                part.resources().clone()
            };
            held.add(&set);
            for gpu in part.gpu_ids() {
                *gpu_units.entry(*gpu).or_default() += part.gpu_share().units();
            }
        }
    }
    let free = resources.available().get(CPU);
    assert_eq!(
        held.get(CPU) + free,
        resources.total().get(CPU),
        "LEASE-1, LEASE-2"
    );
    for gpu in resources.gpus() {
        let used = gpu_units.get(&gpu.id).copied().unwrap_or(0);
        assert_eq!(used + gpu.free.units(), Quantity::SCALE, "LEASE-1");
        assert!(!gpu.free.is_negative(), "LEASE-1");
    }
    for placed in table.placed() {
        assert!(
            table
                .get(placed.lease)
                .is_some_and(|grant| grant.worker.is_none()),
            "LEASE-3"
        );
    }
}

proptest! {
    #[test]
    fn any_sequence_never_over_commits(steps in prop::collection::vec(step(), 0..100)) {
        let now = Instant::now();
        let mut table = table(4, 2, now);
        let mut live: Vec<LeaseId> = Vec::new();
        let mut next = 0;
        let pick = |items: &[LeaseId], index: usize| {
            (!items.is_empty()).then(|| items[index % items.len()])
        };
        for step in steps {
            let before = table.resources().available().get(CPU);
            let mut may_go_below = false;
            let forwarded = table.claims_where(|reply_to, _| table.forwarded(reply_to).is_some());
            match step {
                Step::Submit { by, cpu, gpu, is_actor } => {
                    next += 1;
                    let wanted = ResourceSet::from_units([(CPU, cpu), (GPU, gpu)]);
                    let mut new = claim(by, ResourceRequest::new(wanted, 0).unwrap(), now);
                    if is_actor {
                        let kept = ResourceSet::from_units([(GPU, gpu)]);
                        new.is_here_only = true;
                        new.purpose = Purpose::Actor {
                            start: Box::default(),
                            args_payload: Bytes::new(),
                            running: Some(ResourceRequest::new(kept, 0).unwrap()),
                        };
                    }
                    table.submit(if is_actor { ReplyTo::Call(CallId(next)) } else { key(next) }, new);
                }
                Step::Attach => if !table.placed().is_empty() {
                    next += 1;
                    let mut worker = [0; 16];
                    worker[..8].copy_from_slice(&next.to_le_bytes());
                    live.push(table.attach(0, WorkerId::new(worker)).lease);
                },
                Step::Withdraw(index) => {
                    let all = table.claims_where(|_, _| true);
                    if !all.is_empty() { table.withdraw(all[index % all.len()]); }
                }
                Step::End(index) => if let Some(lease) = pick(&live, index) {
                    prop_assert!(table.end(lease).is_some());
                    prop_assert!(table.end(lease).is_none());
                    live.retain(|other| *other != lease);
                },
                Step::Block(index) => if let Some(lease) = pick(&live, index) { table.block(lease); },
                Step::Unblock(index) => if let Some(lease) = pick(&live, index) {
                    may_go_below = true;
                    table.unblock(lease);
                },
                Step::EndStartup(index) => if let Some(lease) = pick(&live, index) {
                    table.end_startup(lease);
                },
                Step::OtherNode(cpus) => table.set_other_node(THERE, cpus.map(|cpus| node(cpus, 1)), now),
                Step::ForwardFailed(index) => if !forwarded.is_empty() {
                    table.forward_failed(forwarded[index % forwarded.len()], now);
                },
                Step::ForwardAnswered(index) => if !forwarded.is_empty() {
                    table.forward_answered(forwarded[index % forwarded.len()]);
                },
                Step::Reclaim => { table.take_reclaims(); }
            }
            table.pump(now);
            check_books(&table);
            let after = table.resources().available().get(CPU);
            prop_assert!(may_go_below || !after.is_negative() || after >= before, "LEASE-1");
        }
        for lease in live { table.end(lease); }
        for reply_to in table.claims_where(|_, _| true) { table.withdraw(reply_to); }
        prop_assert_eq!(table.resources(), &table.resources().emptied(), "LEASE-2");
    }
}
