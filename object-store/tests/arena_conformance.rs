//! One suite for all arena backends, server and client side.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "discards pages")]

mod ranges;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aktis_object_store::arena::{Arena, NamedArena, ProcessLocalArena, page_bytes};
use aktis_object_store::{ArenaError, ArenaHandle, ArenaMap};
use ranges::{creating, sealed, write};

const LEN: u64 = 16 << 20;

/// Runs the whole suite over arenas made by `$create`.
macro_rules! conformance {
    ($backend:ident, $create:expr) => {
        mod $backend {
            use super::*;

            #[test]
            fn has_whole_pages_and_reads_as_zeros() {
                super::has_whole_pages_and_reads_as_zeros(&$create(5_000_000));
            }

            #[test]
            fn bytes_written_by_the_server_are_seen_by_clients() {
                super::bytes_written_by_the_server_are_seen_by_clients(&$create(LEN));
            }

            #[test]
            fn bytes_written_by_a_client_are_seen_by_others() {
                super::bytes_written_by_a_client_are_seen_by_others(&$create(LEN));
            }

            #[test]
            fn values_of_all_sizes_arrive_on_cold_and_on_warm_pages() {
                super::values_of_all_sizes_arrive_on_cold_and_on_warm_pages(&$create(LEN));
            }

            #[test]
            fn bytes_are_made_where_they_come_to_lie() {
                super::bytes_are_made_where_they_come_to_lie(&$create(48 << 20));
            }

            #[test]
            fn objects_can_be_built_in_place() {
                super::objects_can_be_built_in_place(&$create(LEN));
            }

            #[test]
            fn neighbours_of_a_written_range_are_untouched() {
                super::neighbours_of_a_written_range_are_untouched(&$create(LEN));
            }

            #[test]
            fn ranges_outside_the_arena_are_refused() {
                super::ranges_outside_the_arena_are_refused(&$create(LEN));
            }

            #[test]
            fn parts_that_do_not_fit_their_object_are_refused() {
                super::parts_that_do_not_fit_their_object_are_refused(&$create(LEN));
            }

            #[test]
            fn pieces_of_an_object_come_to_lie_one_after_the_other() {
                super::pieces_of_an_object_come_to_lie_one_after_the_other(&$create(LEN));
            }

            #[test]
            fn prefault_keeps_bytes_and_discard_forgets_only_its_range() {
                super::prefault_keeps_bytes_and_discard_forgets_only_its_range(&$create(LEN));
            }

            #[test]
            fn a_view_outlives_the_server_side() {
                super::a_view_outlives_the_server_side($create(LEN));
            }
        }
    };
}

#[cfg(target_os = "linux")]
conformance!(memfd, |len| aktis_object_store::arena::MemfdArena::create(
    len
)
.unwrap());
conformance!(named, |len| NamedArena::create(len).unwrap());
conformance!(process_local, |len| ProcessLocalArena::create(len).unwrap());

fn client(arena: &dyn Arena) -> ArenaMap {
    ArenaMap::from_handle(arena.handle().unwrap()).unwrap()
}

/// The arena as its own process reads and writes it.
fn server(arena: &dyn Arena) -> ArenaMap {
    ArenaMap::from_memory(Arc::clone(arena.memory()))
}

/// Bytes that are different everywhere.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn has_whole_pages_and_reads_as_zeros(arena: &dyn Arena) {
    assert!(arena.len_bytes() >= 5_000_000);
    assert_eq!(arena.len_bytes() % page_bytes(), 0);
    assert_eq!(client(arena).len_bytes(), arena.len_bytes());
    let all = sealed(&server(arena), 0, arena.len_bytes()).unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
}

fn bytes_written_by_the_server_are_seen_by_clients(arena: &dyn Arena) {
    let (map, value) = (client(arena), pattern(300_001, 1));
    let (head, tail) = value.split_at(7);
    write(&server(arena), 64, &[head, &[], tail]).unwrap();
    assert_eq!(*sealed(&map, 64, 300_001).unwrap(), value);
    assert_eq!(*sealed(&server(arena), 64, 300_001).unwrap(), value);
}

fn bytes_written_by_a_client_are_seen_by_others(arena: &dyn Arena) {
    let (writer, reader, value) = (client(arena), client(arena), pattern(5 << 20, 2));
    let parts = [&value[..100], &[], &value[100..]];
    write(&writer, 1 << 20, &parts).unwrap();
    for map in [&reader, &writer, &server(arena)] {
        assert_eq!(*sealed(map, 1 << 20, 5 << 20).unwrap(), value);
    }
}

