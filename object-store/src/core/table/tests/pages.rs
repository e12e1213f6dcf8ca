//! Pages made ahead, and idle ones that are given back.

use super::*;

#[test]
fn big_objects_make_memory_ready_for_the_next_one() {
    let mut fixture = Fixture::with(|config| {
        config.capacity_bytes = 256 << 20;
        config.max_prefault_bytes = 64 << 20;
    });
    fixture.put(1, 2 << 20, true);
    let work = fixture.io();
    let ready = Extent {
        offset: 2 << 20,
        len: 4 << 20,
    };
    assert_eq!(work, [StoreEffect::PopulatePages { extent: ready }]);
    work.into_iter().for_each(|effect| fixture.complete(effect));
    let Ok(CreateAnswer::Created(place)) = fixture.create(2, 2 << 20) else {
        panic!("room")
    };
    assert_eq!(place.offset, 2 << 20);
    assert_eq!(fixture.io(), []);
}

/// Objects that come while pages are made lie behind them; those that come later fill what was made, to the last page.
#[test]
fn memory_that_was_made_ready_is_no_gap_that_nothing_fits_into() {
    let size_bytes = (10 << 20) + 128;
    let mut fixture = Fixture::with(|config| {
        config.capacity_bytes = 100 << 20;
        config.max_prefault_bytes = 64 << 20;
    });
    fixture.put(0, size_bytes, true);
    let work = fixture.io();
    fixture.put(1, size_bytes, true);
    work.into_iter().for_each(|effect| fixture.complete(effect));
    for number in 2..9 {
        fixture.put(number, size_bytes, true);
        fixture.do_io();
    }
}

#[test]
fn small_objects_cost_no_memory_ahead() {
    let mut fixture = Fixture::with(|config| config.max_prefault_bytes = 64 << 20);
    fixture.put(1, 500 * KB, true);
    assert_eq!(fixture.io(), []);
}

#[test]
fn idle_memory_is_given_back() {
    let mut fixture = Fixture::with(|config| config.capacity_bytes = 64 << 20);
    fixture.put(1, 8 << 20, true);
    fixture.table.free(oid(1));
    fixture.table.on_tick(Duration::from_secs(59));
    assert_eq!(fixture.io(), []);
    fixture.table.on_tick(Duration::from_secs(61));
    let idle = Extent {
        offset: 0,
        len: 8 << 20,
    };
    assert_eq!(fixture.io(), [StoreEffect::DiscardPages { extent: idle }]);
    // Meanwhile the range is nobody's.
    let Ok(CreateAnswer::Created(place)) = fixture.create(2, 100) else {
        panic!("room")
    };
    assert_eq!(place.offset, 8 << 20);
    fixture.table.abort(A, oid(2)).unwrap();
    fixture.table.pages_discarded(idle);
    fixture.settle();
    assert_eq!(fixture.table.stats().used_bytes, 0);
}
