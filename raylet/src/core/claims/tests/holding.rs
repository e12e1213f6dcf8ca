//! What is kept for claims that have waited for long (ADR 132).

use super::*;

fn actor(count: f64, now: Instant) -> Claim {
    let mut actor = cpus(9, count, now);
    actor.is_here_only = true;
    actor.purpose = Purpose::Actor {
        start: Box::default(),
        args_payload: Bytes::new(),
        running: None,
    };
    actor
}

fn call(n: u64) -> ReplyTo {
    ReplyTo::Call(CallId(n))
}

#[test]
fn what_frees_is_kept_for_an_actor_until_it_is_enough() {
    let now = Instant::now();
    let mut table = table(3, 0, now);
    let leases: Vec<LeaseId> = (1..=3)
        .map(|n| lease(&mut table, n, cpus(1, 1.0, now), now))
        .collect();
    table.submit(call(4), actor(3.0, now));
    table.submit(key(5), cpus(2, 1.0, now));
    for lease in &leases[..2] {
        table.end(*lease);
        assert_eq!(table.pump(now), []);
        assert!(table.is_collecting_for(call(4)));
        let open = table.open_resources().available();
        assert_eq!(open.get(CPU), Quantity::ZERO, "nobody may count on it");
    }
    assert_eq!(free(&table, CPU), Quantity::from_whole(2));
    table.end(leases[2]);
    assert_eq!(table.pump(now), [Decision::Placed(call(4))]);
    assert_eq!(table.open_resources(), *table.resources());
}

#[test]
fn nothing_is_kept_for_what_the_end_of_tasks_cannot_serve() {
    let now = Instant::now();
    let mut table = table(3, 0, now);
    lease(&mut table, 1, actor(1.0, now), now);
    let task = lease(&mut table, 2, cpus(1, 1.0, now), now);
    table.submit(call(3), actor(3.0, now));
    assert_eq!(table.pump(now), []);
    assert!(!table.is_collecting_for(call(3)));
    table.submit(key(4), cpus(2, 1.0, now));
    assert_eq!(table.pump(now), [Decision::Placed(key(4))]);
    table.end(task);
    table.submit(key(5), cpus(2, 1.0, now));
    assert_eq!(table.pump(now), [Decision::Placed(key(5))]);
}

#[test]
fn nothing_is_kept_for_what_this_node_can_never_serve() {
    let now = Instant::now();
    let mut table = table(2, 0, now);
    table.submit(call(1), actor(3.0, now));
    let missing = r#"needs {"CPU": 3}, but the largest node has {"CPU": 2}"#;
    assert_eq!(
        table.pump(now),
        [Decision::Infeasible(call(1), missing.to_owned())]
    );
    table.submit(key(2), cpus(1, 2.0, now));
    assert_eq!(table.pump(now), [Decision::Placed(key(2))]);
}

/// Before, all that needed a CPU waited behind the one that another node could have served, too.
#[test]
fn claims_that_are_held_up_here_are_served_by_nodes_with_room() {
    let now = Instant::now();
    let mut table = table(2, 0, now);
    lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.submit(call(2), actor(2.0, now));
    table.submit(key(3), cpus(2, 1.0, now));
    assert_eq!(table.pump(now), []);
    table.set_other_node(THERE, Some(node(1, 0)), now);
    assert_eq!(table.pump(now), [Decision::Forward(key(3), THERE)]);
    table.submit(key(4), cpus(2, 1.0, now));
    assert_eq!(table.pump(now), [], "the room there is booked");
    let later = now + Duration::from_secs(1);
    assert!(
        table.take_back_forwarded(later).is_empty(),
        "what is free here is kept"
    );
}

#[test]
fn actor_does_not_wait_here_when_another_node_has_room_or_actors_before_it_take_all() {
    let now = Instant::now();
    let mut table = table(2, 0, now);
    lease(&mut table, 1, cpus(1, 2.0, now), now);
    table.submit(call(2), actor(2.0, now));
    table.submit(call(3), actor(1.0, now));
    assert_eq!(table.pump(now), []);
    assert!(table.is_collecting_for(call(2)));
    assert!(!table.is_collecting_for(call(3)));
    assert!(!table.is_collecting_for(call(4)), "nobody of the queue");
    table.set_other_node(THERE, Some(node(2, 0)), now);
    assert!(!table.is_collecting_for(call(2)));
}
