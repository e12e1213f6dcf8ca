//! Where work goes: pure functions over a view of the cluster.
//!
//! ```text
//!  ClusterView + PlacementRequest ──solve()──► Placement::Node | Wait | Infeasible
//!  requests that wait ──WaitQueue──► the order in which they are tried again
//! ```
//!
//! # Invariants
//! - `SCH-1 (fits-now)`: a node that `solve` names has room for the request, by the view it was given.
//! - `SCH-2 (deterministic)`: equal view and request give an equal placement; chance comes from the request's seed.
//! - `SCH-3 (infeasible-names-what-is-missing)`: a request that no node could serve even if it were empty is
//!   infeasible, never waiting, and its text says what is missing.
//! - `SCH-4 (no-starvation)`: a request that was passed often enough holds what it waits for, and no more; one that could not be
//!   served though all that ends had ended holds nothing.

mod explain;
mod queue;
mod solve;
mod view;

pub use queue::{Attempt, Standing, WaitQueue};
pub use solve::solve;
pub use view::{ClusterView, NodeView, Placement, PlacementRequest, Strategy};
