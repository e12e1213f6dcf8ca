//! A raylet in one process with a fake gcs, a fake zygote and processes that speak frames by hand.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test program: what fails here fails a test"
)]

mod actors;
mod beside;
mod ends;
mod fake_gcs;
mod full_store;
mod head_away;
mod leases;
mod objects;
mod process;
mod sandbox;
mod two_nodes;
