//! One suite for all arena backends, server and client side.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    unsafe_code,
    reason = "reads memory through raw pointers, as foreign code does"
)]

use std::io::IoSlice;

use aktis_object_store::arena::{Arena, NamedArena, ProcessLocalArena, page_bytes};
use aktis_object_store::{ArenaError, ArenaHandle, ArenaMap};

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
    assert!(
        arena
            .slice(0, arena.len_bytes())
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
}

fn bytes_written_by_the_server_are_seen_by_clients(arena: &dyn Arena) {
    let (map, value) = (client(arena), pattern(300_001, 1));
    let (head, tail) = value.split_at(7);
    let parts = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)];
    arena.write_at(64, &parts).unwrap();
    assert_eq!(map.view(64, 300_001).unwrap(), value);
    assert_eq!(arena.slice(64, 300_001).unwrap(), value);
}

fn bytes_written_by_a_client_are_seen_by_others(arena: &dyn Arena) {
    let (writer, reader, value) = (client(arena), client(arena), pattern(5 << 20, 2));
    writer
        .write_vectored(1 << 20, &[&value[..100], &[], &value[100..]])
        .unwrap();
    assert_eq!(reader.view(1 << 20, 5 << 20).unwrap(), value);
    assert_eq!(writer.view(1 << 20, 5 << 20).unwrap(), value);
    assert_eq!(arena.slice(1 << 20, 5 << 20).unwrap(), value);
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
            map.write_vectored(offset, &[&value[..middle], &value[middle..]])
                .unwrap();
            assert!(
                map.view(offset, len as u64).unwrap() == value,
                "round {round}, {len} bytes"
            );
            offset += (len as u64).next_multiple_of(page);
        }
    }
}

fn objects_can_be_built_in_place(arena: &dyn Arena) {
    let (map, reader) = (client(arena), client(arena));
    for (offset, len) in [(64, 100), (128 << 10, 64 << 10), (1 << 20, (3 << 20) + 5)] {
        let value = pattern(len, offset);
        let mut range = map.writable(offset, len as u64).unwrap();
        assert_eq!(range.len(), len);
        assert_eq!(range.as_mut_ptr() as usize % 64, 0);
        range.copy_from_slice(&value);
        range.commit().unwrap();
        assert!(
            reader.view(offset, len as u64).unwrap() == value,
            "{len} bytes at {offset}"
        );
    }
}

fn neighbours_of_a_written_range_are_untouched(arena: &dyn Arena) {
    let map = client(arena);
    let before = pattern(LEN as usize, 3);
    arena.write_at(0, &[IoSlice::new(&before)]).unwrap();
    let (start, len) = (4 << 20, 3 << 20);
    map.write_vectored(start, &[&vec![0xAA; len as usize]])
        .unwrap();
    map.write_vectored(64, &[&[0xBB; 64]]).unwrap();
    let mut range = map.writable(8 << 20, 1 << 20).unwrap();
    range.fill(0xCC);
    range.commit().unwrap();

    let mut expected = before;
    expected[4 << 20..7 << 20].fill(0xAA);
    expected[64..128].fill(0xBB);
    expected[8 << 20..9 << 20].fill(0xCC);
    assert!(arena.slice(0, LEN).unwrap() == expected);
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
        assert!(arena.slice(offset, len).is_err_and(refused));
        assert!(arena.prefault(offset, len).is_err_and(refused));
        assert!(arena.discard(offset, len).is_err_and(refused));
        assert!(map.view(offset, len).is_err_and(refused));
        assert!(map.as_ptr(offset, len).is_err_and(refused));
        assert!(map.writable(offset, len).is_err_and(refused));
    }
    assert!(arena.write_at(LEN - 1, &[IoSlice::new(b"ab")]).is_err());
    assert!(map.write_vectored(LEN - 1, &[b"a", b"b"]).is_err());
    assert!(map.view(LEN, 0).unwrap().is_empty());
    map.write_vectored(LEN, &[]).unwrap();
}

fn prefault_keeps_bytes_and_discard_forgets_only_its_range(arena: &dyn Arena) {
    let map = client(arena);
    let value = pattern(4 << 20, 4);
    map.write_vectored(0, &[&value]).unwrap();
    arena.prefault(0, 8 << 20).unwrap();
    assert!(map.view(0, 4 << 20).unwrap() == value);

    arena.discard((1 << 20) + 10, 1 << 20).unwrap();
    assert!(map.view(0, 1 << 20).unwrap() == &value[..1 << 20]);
    assert!(map.view(3 << 20, 1 << 20).unwrap() == &value[3 << 20..]);
    // What was discarded can be written again.
    map.write_vectored(1 << 20, &[&value[..1 << 20]]).unwrap();
    assert!(map.view(1 << 20, 1 << 20).unwrap() == &value[..1 << 20]);
    arena.discard(5, 100).unwrap();
    assert!(map.view(0, 1 << 20).unwrap() == &value[..1 << 20]);
}

fn a_view_outlives_the_server_side(arena: impl Arena) {
    let map = client(&arena);
    map.write_vectored(0, &[b"still here"]).unwrap();
    let start = map.as_ptr(0, 10).unwrap();
    drop(arena);
    // SAFETY: `map` still maps the range.
    let bytes = unsafe { std::slice::from_raw_parts(start, 10) };
    assert_eq!(bytes, b"still here");
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
