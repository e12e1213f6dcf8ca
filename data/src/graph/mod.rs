//! The intermediate form of a job: a graph of stages, cut from a plan, fitted to a cluster.

mod beside;
mod check;
mod cut;
mod edge;
mod exchange;
mod fit;
mod fold;
mod fork;
mod fragment;
mod group;
mod identity;
mod job;
mod join;
mod legs;
#[cfg(test)]
mod legs_tests;
mod names;
mod operator;
mod output;
mod outputs;
mod partition;
mod query;
mod ranges;
mod size;
mod task;
#[cfg(test)]
mod tests;
mod unnest;
mod window;

pub use edge::{Edge, EdgeKind};
pub(crate) use fit::shortage;
pub use fit::{FitError, awaited_nodes, fit, fit_with_lost};
pub use fold::{Fold, FoldCall};
pub use fragment::{
    Aggregate, AggregateCall, AggregateFunction, AggregatePhase, Bounds, Fragment, Sort,
};
pub(crate) use group::GroupRoom;
pub use group::StageGroup;
pub(crate) use job::SourcePlan;
pub use job::{JobPlan, PlannedStep, StagePlan};
pub use join::{Join, JoinKind, JoinNaming};
pub use legs::KeptFunctions;
pub(crate) use legs::{Leg, LegTable, Legs};
pub(crate) use names::names_of;
pub(crate) use operator::block_rows_of;
pub use operator::{Function, MapCall, NamedExpression, Operator, Unnest};
pub(crate) use output::StageEnd;
pub use output::{JobOutput, PlannedOutput};
pub(crate) use outputs::plan_job_apart;
pub use outputs::{explain_outputs, plan_job, plan_outputs, plan_to_identify};
pub use partition::{PartitionBy, Partitioner, RangeKey};
pub(crate) use ranges::SortRoom;
pub use task::{GroupMember, GroupTask, StageTask};
pub use window::{Window, WindowCall};
