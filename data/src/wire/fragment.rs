//! Relational work, there and back.

use aktis_worker::TaskFailure;
use datafusion_common::DataFusionError;
use prost::{Message, Oneof};

use super::decode::incomplete;
use super::fold::{self, FoldSpec};
use super::join::{self, JoinSpec};
use super::spec::RangeKeySpec;
use super::window::{self, WindowSpec};
use crate::graph::{
    Aggregate, AggregateCall, AggregateFunction, AggregatePhase, Bounds, Fragment, RangeKey, Sort,
};

/// As [`Fragment`].
#[derive(Clone, PartialEq, Message)]
pub struct FragmentSpec {
    /// What it is.
    #[prost(oneof = "FragmentKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub kind: Option<FragmentKind>,
}

/// As [`Fragment`].
#[derive(Clone, PartialEq, Oneof)]
pub enum FragmentKind {
    /// Orders rows.
    #[prost(message, tag = "1")]
    Sort(SortSpec),
    /// Orders rows by chance, from this seed.
    #[prost(uint64, tag = "2")]
    Shuffle(u64),
    /// Makes one row of many.
    #[prost(message, tag = "3")]
    Aggregate(AggregateSpec),
    /// Puts rows side by side where keys say so.
    #[prost(message, tag = "4")]
    Join(JoinSpec),
    /// Puts rows side by side by their place.
    #[prost(message, tag = "5")]
    Zip(()),
    /// Keeps the first rows of an order.
    #[prost(message, tag = "6")]
    First(SortSpec),
    /// Makes one row of many by functions of SQL.
    #[prost(message, tag = "7")]
    Fold(FoldSpec),
    /// Leaves out so many first rows.
    #[prost(uint64, tag = "8")]
    Skip(u64),
    /// Tells of each row what the rows around it say.
    #[prost(message, tag = "9")]
    Window(WindowSpec),
    /// Tells the keys of some rows.
    #[prost(message, tag = "10")]
    Sample(SortSpec),
    /// Chooses keys that rows are told apart by.
    #[prost(message, tag = "11")]
    Bounds(BoundsSpec),
}

/// An order.
#[derive(Clone, PartialEq, Message)]
pub struct SortSpec {
    /// The most important first.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<RangeKeySpec>,
    /// As [`Sort::limit`].
    #[prost(uint64, optional, tag = "2")]
    pub limit: Option<u64>,
}

/// As [`Bounds`].
#[derive(Clone, PartialEq, Message)]
pub struct BoundsSpec {
    /// The most important first.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<RangeKeySpec>,
    /// As [`Bounds::least`].
    #[prost(uint32, tag = "2")]
    pub least: u32,
    /// As [`Bounds::most`].
    #[prost(uint32, tag = "3")]
    pub most: u32,
}

/// As [`Aggregate`].
#[derive(Clone, PartialEq, Message)]
pub struct AggregateSpec {
    /// From states to results; otherwise from rows to states.
    #[prost(bool, tag = "1")]
    pub is_final: bool,
    /// The columns of the keys.
    #[prost(string, repeated, tag = "2")]
    pub keys: Vec<String>,
    /// What is told of each group.
    #[prost(message, repeated, tag = "3")]
    pub calls: Vec<CallSpec>,
}

/// As [`AggregateCall`].
#[derive(Clone, PartialEq, Message)]
pub struct CallSpec {
    /// What is told.
    #[prost(enumeration = "FunctionCode", tag = "1")]
    pub function: i32,
    /// The bits of the share that a quantile is asked for.
    #[prost(uint64, tag = "2")]
    pub share: u64,
    /// Of which column.
    #[prost(string, optional, tag = "3")]
    pub column: Option<String>,
    /// The column of the result.
    #[prost(string, tag = "4")]
    pub name: String,
}

/// As [`AggregateFunction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FunctionCode {
    /// Nothing: a message of another build.
    Unknown = 0,
    /// How many.
    Count = 1,
    /// How many different ones.
    CountDistinct = 2,
    /// The sum.
    Sum = 3,
    /// The sum as a float.
    SumOfFloats = 4,
    /// The least.
    Min = 5,
    /// The greatest.
    Max = 6,
    /// The variance.
    Variance = 7,
    /// The value at a share.
    Quantile = 8,
    /// All as a list.
    List = 9,
    /// The different ones as a list.
    Distinct = 10,
    /// All but nulls as a list.
    ListOfValues = 11,
    /// The different ones but null as a list.
    DistinctValues = 12,
}

pub(super) fn encode(fragment: &Fragment) -> Result<FragmentSpec, DataFusionError> {
    let kind = match fragment {
        Fragment::Sort(sort) => FragmentKind::Sort(encode_sort(sort)),
        Fragment::First(sort) => FragmentKind::First(encode_sort(sort)),
        Fragment::Sample(keys) => FragmentKind::Sample(SortSpec {
            keys: encode_keys(keys),
            limit: None,
        }),
        Fragment::Bounds(bounds) => FragmentKind::Bounds(BoundsSpec {
            keys: encode_keys(&bounds.keys),
            least: bounds.least,
            most: bounds.most,
        }),
        Fragment::Join(join) => FragmentKind::Join(join::encode(join)?),
        Fragment::Zip => FragmentKind::Zip(()),
        Fragment::Fold(fold) => FragmentKind::Fold(fold::encode(fold)?),
        Fragment::Window(window) => FragmentKind::Window(window::encode(window)?),
        Fragment::Skip(rows) => FragmentKind::Skip(*rows),
        Fragment::Shuffle(seed) => FragmentKind::Shuffle(*seed),
        Fragment::Aggregate(aggregate) => FragmentKind::Aggregate(AggregateSpec {
            is_final: aggregate.phase == AggregatePhase::Final,
            keys: aggregate.keys.clone(),
            calls: aggregate.calls.iter().map(encode_call).collect(),
        }),
    };
    Ok(FragmentSpec { kind: Some(kind) })
}