fn values_of_all_sizes_arrive_on_cold_and_on_warm_pages(arena: &dyn Arena) {
    let map = client(arena);
    let page = page_bytes();
    // The first round meets cold pages, partly; the later ones pages that are mapped.
    for round in 0..3 {
        let mut offset = 0;
        for len in [
            1,
            63,
            4095,
            65_535,
            65_536,
            65_537,
            100_000,
            2 << 20,
            (5 << 20) + 13,
        ] {
            let value = pattern(len, round * 100 + len as u64);
            let middle = len / 3;
            write(&map, offset, &[&value[..middle], &value[middle..]]).unwrap();
            assert!(
                *sealed(&map, offset, len as u64).unwrap() == value,
                "round {round}, {len} bytes"
            );
            offset += (len as u64).next_multiple_of(page);
        }
    }
}

fn bytes_are_made_where_they_come_to_lie(arena: &dyn Arena) {
    let (map, reader) = (client(arena), client(arena));
    // Cold pages first, then such that were written by this process, then in several threads; one object shares pages with others.
    let (short, long) = (300_000, (5 << 20) + 13);
    for (offset, len) in [
        (0, long),
        (64, short),
        (0, long),
        (8 << 20, 35 << 20),
        (8 << 20, 35 << 20),
    ] {
        let value = pattern(len, offset + len as u64);
        let made = AtomicUsize::new(0);
        let range = creating(&map, offset, len as u64).unwrap();
        let make = |at: usize, into: &mut [u8]| {
            made.fetch_add(into.len(), Ordering::Relaxed);
            into.copy_from_slice(&value[at..at + into.len()]);
        };
        range.write_made(&make).unwrap();
        assert_eq!(made.into_inner(), len, "each byte is made once");
        assert!(
            *sealed(&reader, offset, len as u64).unwrap() == value,
            "{len} bytes at {offset}"
        );
    }
}

fn objects_can_be_built_in_place(arena: &dyn Arena) {
    let (map, reader) = (client(arena), client(arena));
    for (offset, len) in [(64, 100), (128 << 10, 64 << 10), (1 << 20, (3 << 20) + 5)] {
        let value = pattern(len, offset);
        let range = creating(&map, offset, len as u64).unwrap();
        let mut range = range.in_place().unwrap();
        assert_eq!(range.len(), len);
        assert_eq!(range.as_mut_ptr() as usize % 64, 0);
        range.copy_from_slice(&value);
        range.commit().unwrap();
        assert!(
            *sealed(&reader, offset, len as u64).unwrap() == value,
            "{len} bytes at {offset}"
        );
    }
}

fn neighbours_of_a_written_range_are_untouched(arena: &dyn Arena) {
    let map = client(arena);
    let before = pattern(LEN as usize, 3);
    write(&server(arena), 0, &[&before]).unwrap();
    let (start, len) = (4 << 20, 3 << 20);
    write(&map, start, &[&vec![0xAA; len as usize]]).unwrap();
    write(&map, 64, &[&[0xBB; 64]]).unwrap();
    let range = creating(&map, 8 << 20, 1 << 20).unwrap();
    let mut range = range.in_place().unwrap();
    range.fill(0xCC);
    range.commit().unwrap();
    let made = creating(&map, 10 << 20, (2 << 20) + 7).unwrap();
    made.write_made(&|_, into| into.fill(0xDD)).unwrap();

    let mut expected = before;
    expected[4 << 20..7 << 20].fill(0xAA);
    expected[64..128].fill(0xBB);
    expected[8 << 20..9 << 20].fill(0xCC);
    expected[10 << 20..(12 << 20) + 7].fill(0xDD);
    assert!(*sealed(&server(arena), 0, LEN).unwrap() == expected);
}

fn ranges_outside_the_arena_are_refused(arena: &dyn Arena) {
    let map = client(arena);
    for (offset, len) in [
        (LEN, 1),
        (0, LEN + 1),
        (LEN - 1, 2),
        (u64::MAX, 2),
        (2, u64::MAX),
    ] {
        let refused = |error| matches!(error, ArenaError::OutOfBounds { .. });
        for map in [&map, &server(arena)] {
            assert!(sealed(map, offset, len).is_err_and(refused));
            assert!(creating(map, offset, len).is_err_and(refused));
        }
        assert!(arena.memory().prefault(offset, len).is_err_and(refused));
        // SAFETY: nobody uses the arena meanwhile.
        let discarded = unsafe { arena.memory().discard(offset, len) };
        assert!(discarded.is_err_and(refused));
    }
    assert!(sealed(&map, LEN, 0).unwrap().is_empty());
    write(&map, LEN, &[]).unwrap();
}

