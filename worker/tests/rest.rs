//! Others have the CPUs of a worker that has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aktis_proto::v1 as wire;
use aktis_worker::Work;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use wire::node_frame::Kind;

const SLICE: Duration = Duration::from_millis(50);

/// What the process says next of its CPUs: whether others may have them.
fn next_word(raylet: &mut RawPeer) -> bool {
    loop {
        match raylet.receive::<wire::NodeFrame>().expect("a frame").0.kind {
            Some(Kind::Blocked(_)) => return true,
            Some(Kind::Unblocked(_)) => return false,
            _ => {}
        }
    }
}

#[test]
fn worker_rests_while_it_has_nothing_to_do_and_takes_its_cpus_again_when_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, mut raylet) = node.join().expect("joined");
    runtime.rest_when_idle();
    let is_over = Arc::new(AtomicBool::new(false));
    let executor = thread::spawn({
        let (runtime, is_over) = (runtime.clone(), Arc::clone(&is_over));
        move || {
            let mut found = 0;
            while !is_over.load(Ordering::Relaxed) {
                if let Some(Work::Exit(_)) = runtime.next_work(Some(SLICE)) {
                    found += 1;
                }
            }
            found
        }
    });
    for _ in 0..2 {
        assert!(next_word(&mut raylet));
        runtime.ask_to_exit("it is work as any other");
        assert!(!next_word(&mut raylet));
    }
    is_over.store(true, Ordering::Relaxed);
    assert_eq!(executor.join().expect("no panic"), 2);
    runtime.shutdown();
}
