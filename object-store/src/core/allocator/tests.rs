//! Sequences of requests, by hand and at random.

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;
const NOW: Duration = Duration::ZERO;

#[test]
fn freed_memory_is_used_again_before_untouched_memory() {
    let mut allocator = Allocator::new(1 << 20, PAGE);
    let first = allocator.allocate(200_000).unwrap();
    allocator.free(first, NOW);
    assert_eq!(allocator.allocate(200_000), Some(first));
    assert_eq!(allocator.high_water(), first.end());
}

#[test]
fn among_equal_pieces_the_most_recently_freed_is_taken() {
    let mut allocator = Allocator::new(1 << 20, PAGE);
    let extents: Vec<_> = (0..5).map(|_| allocator.allocate(1024).unwrap()).collect();
    allocator.free(extents[3], NOW);
    allocator.free(extents[1], NOW);
    assert_eq!(allocator.allocate(1024), Some(extents[1]));
}

#[test]
fn a_large_object_has_its_pages_to_itself() {
    let mut allocator = Allocator::new(1 << 20, PAGE);
    allocator.allocate(100).unwrap();
    let large = allocator.allocate(PAGE_ALIGNED_FROM_BYTES + 1).unwrap();
    assert_eq!((large.offset % PAGE, large.len % PAGE), (0, 0));
}

#[test]
fn the_whole_arena_can_be_one_object() {
    let mut allocator = Allocator::new(1 << 20, PAGE);
    assert_eq!(
        allocator.allocate(1 << 20),
        Some(Extent {
            offset: 0,
            len: 1 << 20
        })
    );
    assert_eq!(allocator.allocate(1), None);
}

#[test]
fn a_size_near_the_integer_limit_is_refused() {
    let mut allocator = Allocator::new(1 << 20, PAGE);
    assert_eq!(allocator.allocate(u64::MAX), None);
}

#[test]
fn discarded_memory_at_the_end_becomes_untouched_again() {
    let mut allocator = Allocator::new(1 << 20, PAGE);
    let kept = allocator.allocate(1 << 16).unwrap();
    let freed = allocator.allocate(1 << 18).unwrap();
    allocator.free(freed, Duration::from_secs(1));
    assert_eq!(allocator.reserve_idle(Duration::from_secs(1), 1), None);
    let idle = allocator.reserve_idle(Duration::from_secs(2), 1).unwrap();
    allocator.free_discarded(idle, Duration::from_secs(3));
    assert_eq!((idle, allocator.high_water()), (freed, kept.end()));
    allocator.check_invariants().unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(u64),
    Free(prop::sample::Index),
    ReserveTail(u64),
    ReserveIdle,
    FreeDiscarded(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0..5_000u64, 60_000..80_000u64, 100_000..600_000u64];
    let step = prop_oneof![
        4 => size.prop_map(Step::Allocate),
        3 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => (0..300_000u64).prop_map(Step::ReserveTail),
        1 => Just(Step::ReserveIdle),
        1 => any::<prop::sample::Index>().prop_map(Step::FreeDiscarded),
    ];
    prop::collection::vec(step, 1..120)
}

fn apply(allocator: &mut Allocator, live: &mut Vec<Extent>, step: Step) {
    match step {
        Step::Allocate(size) => {
            let free = allocator.largest_free_bytes();
            let extent = allocator.allocate(size);
            // Whatever certainly fits is given.
            assert!(extent.is_some() || allocator.footprint_bytes(size) + PAGE > free);
            live.extend(extent);
        }
        Step::Free(index) if !live.is_empty() => {
            let extent = live.swap_remove(index.index(live.len()));
            allocator.free(extent, NOW);
        }
        Step::FreeDiscarded(index) if !live.is_empty() => {
            let extent = live.swap_remove(index.index(live.len()));
            allocator.free_discarded(extent, NOW);
        }
        Step::ReserveTail(len) => live.extend(allocator.reserve_tail(len)),
        Step::ReserveIdle => live.extend(allocator.reserve_idle(Duration::MAX, 1)),
        Step::Free(_) | Step::FreeDiscarded(_) => {}
    }
}

proptest! {
    /// OBJ-2 (no-overlap), OBJ-5 (no-leak).
    #[test]
    fn extents_never_overlap_and_all_memory_comes_back(steps in steps()) {
        let mut allocator = Allocator::new(2 << 20, PAGE);
        let mut live = Vec::new();
        for step in steps {
            apply(&mut allocator, &mut live, step);
            prop_assert_eq!(allocator.check_invariants(), Ok(()));
        }
        for extent in live {
            allocator.free(extent, NOW);
        }
        prop_assert_eq!(allocator.check_invariants(), Ok(()));
        prop_assert_eq!(allocator.used_bytes(), 0);
        prop_assert_eq!(allocator.largest_free_bytes(), 2 << 20);
        prop_assert!(allocator.allocate(2 << 20).is_some());
    }
}