/// RANGE-1 (alone-while-written): nothing is written beside an object.
fn parts_that_do_not_fit_their_object_are_refused(arena: &dyn Arena) {
    for map in [client(arena), server(arena)] {
        let refused = |error| matches!(error, ArenaError::NotItsSize { .. });
        for parts in [&[&b"abc"[..], b"de"][..], &[b"abc"], &[]] {
            let range = creating(&map, 64, 4).unwrap();
            assert!(range.write(parts).is_err_and(refused), "{parts:?}");
        }
        let mut range = creating(&map, 64, 4).unwrap();
        for (at, part) in [(0, &b"abcde"[..]), (3, b"ab"), (5, b""), (u64::MAX, b"a")] {
            assert!(range.write_at(at, &[part]).is_err_and(refused), "{at}");
        }
        range.write_at(4, &[]).unwrap();
        assert_eq!(*range.freeze().unwrap(), [0; 4]);
        assert_eq!(*sealed(&map, 64, 64).unwrap(), [0; 64]);
    }
}

/// A copy from another node, or from disk, comes in pieces.
fn pieces_of_an_object_come_to_lie_one_after_the_other(arena: &dyn Arena) {
    let value = pattern(5 << 20, 6);
    for (map, offset) in [(client(arena), 1 << 20), (server(arena), 8 << 20)] {
        let mut range = creating(&map, offset, value.len() as u64).unwrap();
        let mut at = 0;
        for len in [1, 4095, 65_536, 3 << 20, value.len() - (3 << 20) - 69_632] {
            let piece = &value[at..at + len];
            range.write_at(at as u64, &[piece]).unwrap();
            at += len;
        }
        assert!(*range.freeze().unwrap() == value);
    }
}

fn prefault_keeps_bytes_and_discard_forgets_only_its_range(arena: &dyn Arena) {
    let map = client(arena);
    let value = pattern(4 << 20, 4);
    write(&map, 0, &[&value]).unwrap();
    arena.memory().prefault(0, 8 << 20).unwrap();
    assert!(*sealed(&map, 0, 4 << 20).unwrap() == value);

    // SAFETY: nobody looks at the arena meanwhile.
    unsafe { arena.memory().discard((1 << 20) + 10, 1 << 20) }.unwrap();
    assert!(*sealed(&map, 0, 1 << 20).unwrap() == value[..1 << 20]);
    assert!(*sealed(&map, 3 << 20, 1 << 20).unwrap() == value[3 << 20..]);
    // What was discarded can be written again.
    write(&map, 1 << 20, &[&value[..1 << 20]]).unwrap();
    assert!(*sealed(&map, 1 << 20, 1 << 20).unwrap() == value[..1 << 20]);
    // SAFETY: nobody looks at the arena meanwhile.
    unsafe { arena.memory().discard(5, 100) }.unwrap();
    assert!(*sealed(&map, 0, 1 << 20).unwrap() == value[..1 << 20]);
}

fn a_view_outlives_the_server_side(arena: impl Arena) {
    let map = client(&arena);
    write(&map, 0, &[b"still here"]).unwrap();
    let view = sealed(&map, 0, 10).unwrap();
    drop((arena, map));
    assert_eq!(*view, *b"still here");
}

#[test]
fn a_handle_that_promises_too_much_is_refused() {
    let arena = NamedArena::create(LEN).unwrap();
    let longer = ArenaMap::from_named(arena.name(), 2 * LEN);
    assert!(matches!(
        longer,
        Err(ArenaError::WrongLength {
            actual_bytes: LEN,
            ..
        })
    ));
    assert!(matches!(
        ArenaMap::from_named("/aktis-none", LEN),
        Err(ArenaError::Open { .. })
    ));
}

#[cfg(target_os = "linux")]
#[test]
fn a_memory_file_that_can_shrink_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LEN).unwrap();
    assert!(matches!(
        ArenaMap::from_memfd(file.into(), LEN),
        Err(ArenaError::Open { .. })
    ));
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_can_shrink_a_memory_file() {
    let arena = aktis_object_store::arena::MemfdArena::create(LEN).unwrap();
    let ArenaHandle::Memfd { fd, .. } = arena.handle().unwrap() else {
        panic!("a memfd")
    };
    assert!(std::fs::File::from(fd).set_len(1).is_err());
}

#[test]
fn a_named_segment_goes_with_its_arena() {
    let arena = NamedArena::create(LEN).unwrap();
    let name = arena.name().to_owned();
    drop(arena);
    assert!(ArenaMap::from_named(&name, LEN).is_err());
}
