//! The cluster and what it stands on.

pub mod chance;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod driver;
pub mod frames;
pub mod host;
pub mod invariants;
pub mod log;
pub mod network;
pub mod objects;
pub mod processes;
pub mod run;

pub use cluster::Cluster;
pub use driver::{ActorPlan, Driver, pass};
pub use network::Host;
pub use run::{run, run_seeds};
