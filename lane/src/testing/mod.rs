//! The lane without a runtime around it, for the benchmarks: two connections over a socket pair, and the frame codec.
//!
//! ```text
//!   calling thread                         thread "lane-pair"
//!   near reactor ── near connection ═════ far connection ── far reactor
//!                                 socket pair               counts frames, answers every n-th
//! ```
//! Nothing here is used by a driver or a worker.

mod frames;
mod lane_pair;

pub use frames::FrameStream;
pub use lane_pair::{LanePair, LanePairError};