pub(super) fn encode_key(key: &RangeKey) -> RangeKeySpec {
    RangeKeySpec {
        column: key.column.clone(),
        is_descending: key.is_descending,
        has_nulls_first: key.has_nulls_first,
    }
}

pub(super) fn decode_key(key: RangeKeySpec) -> RangeKey {
    RangeKey {
        column: key.column,
        is_descending: key.is_descending,
        has_nulls_first: key.has_nulls_first,
    }
}

pub(super) fn encode_keys(keys: &[RangeKey]) -> Vec<RangeKeySpec> {
    keys.iter().map(encode_key).collect()
}

pub(super) fn decode_keys(keys: Vec<RangeKeySpec>) -> Vec<RangeKey> {
    keys.into_iter().map(decode_key).collect()
}

fn encode_sort(sort: &Sort) -> SortSpec {
    SortSpec {
        keys: encode_keys(&sort.keys),
        limit: sort.limit,
    }
}

fn decode_sort(spec: SortSpec) -> Sort {
    Sort {
        keys: decode_keys(spec.keys),
        limit: spec.limit,
    }
}

fn encode_call(call: &AggregateCall) -> CallSpec {
    let (function, share) = match call.function {
        AggregateFunction::Count => (FunctionCode::Count, 0),
        AggregateFunction::CountDistinct => (FunctionCode::CountDistinct, 0),
        AggregateFunction::Sum => (FunctionCode::Sum, 0),
        AggregateFunction::SumOfFloats => (FunctionCode::SumOfFloats, 0),
        AggregateFunction::Min => (FunctionCode::Min, 0),
        AggregateFunction::Max => (FunctionCode::Max, 0),
        AggregateFunction::Variance => (FunctionCode::Variance, 0),
        AggregateFunction::Quantile(share) => (FunctionCode::Quantile, share),
        AggregateFunction::List => (FunctionCode::List, 0),
        AggregateFunction::Distinct => (FunctionCode::Distinct, 0),
        AggregateFunction::ListOfValues => (FunctionCode::ListOfValues, 0),
        AggregateFunction::DistinctValues => (FunctionCode::DistinctValues, 0),
    };
    CallSpec {
        function: function.into(),
        share,
        column: call.column.clone(),
        name: call.name.clone(),
    }
}

pub(super) fn decode(spec: FragmentSpec) -> Result<Fragment, TaskFailure> {
    let kind = spec
        .kind
        .ok_or_else(|| incomplete("a relational step", "kind"))?;
    Ok(match kind {
        FragmentKind::Sort(spec) => Fragment::Sort(decode_sort(spec)),
        FragmentKind::First(spec) => Fragment::First(decode_sort(spec)),
        FragmentKind::Sample(spec) => Fragment::Sample(decode_keys(spec.keys)),
        FragmentKind::Bounds(spec) => Fragment::Bounds(Bounds {
            keys: decode_keys(spec.keys),
            least: spec.least,
            most: spec.most,
        }),
        FragmentKind::Join(spec) => Fragment::Join(join::decode(spec)?),
        FragmentKind::Zip(()) => Fragment::Zip,
        FragmentKind::Fold(spec) => Fragment::Fold(fold::decode(spec)?),
        FragmentKind::Window(spec) => Fragment::Window(window::decode(spec)?),
        FragmentKind::Skip(rows) => Fragment::Skip(rows),
        FragmentKind::Shuffle(seed) => Fragment::Shuffle(seed),
        FragmentKind::Aggregate(spec) => {
            let calls: Result<_, TaskFailure> = spec.calls.into_iter().map(decode_call).collect();
            Fragment::Aggregate(Aggregate {
                phase: if spec.is_final {
                    AggregatePhase::Final
                } else {
                    AggregatePhase::Partial
                },
                keys: spec.keys,
                calls: calls?,
            })
        }
    })
}

fn decode_call(spec: CallSpec) -> Result<AggregateCall, TaskFailure> {
    let function = match spec.function() {
        FunctionCode::Unknown => return Err(incomplete("an aggregation", "function")),
        FunctionCode::Count => AggregateFunction::Count,
        FunctionCode::CountDistinct => AggregateFunction::CountDistinct,
        FunctionCode::Sum => AggregateFunction::Sum,
        FunctionCode::SumOfFloats => AggregateFunction::SumOfFloats,
        FunctionCode::Min => AggregateFunction::Min,
        FunctionCode::Max => AggregateFunction::Max,
        FunctionCode::Variance => AggregateFunction::Variance,
        FunctionCode::Quantile => AggregateFunction::Quantile(spec.share),
        FunctionCode::List => AggregateFunction::List,
        FunctionCode::Distinct => AggregateFunction::Distinct,
        FunctionCode::ListOfValues => AggregateFunction::ListOfValues,
        FunctionCode::DistinctValues => AggregateFunction::DistinctValues,
    };
    Ok(AggregateCall {
        function,
        column: spec.column,
        name: spec.name,
    })
}
