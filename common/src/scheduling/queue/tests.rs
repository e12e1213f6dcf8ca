use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::resources::{Allocation, NodeResources, ResourceRequest, ResourceSet};

/// One node, one queue, and work that ends when the test says so.
struct Bench {
    node: NodeResources,
    queue: WaitQueue<u32, ResourceRequest>,
    running: Vec<(u32, Allocation)>,
    now: Duration,
    next_key: u32,
}

impl Bench {
    fn new(cpus: i64) -> Self {
        let total = ResourceSet::of_cpus(cpus);
        let node = NodeResources::new(total, Vec::new(), BTreeMap::new());
        let queue = WaitQueue::new();
        Self {
            node,
            queue,
            running: Vec::new(),
            now: Duration::ZERO,
            next_key: 0,
        }
    }

    fn ask(&mut self, cpus: i64) -> u32 {
        let request = ResourceRequest::new(ResourceSet::of_cpus(cpus), 0).unwrap();
        self.next_key += 1;
        self.queue.push(self.next_key, request);
        self.next_key
    }

    fn serve(&mut self) {
        let (node, running) = (&mut self.node, &mut self.running);
        self.queue.serve(
            self.now,
            |request, name| !request.resources().get(name).is_zero(),
            |key, request, standing| {
                if standing == Standing::Held {
                    return Attempt::Waits {
                        short_of: Vec::new(),
                    };
                }
                match node.allocate(request) {
                    Some(allocation) => {
                        running.push((*key, allocation));
                        Attempt::Granted
                    }
                    None if node.could_ever_fit(request) => Attempt::Waits {
                        short_of: node.short_of(request),
                    },
                    None => Attempt::Hopeless,
                }
            },
        );
    }

    fn finish(&mut self, key: u32) {
        let position = self.running.iter().position(|(k, _)| *k == key).unwrap();
        let (_, allocation) = self.running.remove(position);
        self.node.release(&allocation);
    }

    fn is_running(&self, key: u32) -> bool {
        self.running.iter().any(|(k, _)| *k == key)
    }
}

#[test]
fn small_requests_pass_a_large_one_only_so_often() {
    let mut bench = Bench::new(4);
    for _ in 0..4 {
        bench.ask(1);
    }
    bench.serve();
    let large = bench.ask(4);
    for round in 0..1_000 {
        if bench.is_running(large) {
            assert!(round > 4, "small ones keep the node busy at first");
            return;
        }
        bench.ask(1);
        let oldest = bench.running[0].0;
        bench.finish(oldest);
        bench.serve();
    }
    panic!("SCH-4: the large request was starved");
}

#[test]
fn barrier_for_something_that_never_ends_lifts_in_time() {
    let mut bench = Bench::new(2);
    let actor = bench.ask(1);
    bench.serve();
    bench.ask(2);
    for _ in 0..100 {
        bench.ask(1);
    }
    let mut served = 0;
    for _ in 0..10_000 {
        bench.serve();
        bench.now += Duration::from_millis(100);
        let done: Vec<u32> = bench
            .running
            .iter()
            .map(|(k, _)| *k)
            .filter(|k| *k != actor)
            .collect();
        served += done.len();
        done.into_iter().for_each(|key| bench.finish(key));
    }
    assert_eq!(served, 100, "SCH-4 holds for the small ones too");
}

#[test]
fn barrier_does_not_touch_requests_for_other_resources() {
    let mut queue: WaitQueue<u32, &str> = WaitQueue::new();
    queue.push(0, "GPU");
    let serve = |queue: &mut WaitQueue<u32, &str>| {
        let mut granted = Vec::new();
        let needs = |item: &&str, name: &str| *item == name || *item == "both";
        queue.serve(Duration::ZERO, needs, |key, _, standing| {
            if *key == 0 || standing == Standing::Held {
                return Attempt::Waits {
                    short_of: vec!["GPU".to_owned()],
                };
            }
            granted.push(*key);
            Attempt::Granted
        });
        granted
    };
    for key in 1..=PASS_LIMIT {
        queue.push(key, "both");
        assert_eq!(serve(&mut queue), [key]);
    }
    queue.push(100, "both");
    queue.push(101, "CPU");
    assert_eq!(serve(&mut queue), [101]);
    assert_eq!(queue.next_change(), Some(FIRST_HOLD));
}

