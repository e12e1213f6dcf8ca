//! The lane without a runtime around it, for the benchmarks: two connections over a socket pair, and the frame codec.
//!
//! ```text
//!   calling thread                         thread "lane-pair"
//!   near reactor ── near connection ═════ far connection ── far reactor
//!                                 socket pair               counts frames, answers every n-th
//! ```
//! And a node around one runtime, for tests: the raylet and the other processes are what the test makes of them.
//!
//! Nothing here is used by a driver or a worker.

mod frames;
mod lane_pair;
mod raylet;

pub use frames::{FrameStream, encode_frame};
pub use lane_pair::{LanePair, LanePairError};
pub use raylet::{JoinError, PretendedRaylet, RawPeer};
