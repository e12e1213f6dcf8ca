//! A node around one runtime, for tests: the raylet and the other processes are what the test makes of them.
//!
//! Nothing here is used by a driver or a worker.

mod raylet;

pub use raylet::{JoinError, PretendedRaylet, RawPeer};
