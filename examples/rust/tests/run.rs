//! Each example runs to its end, in time, and says what it should.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// Standard output of a program, which must succeed before the deadline.
fn run(program: &str) -> String {
    let mut child = Command::new(program)
        .env("AKTIS_NUM_CPUS", "2")
        .env("AKTIS_OBJECT_STORE_BYTES", "64MiB")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example was built");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            break status;
        }
        if begun.elapsed() > DEADLINE {
            child.kill().expect("a child of this process");
            panic!("{program} did not end within {DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut output = String::new();
    child
        .stdout
        .take()
        .expect("it was piped")
        .read_to_string(&mut output)
        .expect("the example prints text");
    assert!(status.success(), "{program}: {status}: {output}");
    output
}

#[test]
fn tasks_and_actor_finds_pi() {
    let output = run(env!("CARGO_BIN_EXE_tasks_and_actor"));
    assert!(output.contains("20 tasks, 10000000 darts"), "{output}");
    assert!(output.contains("pi is about 3.14"), "{output}");
}
