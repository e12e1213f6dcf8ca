//! A whole cluster in one thread: the gcs and the raylets are the real ones, with their own loops, services and cores.
//! Links, clock, disks and worker processes are in the test's hands. See the README beside this folder.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test program: what fails here fails a test"
)]

mod random_faults;
mod sandbox;
mod scenarios;
mod torn_files;
