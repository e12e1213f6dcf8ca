//! A join, there and back.

use aktis_worker::TaskFailure;
use datafusion_common::DataFusionError;
use prost::Message;

use super::decode::{incomplete, unreadable};
use super::expression::ExpressionSpec;
use crate::graph::{Join, JoinKind, JoinNaming};

/// The kinds of joins; their numbers on the wire are their places here, from 1.
const KINDS: [JoinKind; 9] = [
    JoinKind::Inner,
    JoinKind::LeftOuter,
    JoinKind::RightOuter,
    JoinKind::FullOuter,
    JoinKind::LeftSemi,
    JoinKind::RightSemi,
    JoinKind::LeftAnti,
    JoinKind::RightAnti,
    JoinKind::LeftMark,
];

/// As [`Join`].
#[derive(Clone, PartialEq, Message)]
pub struct JoinSpec {
    /// Which rows come out.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The keys of the left.
    #[prost(string, repeated, tag = "2")]
    pub left_keys: Vec<String>,
    /// The keys of the right, as many.
    #[prost(string, repeated, tag = "3")]
    pub right_keys: Vec<String>,
    /// Nulls are equal.
    #[prost(bool, tag = "4")]
    pub has_equal_nulls: bool,
    /// What must be true besides.
    #[prost(message, optional, tag = "5")]
    pub condition: Option<ExpressionSpec>,
    /// As [`Join::is_not_in`].
    #[prost(bool, tag = "6")]
    pub is_not_in: bool,
    /// Keys come out once; otherwise all columns come out as they are.
    #[prost(message, optional, tag = "7")]
    pub keys_once: Option<SuffixesSpec>,
}

/// As [`JoinNaming::KeysOnce`].
#[derive(Clone, PartialEq, Message)]
pub struct SuffixesSpec {
    /// Of columns of the left.
    #[prost(string, optional, tag = "1")]
    pub left: Option<String>,
    /// Of columns of the right.
    #[prost(string, optional, tag = "2")]
    pub right: Option<String>,
}

pub(super) fn encode(join: &Join) -> Result<JoinSpec, DataFusionError> {
    let place = KINDS.iter().position(|&kind| kind == join.kind);
    let (left_keys, right_keys) = join.keys.iter().cloned().unzip();
    Ok(JoinSpec {
        kind: place
            .and_then(|place| u32::try_from(place + 1).ok())
            .unwrap_or(0),
        left_keys,
        right_keys,
        has_equal_nulls: join.has_equal_nulls,
        condition: join
            .condition
            .as_ref()
            .map(ExpressionSpec::of)
            .transpose()?,
        is_not_in: join.is_not_in,
        keys_once: match &join.naming {
            JoinNaming::Apart => None,
            JoinNaming::KeysOnce {
                left_suffix,
                right_suffix,
            } => Some(SuffixesSpec {
                left: left_suffix.clone(),
                right: right_suffix.clone(),
            }),
        },
    })
}

pub(super) fn decode(spec: JoinSpec) -> Result<Join, TaskFailure> {
    let place = (spec.kind as usize).checked_sub(1);
    let kind = place.and_then(|place| KINDS.get(place));
    let condition = spec.condition.map(ExpressionSpec::into_expression);
    Ok(Join {
        kind: *kind.ok_or_else(|| incomplete("a join", "kind"))?,
        keys: spec.left_keys.into_iter().zip(spec.right_keys).collect(),
        has_equal_nulls: spec.has_equal_nulls,
        condition: condition.transpose().map_err(|error| unreadable(&error))?,
        is_not_in: spec.is_not_in,
        naming: match spec.keys_once {
            None => JoinNaming::Apart,
            Some(suffixes) => JoinNaming::KeysOnce {
                left_suffix: suffixes.left,
                right_suffix: suffixes.right,
            },
        },
    })
}
