//! Aggregation as SQL asks for it, there and back.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use prost::Message;

use super::decode::unreadable;
use super::expression::ExpressionSpec;
use super::fragment::{decode_keys, encode_keys};
use super::spec::RangeKeySpec;
use crate::block;
use crate::graph::{AggregatePhase, Fold, FoldCall};

/// As [`Fold`].
#[derive(Clone, PartialEq, Message)]
pub struct FoldSpec {
    /// From states to results; otherwise from rows to states.
    #[prost(bool, tag = "1")]
    pub is_final: bool,
    /// The columns of the rows, as an Arrow stream of no batches.
    #[prost(bytes = "bytes", tag = "2")]
    pub rows: Bytes,
    /// Those of the keys.
    #[prost(string, repeated, tag = "3")]
    pub keys: Vec<String>,
    /// What is told of each group.
    #[prost(message, repeated, tag = "4")]
    pub calls: Vec<FoldCallSpec>,
    /// As [`Fold::sets`].
    #[prost(message, repeated, tag = "5")]
    pub sets: Vec<SetSpec>,
}

/// One of [`Fold::sets`].
#[derive(Clone, PartialEq, Message)]
pub struct SetSpec {
    /// Which keys are null.
    #[prost(bool, repeated, tag = "1")]
    pub are_null: Vec<bool>,
}

/// As [`FoldCall`].
#[derive(Clone, PartialEq, Message)]
pub struct FoldCallSpec {
    /// The function.
    #[prost(string, tag = "1")]
    pub function: String,
    /// Columns and values.
    #[prost(message, repeated, tag = "2")]
    pub arguments: Vec<ExpressionSpec>,
    /// The column that tells which rows count.
    #[prost(string, optional, tag = "3")]
    pub filter: Option<String>,
    /// Equal rows count once.
    #[prost(bool, tag = "4")]
    pub is_distinct: bool,
    /// Nulls are left out.
    #[prost(bool, tag = "5")]
    pub ignores_nulls: bool,
    /// The column of the result.
    #[prost(string, tag = "6")]
    pub name: String,
    /// The order in which it sees the rows.
    #[prost(message, repeated, tag = "7")]
    pub order: Vec<RangeKeySpec>,
}

pub(super) fn encode(fold: &Fold) -> Result<FoldSpec, DataFusionError> {
    let call = |call: &FoldCall| -> Result<FoldCallSpec, DataFusionError> {
        let arguments: Result<_, DataFusionError> =
            call.arguments.iter().map(ExpressionSpec::of).collect();
        Ok(FoldCallSpec {
            function: call.function.clone(),
            arguments: arguments?,
            filter: call.filter.clone(),
            is_distinct: call.is_distinct,
            ignores_nulls: call.ignores_nulls,
            name: call.name.clone(),
            order: encode_keys(&call.order),
        })
    };
    let sets = fold.sets.iter().map(|set| SetSpec {
        are_null: set.clone(),
    });
    let calls: Result<_, DataFusionError> = fold.calls.iter().map(call).collect();
    Ok(FoldSpec {
        is_final: fold.phase == AggregatePhase::Final,
        rows: block::encode_schema(&fold.rows)?,
        keys: fold.keys.clone(),
        calls: calls?,
        sets: sets.collect(),
    })
}

pub(super) fn decode(spec: FoldSpec) -> Result<Fold, TaskFailure> {
    let call = |call: FoldCallSpec| -> Result<FoldCall, TaskFailure> {
        let arguments = call
            .arguments
            .into_iter()
            .map(ExpressionSpec::into_expression);
        let arguments: Result<_, DataFusionError> = arguments.collect();
        Ok(FoldCall {
            function: call.function,
            arguments: arguments.map_err(|error| unreadable(&error))?,
            filter: call.filter,
            is_distinct: call.is_distinct,
            ignores_nulls: call.ignores_nulls,
            name: call.name,
            order: decode_keys(call.order),
        })
    };
    let calls: Result<_, TaskFailure> = spec.calls.into_iter().map(call).collect();
    let rows = block::decode_schema(spec.rows).map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("read the columns of an aggregation: {error}"),
        )
    })?;
    Ok(Fold {
        phase: if spec.is_final {
            AggregatePhase::Final
        } else {
            AggregatePhase::Partial
        },
        rows,
        keys: spec.keys,
        sets: spec.sets.into_iter().map(|set| set.are_null).collect(),
        calls: calls?,
    })
}