#[test]
fn request_that_has_waited_elsewhere_holds_from_the_beginning_and_until_it_leaves() {
    let mut bench = Bench::new(2);
    let first = bench.ask(1);
    bench.serve();
    let request = ResourceRequest::new(ResourceSet::of_cpus(2), 0).unwrap();
    bench.queue.push_holding(77, request, |_| false);
    let small = bench.ask(1);
    for _ in 0..3 {
        bench.serve();
        assert!(!bench.is_running(small), "one CPU is free, and kept");
        bench.now += LONGEST_HOLD;
    }
    assert_eq!(bench.queue.next_change(), None);
    bench.queue.remove(&77);
    bench.serve();
    assert!(bench.is_running(small) && bench.is_running(first));
}

#[test]
fn what_is_held_is_named_and_nothing_else_is_kept_from_those_behind() {
    let mut queue: WaitQueue<u32, &str> = WaitQueue::new();
    queue.push_holding(0, "here", |_| false);
    queue.push(1, "there");
    let needs = |_: &&str, name: &str| name == "CPU";
    let mut seen = Vec::new();
    let held = queue.serve(Duration::ZERO, needs, |_, item, standing| {
        seen.push((*item, standing));
        match standing {
            Standing::Held => Attempt::Granted,
            _ => Attempt::Waits {
                short_of: vec!["CPU".to_owned()],
            },
        }
    });
    assert_eq!(held, ["CPU"]);
    let expected = [("here", Standing::Holds), ("there", Standing::Held)];
    assert_eq!(seen, expected, "another node may serve it");
    assert_eq!(queue.len(), 1);
}

#[test]
fn hopeless_request_holds_nobody_back() {
    let mut bench = Bench::new(1);
    bench.ask(5);
    for _ in 0..100 {
        let key = bench.ask(1);
        bench.serve();
        assert!(bench.is_running(key));
        bench.finish(key);
    }
    assert_eq!(bench.queue.len(), 1);
}

#[test]
fn cancelled_request_leaves_the_queue() {
    let mut bench = Bench::new(1);
    let key = bench.ask(1);
    assert!(bench.queue.remove(&key).is_some());
    bench.serve();
    assert!(bench.running.is_empty() && bench.queue.is_empty());
}

proptest! {
    /// Whatever arrives and however long it runs, everything that fits the node is served in bounded time.
    #[test]
    fn every_request_is_served_while_small_ones_keep_coming(
        sizes in prop::collection::vec(1..=8i64, 1..20),
        lifetimes in prop::collection::vec(1..5usize, 1..50),
    ) {
        let mut bench = Bench::new(8);
        let wanted: Vec<u32> = sizes.iter().map(|cpus| bench.ask(*cpus)).collect();
        let mut seen: HashSet<u32> = HashSet::new();
        let mut ages: BTreeMap<u32, usize> = BTreeMap::new();
        for round in 0..4_000usize {
            bench.ask(1);
            bench.serve();
            bench.now += Duration::from_millis(10);
            seen.extend(bench.running.iter().map(|(key, _)| *key));
            if wanted.iter().all(|key| seen.contains(key)) {
                return Ok(());
            }
            let keys: Vec<u32> = bench.running.iter().map(|(key, _)| *key).collect();
            for key in keys {
                let age = ages.entry(key).or_default();
                *age += 1;
                if *age >= lifetimes[(key as usize + round) % lifetimes.len()] {
                    bench.finish(key);
                }
            }
        }
        prop_assert!(false, "SCH-4: not all of {:?} were served", wanted);
    }
}
