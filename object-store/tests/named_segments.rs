//! A killed process leaves its named segment behind; the next store of the node removes it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod child;

use std::time::{Duration, Instant};

use aktis_object_store::arena::NamedArena;
use aktis_object_store::sweep_stale;
use child::Child;

const DEADLINE: Duration = Duration::from_secs(30);

fn segments_of(pid: i32) -> Vec<String> {
    let entries = std::fs::read_dir("/dev/shm").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(&format!("aktis-{pid}-")))
        .collect()
}

#[test]
fn the_segment_of_a_killed_process_is_swept() {
    let child = Child::fork(|| {
        let _arena = NamedArena::create(1 << 20);
        loop {
            std::thread::park();
        }
    });
    let (pid, start) = (child.pid(), Instant::now());
    while segments_of(pid).is_empty() {
        assert!(start.elapsed() < DEADLINE, "the child makes a segment");
        std::thread::yield_now();
    }
    // A living process keeps its segment.
    let kept = NamedArena::create(1 << 20).unwrap();
    assert_eq!(segments_of(pid).len(), 1);
    child.kill();
    sweep_stale();
    assert_eq!(segments_of(pid), Vec::<String>::new());
    assert!(segments_of(std::process::id().cast_signed()).contains(&kept.name()[1..].to_owned()));
}
