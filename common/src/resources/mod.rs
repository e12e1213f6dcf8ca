//! Resources of nodes and requests, counted in fixed point.
//!
//! ```text
//!  quantity   Quantity: 1/10000 of a unit        set      ResourceSet: name -> Quantity
//!  request    ResourceRequest: what is asked for  node     NodeResources: what a node has, allocate / release
//! ```
//!
//! # Invariants
//! - `RES-1 (never-over-commit)`: an allocation is only made out of what is free. The one exception is a worker that
//!   wakes from a blocking `get`: it takes its CPUs back at once, and CPU may be negative until others finish.
//! - `RES-2 (fractions-never-straddle)`: a share below one GPU lies on one device; whole GPUs are wholly free devices.
//! - `RES-3 (release-restores)`: releasing every allocation gives back exactly the starting state.

mod node;
mod quantity;
mod request;
mod set;

pub use node::{Allocation, GpuDevice, NodeResources};
pub use quantity::{Quantity, QuantityError};
pub use request::{RequestError, ResourceRequest};
pub use set::{ResourceSet, format_bytes};

/// Name of processor cores.
pub const CPU: &str = "CPU";
/// Name of graphics processors.
pub const GPU: &str = "GPU";
/// Name of main memory, in bytes.
pub const MEMORY: &str = "memory";
/// Name of object store memory, in bytes.
pub const OBJECT_STORE_MEMORY: &str = "object_store_memory";
