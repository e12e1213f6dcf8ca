//! Claims that go to other nodes.

use super::*;

#[test]
fn full_node_sends_claims_to_one_with_room_and_books_them_there() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.set_other_node(THERE, Some(node(1, 0)), now);
    table.submit(key(2), cpus(1, 1.0, now));
    table.submit(key(3), cpus(1, 1.0, now));
    assert_eq!(
        table.pump(now),
        [Decision::Forward(key(2), THERE)],
        "the room there is booked"
    );
}

#[test]
fn claim_comes_back_when_the_other_node_cannot_be_reached() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let first = lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.set_other_node(THERE, Some(node(1, 0)), now);
    table.submit(key(2), cpus(1, 1.0, now));
    table.pump(now);
    table.forward_failed(key(2), now);
    assert!(
        table.pump(now).is_empty(),
        "the unreachable node is not asked again"
    );
    table.end(first);
    assert_eq!(table.pump(now), [Decision::Placed(key(2))], "LEASE-3");
}

#[test]
fn claim_that_waits_elsewhere_is_taken_back_once_there_is_room_here() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let first = lease(&mut table, 1, cpus(1, 1.0, now), now);
    table.set_other_node(THERE, Some(node(1, 0)), now);
    table.submit(key(2), cpus(1, 1.0, now));
    table.pump(now);
    let later = now + Duration::from_secs(1);
    assert!(
        table.take_back_forwarded(later).is_empty(),
        "there is no room here"
    );
    table.end(first);
    assert!(
        table.take_back_forwarded(now).is_empty(),
        "it may be granted there any moment"
    );
    let taken = table.take_back_forwarded(later);
    assert_eq!(
        taken
            .iter()
            .map(|(reply_to, sent)| (*reply_to, sent.node))
            .collect::<Vec<_>>(),
        [(key(2), THERE)]
    );
    assert_eq!(table.pump(later), [Decision::Placed(key(2))], "LEASE-3");
}

#[test]
fn claim_that_only_a_full_node_can_serve_waits_there_after_a_while_and_not_here() {
    let now = Instant::now();
    let mut table = table(1, 0, now);
    let mut full = node(2, 0);
    full.allocate(&request(&[(CPU, 2.0)])).unwrap();
    table.set_other_node(THERE, Some(full), now);
    table.submit(key(1), cpus(1, 2.0, now));
    table.submit(key(2), cpus(1, 1.0, now));
    table.submit(key(3), cpus(1, 1.0, now));
    assert_eq!(table.pump(now), [Decision::Placed(key(2))]);
    let at = table
        .next_deadline()
        .expect("somebody waits elsewhere soon");
    assert!(at > now);
    assert_eq!(table.pump(at), [Decision::Forward(key(1), THERE)]);
    assert_eq!(
        table.next_deadline(),
        None,
        "this node can serve the other one"
    );
    assert!(
        table
            .take_back_forwarded(at + Duration::from_secs(5))
            .is_empty()
    );
}
