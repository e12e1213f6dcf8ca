//! What happens to rows inside of a stage, one step after the other. How a step is carried out is told in
//! [`operators`](crate::operators), how it travels in `wire`.

use std::num::NonZeroU64;
use std::sync::Arc;

use aktis_inference::ModelSpec;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use prost::Message;

use super::fragment::Fragment;
use crate::block::BlockHandle;
use crate::plan::{
    Batching, CacheSpec, Expectation, Expression, FailurePolicy, Kept, LateStep, MapFunction,
    MapSpec, Produces,
};

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Operator {
    /// Keeps the rows for which the expression is true.
    Filter(Expression),
    /// Computes columns, in this order.
    Project(Vec<NamedExpression>),
    /// Computes columns besides those that are there, or in the place of those of their name.
    Compute(Vec<NamedExpression>),
    /// Keeps these columns, in this order.
    Select(Vec<String>),
    /// Drops these columns.
    Drop(Vec<String>),
    /// Gives columns other names: old name, new name.
    Rename(Vec<(String, String)>),
    /// Brings rows into the form of these columns, by name.
    Conform(SchemaRef),
    /// The same; rows that have others fail, since somebody has relied on these.
    Declare(SchemaRef),
    /// Keeps such a share of the rows (the bits of a 64-bit float between 0 and 1) by chance.
    Sample {
        /// The share.
        share: u64,
        /// What chance begins with.
        seed: u64,
    },
    /// Says how many rows make a block: for what is next, a batch of a function or the end of the stage.
    BlockRows(NonZeroU64),
    /// Judges the rows, which stay as they are.
    Expect(Expectation),
    /// Makes a row of each element of a list.
    Unnest(Unnest),
    /// Works on all rows of an input at once.
    Relational(Fragment),
    /// Calls a function.
    Map(MapCall),
}

/// An expression and the name of its column.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedExpression {
    /// The column.
    pub name: String,
    /// What is in it.
    pub expression: Expression,
}

/// Lists whose elements become rows.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Unnest {
    /// Their columns. Of several the first elements stand beside each other, and so on; shorter lists are filled up with nulls.
    #[prost(string, repeated, tag = "1")]
    pub columns: Vec<String>,
    /// Whether a row without an element stays, with nulls.
    #[prost(bool, tag = "2")]
    pub keeps_empty: bool,
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct MapCall {
    /// For messages.
    pub name: String,
    /// What to call.
    pub function: Function,
    /// The columns that the function gets; `None`: all.
    pub reads: Option<Vec<String>>,
    /// The columns that pass by.
    pub keeps: Kept,
    /// Whether the function tells which rows stay.
    pub is_mask: bool,
    /// Whether one row comes out for one row in.
    pub keeps_rows: bool,
    /// Rows per call; `None`: as many as there are in a block.
    pub batch_rows: Option<u64>,
    /// Which of the values that the worker is made with holds the references of the function.
    pub captured: Option<u32>,
    /// What becomes of rows that it fails for.
    pub failures: FailurePolicy,
    /// Where its results are kept, if they are.
    pub cache: Option<CacheSpec>,
    /// How batches are made besides `batch_rows`.
    pub batching: Batching,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    /// For the [`UdfHost`](crate::operators::udf::UdfHost).
    Python(Bytes),
    /// A native model.
    Model(Box<ModelSpec>),
}

impl Function {
    /// What a plan says, and the object that holds its references.
    pub(crate) fn of(function: &MapFunction) -> (Self, Option<BlockHandle>) {
        match function {
            MapFunction::Python(python) => (
                Self::Python(python.definition.clone()),
                python.captured.clone(),
            ),
            MapFunction::Model(spec) => (Self::Model(spec.clone()), None),
        }
    }
}

impl MapCall {
    /// The call of `map`'s function.
    pub(crate) fn of(map: &MapSpec) -> Self {
        let (function, _) = Function::of(&map.function);
        Self {
            name: map.name.clone(),
            function,
            reads: map.reads.clone(),
            keeps: map.keeps.clone(),
            is_mask: map.produces == Produces::Mask,
            keeps_rows: map.keeps_rows,
            batch_rows: map.batch_rows.map(|rows| rows as u64),
            // Known when all steps of a stage are.
            captured: None,
            failures: map.failures,
            cache: map.cache.clone(),
            batching: map.batching.clone(),
        }
    }
}

impl MapCall {
    /// Whether its calls are looked after one by one, and what one gives waits until it has ended.
    pub(crate) fn is_guarded(&self) -> bool {
        self.failures.is_guarded() || self.batching.is_framed()
    }
}

/// How many rows a block has that leaves these steps; `None`: none of them says so, or rows come or go behind it.
pub(crate) fn block_rows_of<'a>(
    steps: impl DoubleEndedIterator<Item = &'a Operator>,
) -> Option<NonZeroU64> {
    let told = |step: &&Operator| matches!(step, Operator::BlockRows(_)) || !step.keeps_rows();
    match steps.rev().find(told) {
        Some(Operator::BlockRows(rows)) => Some(*rows),
        _ => None,
    }
}

impl Operator {
    /// A step that is bound at run time, and its name.
    pub(crate) fn late(step: &LateStep) -> (&'static str, Self) {
        match step {
            LateStep::Filter(predicate) => ("Filter", Self::Filter(predicate.clone())),
            LateStep::Select(names) => ("Select", Self::Select(names.clone())),
            LateStep::Drop(names) => ("Drop", Self::Drop(names.clone())),
            LateStep::Rename(pairs) => ("Rename", Self::Rename(pairs.clone())),
            LateStep::Declare(columns) => ("Declare", Self::Declare(Arc::clone(columns))),
            LateStep::Unnest(unnest) => ("Unnest", Self::Unnest(unnest.clone())),
            LateStep::Compute(columns) => {
                let column = |(name, expression): &(String, Expression)| NamedExpression {
                    name: name.clone(),
                    expression: expression.clone(),
                };
                (
                    "Compute",
                    Self::Compute(columns.iter().map(column).collect()),
                )
            }
        }
    }

    /// Whether one row comes out for one row in.
    pub(crate) fn keeps_rows(&self) -> bool {
        match self {
            Self::Filter(_) | Self::Relational(_) | Self::Sample { .. } | Self::Unnest(_) => false,
            Self::Map(map) => map.keeps_rows && !map.is_mask && !map.failures.loses_rows(),
            Self::Project(_)
            | Self::Compute(_)
            | Self::Select(_)
            | Self::Drop(_)
            | Self::Rename(_)
            | Self::Conform(_)
            | Self::Declare(_)
            | Self::BlockRows(_)
            | Self::Expect(_) => true,
        }
    }

    /// Whether it calls a Python function.
    pub(crate) fn calls_python(&self) -> bool {
        matches!(self, Self::Map(map) if matches!(map.function, Function::Python(_)))
    }
}
