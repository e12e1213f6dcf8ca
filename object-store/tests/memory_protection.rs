//! `OBJ-3 (sealed-is-immutable)`: what a client maps cannot be written, outside the range it is
//! creating. A write that is not allowed kills the process that tries it, so each is tried in a
//! forked child.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "writes where it must not")]

mod ranges;

use std::sync::Arc;

use aktis_object_store::ArenaMap;
use aktis_object_store::arena::{Arena, MemfdArena, NamedArena, page_bytes};
use ranges::{creating, sealed, write};

const LEN: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// The signal that kills a child which writes one byte at `target`, if one does.
fn signal_of_writing(target: *mut u8) -> Option<i32> {
    // SAFETY: the child only writes a byte and exits; it allocates and locks nothing.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // SAFETY: none: this is what is being tested. If the page is not writable the child dies.
        unsafe { target.write_volatile(1) };
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid);
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

/// Start and length of the writable mapping that begins at `start`.
fn mapping_at(start: *mut u8) -> (usize, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let writable = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let from = usize::from_str_radix(from, 16).ok()?;
        let to = usize::from_str_radix(to, 16).ok()?;
        rest.starts_with("rw-s")
            .then_some((from, (to - from) as u64))
    });
    let mut at_start = writable.filter(|(from, _)| *from == start as usize);
    at_start.next().expect("the range is mapped on its own")
}

/// Where the byte at `offset` lies for a reader.
fn start_of(map: &ArenaMap, offset: u64) -> *mut u8 {
    sealed(map, offset, 1).unwrap().as_ptr().cast_mut()
}

fn maps() -> [(ArenaMap, Box<dyn Arena>); 2] {
    let memfd = MemfdArena::create(LEN).unwrap();
    let named = NamedArena::create(LEN).unwrap();
    [
        (
            ArenaMap::from_handle(memfd.handle().unwrap()).unwrap(),
            Box::new(memfd),
        ),
        (
            ArenaMap::from_handle(named.handle().unwrap()).unwrap(),
            Box::new(named),
        ),
    ]
}

#[test]
fn writing_through_a_view_faults() {
    for (map, _arena) in maps() {
        let start = start_of(&map, 0);
        assert_eq!(signal_of_writing(start), Some(libc::SIGSEGV));
    }
}

#[test]
fn a_view_faults_also_after_its_range_was_written() {
    for (map, arena) in maps() {
        arena.memory().prefault(0, LEN).unwrap();
        // Cold, warm and mapped pages are written in different ways.
        for _ in 0..3 {
            write(&map, MIB, &[&vec![1; 5 << 20]]).unwrap();
            for at in [0, MIB, 3 * MIB, 6 * MIB - 1, 6 * MIB] {
                let start = start_of(&map, at);
                assert_eq!(signal_of_writing(start), Some(libc::SIGSEGV), "at {at}");
            }
        }
    }
}

#[test]
fn a_range_that_is_looked_at_while_it_is_written_is_closed_afterwards() {
    for (map, arena) in maps() {
        arena.memory().prefault(0, LEN).unwrap();
        let value = vec![1; 8 << 20];
        // Twice by the file, then by the mapping.
        (0..2).for_each(|_| write(&map, 0, &[&value]).unwrap());
        let start = start_of(&map, MIB);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..20).for_each(|_| write(&map, 0, &[&value]).unwrap());
            });
            // As if a node had granted it to a reader as well (it must not, RANGE-1). No byte is read meanwhile.
            while !writer.is_finished() {
                drop(sealed(&map, MIB, 1).unwrap());
            }
        });
        drop(sealed(&map, MIB, 1).unwrap());
        assert_eq!(signal_of_writing(start), Some(libc::SIGSEGV));
    }
}

#[test]
fn a_writable_range_reaches_only_its_own_pages() {
    for (map, arena) in maps() {
        let len = 64 * 1024 + 1;
        let mut range = creating(&map, MIB, len).unwrap().in_place().unwrap();
        let start = range.as_mut_ptr();
        assert_eq!(signal_of_writing(start), None);
        let memory = ArenaMap::from_memory(Arc::clone(arena.memory()));
        assert_eq!(*sealed(&memory, MIB, 1).unwrap(), [1]);
        // Not written to: what lies beside it in this process may belong to another test.
        assert_eq!(
            mapping_at(start),
            (start as usize, len.next_multiple_of(page_bytes()))
        );
        // The view of the same bytes stays read-only.
        let view = start_of(&map, MIB);
        assert_eq!(signal_of_writing(view), Some(libc::SIGSEGV));
    }
}

#[test]
fn a_small_writable_range_reaches_no_arena_page_at_all() {
    for (map, arena) in maps() {
        let memory = ArenaMap::from_memory(Arc::clone(arena.memory()));
        let mut range = creating(&map, 64, 100).unwrap().in_place().unwrap();
        for at in 0..page_bytes() as usize {
            // SAFETY: the staging memory is whole pages.
            unsafe { range.as_mut_ptr().add(at).write_volatile(9) };
        }
        let page = |offset| sealed(&memory, offset, page_bytes()).unwrap();
        assert!(page(0).iter().all(|byte| *byte == 0));
        range.commit().unwrap();
        assert_eq!(page(0)[64..164], [9; 100]);
        assert!(page(164).iter().all(|byte| *byte == 0));
    }
}
