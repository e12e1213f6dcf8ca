//! Expectations, there and back, and what was found of them.

use aktis_worker::TaskFailure;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use prost::{Message, Oneof};

use super::decode::{expression, incomplete};
use super::expression::ExpressionSpec;
use crate::plan::{Expectation, MostViolations};

/// As [`Expectation`].
#[derive(Clone, PartialEq, Message)]
pub struct ExpectStep {
    /// For people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What is expected to be true.
    #[prost(message, optional, tag = "2")]
    pub expression: Option<ExpressionSpec>,
    /// How many rows may violate it.
    #[prost(oneof = "MostSpec", tags = "3, 4")]
    pub most: Option<MostSpec>,
    /// Whether it is only told when it is broken.
    #[prost(bool, tag = "5")]
    pub only_warns: bool,
}

/// As [`MostViolations`].
#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum MostSpec {
    /// So many.
    #[prost(uint64, tag = "3")]
    Rows(u64),
    /// The bits of a float.
    #[prost(fixed64, tag = "4")]
    Share(u64),
}

/// What an expectation has found in an input so far, in this attempt at it.
#[derive(Clone, PartialEq, Message)]
pub struct Judged {
    /// The expectation, by the place of its step among those of the report.
    #[prost(uint32, tag = "1")]
    pub operator: u32,
    /// Rows that came.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
    /// Of these, those that it does not hold for.
    #[prost(uint64, tag = "3")]
    pub violations: u64,
    /// The numbers of some of these, among the rows that came, if they were not told before.
    #[prost(uint64, repeated, tag = "4")]
    pub numbers: Vec<u64>,
    /// An Arrow stream with a row for each of them.
    #[prost(bytes = "bytes", tag = "5")]
    pub examples: Bytes,
    /// Nothing more comes to it of this input: what was before it has come to its end. If not, the input was not used up when it ended.
    #[prost(bool, tag = "6")]
    pub is_over: bool,
}

pub(super) fn encode(expectation: &Expectation) -> Result<ExpectStep, DataFusionError> {
    Ok(ExpectStep {
        name: expectation.name.clone(),
        expression: Some(ExpressionSpec::of(&expectation.expression)?),
        most: Some(match expectation.most {
            MostViolations::Rows(rows) => MostSpec::Rows(rows),
            MostViolations::Share(share) => MostSpec::Share(share),
        }),
        only_warns: expectation.only_warns,
    })
}

pub(super) fn decode(step: ExpectStep) -> Result<Expectation, TaskFailure> {
    let most = step
        .most
        .ok_or_else(|| incomplete("an expectation", "limit"))?;
    Ok(Expectation {
        name: step.name,
        expression: expression(step.expression)?,
        most: match most {
            MostSpec::Rows(rows) => MostViolations::Rows(rows),
            MostSpec::Share(share) => MostViolations::Share(share),
        },
        only_warns: step.only_warns,
    })
}
