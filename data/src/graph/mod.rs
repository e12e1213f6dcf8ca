//! From a plan to stages: what each worker does, and what the inputs are.

mod cut;
mod fit;
#[cfg(test)]
mod tests;

pub(crate) use cut::SourcePlan;
pub use cut::{JobPlan, ParquetOutput, PlannedStep, Sink, StagePlan, plan_job};
pub use fit::{FitError, awaited_nodes, fit, fit_with_lost};
