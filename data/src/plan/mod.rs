//! Lazy datasets: a [`Dataset`] is a DataFusion logical plan with [`MapNode`]s in it.

mod aggregates;
mod batching;
mod below_joins;
mod building;
mod compute;
mod computed;
mod dataset;
mod distinct_on;
mod expectation;
pub(crate) mod expressions;
mod failing;
mod first_rows;
pub(crate) mod functions;
mod lateral;
mod lifting;
mod nodes;
mod pivot;
pub(crate) mod planner;
mod query_functions;
mod relational;
mod semi_joins;
mod shared;
mod sql;
#[cfg(test)]
mod tests;
mod unnest;
mod unpivot;
mod values;
mod windows;

pub(crate) use aggregates::aggregate_function;
pub use batching::Batching;
pub use compute::{Compute, ComputeKind, OtherWorkers, PoolSpec};
pub use dataset::Dataset;
pub(crate) use expectation::share_exceeds;
pub use expectation::{Expectation, MostViolations};
pub use expressions::Expression;
pub use failing::{FailurePolicy, OnError};
pub(crate) use functions::asks_for_row_numbers;
pub use nodes::expect::ExpectNode;
pub use nodes::late::{LateNode, LateStep};
pub use nodes::map::{
    CacheSpec, Kept, MapFunction, MapNode, MapSpec, Produces, PythonFunction, embedding_field,
};
pub(crate) use nodes::part::PartNode;
pub(crate) use nodes::relation::columns_of;
pub use nodes::relation::{
    BlockRows, Grouping, Hint, Joining, Relation, RelationNode, Repartition, RepartitionBy,
};
pub use query_functions::{CallStep, Called, QueryArgument, QueryFunction};
pub(crate) use shared::{CommonPart, PartTable, SharedPlans, has_work, is_by_chance, part_of};
pub(crate) use sql::LATERAL;
pub use sql::in_rounds;
pub(crate) use windows::window_function;
