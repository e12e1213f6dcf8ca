//! The intermediate form of a job: a graph of stages, cut from a plan, fitted to a cluster.

mod cut;
mod fit;
mod job;
mod operator;
mod task;
#[cfg(test)]
mod tests;

pub use cut::plan_job;
pub use fit::{FitError, awaited_nodes, fit, fit_with_lost};
pub use job::{Edge, EdgeKind, JobPlan, PlannedStep, StagePlan};
pub use operator::{Function, MapCall, NamedExpression, Operator};
pub use task::StageTask;
