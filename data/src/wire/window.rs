//! Windows of SQL, there and back.

use aktis_worker::TaskFailure;
use bytes::Bytes;
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits};
use prost::{Message, Oneof};

use super::decode::{self, incomplete, unreadable};
use super::expression::ExpressionSpec;
use super::fragment::{decode_key, encode_key};
use super::spec::RangeKeySpec;
use crate::block;
use crate::graph::{Window, WindowCall};
use crate::plan::Expression;

/// As [`Window`].
#[derive(Clone, PartialEq, Message)]
pub struct WindowSpec {
    /// The columns of the rows, as an Arrow stream of no batches.
    #[prost(bytes = "bytes", tag = "1")]
    pub rows: Bytes,
    /// What tells rows apart that are not seen together.
    #[prost(string, repeated, tag = "2")]
    pub partition: Vec<String>,
    /// What is told of each row.
    #[prost(message, repeated, tag = "3")]
    pub calls: Vec<WindowCallSpec>,
}

/// As [`WindowCall`].
#[derive(Clone, PartialEq, Message)]
pub struct WindowCallSpec {
    /// The function.
    #[prost(string, tag = "1")]
    pub function: String,
    /// It needs no window.
    #[prost(bool, tag = "2")]
    pub is_aggregate: bool,
    /// Columns and values.
    #[prost(message, repeated, tag = "3")]
    pub arguments: Vec<ExpressionSpec>,
    /// The most important first.
    #[prost(message, repeated, tag = "4")]
    pub order: Vec<RangeKeySpec>,
    /// Which rows it sees.
    #[prost(message, optional, tag = "5")]
    pub frame: Option<FrameSpec>,
    /// The column that tells which rows count.
    #[prost(string, optional, tag = "6")]
    pub filter: Option<String>,
    /// Equal rows count once.
    #[prost(bool, tag = "7")]
    pub is_distinct: bool,
    /// Nulls are left out.
    #[prost(bool, tag = "8")]
    pub ignores_nulls: bool,
    /// The column of the result.
    #[prost(string, tag = "9")]
    pub name: String,
}

/// As [`WindowFrame`].
#[derive(Clone, PartialEq, Message)]
pub struct FrameSpec {
    /// What its bounds count.
    #[prost(enumeration = "UnitsCode", tag = "1")]
    pub units: i32,
    /// Where it begins.
    #[prost(message, optional, tag = "2")]
    pub start: Option<BoundSpec>,
    /// Where it ends.
    #[prost(message, optional, tag = "3")]
    pub end: Option<BoundSpec>,
}

/// As [`WindowFrameUnits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum UnitsCode {
    /// Nothing: a message of another build.
    Unknown = 0,
    /// Rows.
    Rows = 1,
    /// Distances of values.
    Range = 2,
    /// Different values.
    Groups = 3,
}

/// As [`WindowFrameBound`].
#[derive(Clone, PartialEq, Message)]
pub struct BoundSpec {
    /// Which.
    #[prost(oneof = "BoundKind", tags = "1, 2, 3")]
    pub kind: Option<BoundKind>,
}

/// As [`WindowFrameBound`]. A null is the end of the group.
#[derive(Clone, PartialEq, Oneof)]
pub enum BoundKind {
    /// So far before the row.
    #[prost(message, tag = "1")]
    Preceding(ExpressionSpec),
    /// The row.
    #[prost(message, tag = "2")]
    CurrentRow(()),
    /// So far behind the row.
    #[prost(message, tag = "3")]
    Following(ExpressionSpec),
}

pub(super) fn encode(window: &Window) -> Result<WindowSpec, DataFusionError> {
    let calls: Result<_, DataFusionError> = window.calls.iter().map(encode_call).collect();
    Ok(WindowSpec {
        rows: block::encode_schema(&window.rows)?,
        partition: window.partition.clone(),
        calls: calls?,
    })
}

fn encode_call(call: &WindowCall) -> Result<WindowCallSpec, DataFusionError> {
    let arguments = call.arguments.iter().map(ExpressionSpec::of);
    Ok(WindowCallSpec {
        function: call.function.clone(),
        is_aggregate: call.is_aggregate,
        arguments: arguments.collect::<Result<_, _>>()?,
        order: call.order.iter().map(encode_key).collect(),
        frame: Some(encode_frame(&call.frame)?),
        filter: call.filter.clone(),
        is_distinct: call.is_distinct,
        ignores_nulls: call.ignores_nulls,
        name: call.name.clone(),
    })
}

fn encode_frame(frame: &WindowFrame) -> Result<FrameSpec, DataFusionError> {
    let units = match frame.units {
        WindowFrameUnits::Rows => UnitsCode::Rows,
        WindowFrameUnits::Range => UnitsCode::Range,
        WindowFrameUnits::Groups => UnitsCode::Groups,
    };
    Ok(FrameSpec {
        units: units.into(),
        start: Some(encode_bound(&frame.start_bound)?),
        end: Some(encode_bound(&frame.end_bound)?),
    })
}

fn encode_bound(bound: &WindowFrameBound) -> Result<BoundSpec, DataFusionError> {
    let value = |value: &ScalarValue| {
        ExpressionSpec::of(&Expression::Planned(Expr::Literal(value.clone(), None)))
    };
    Ok(BoundSpec {
        kind: Some(match bound {
            WindowFrameBound::Preceding(distance) => BoundKind::Preceding(value(distance)?),
            WindowFrameBound::CurrentRow => BoundKind::CurrentRow(()),
            WindowFrameBound::Following(distance) => BoundKind::Following(value(distance)?),
        }),
    })
}

pub(super) fn decode(spec: WindowSpec) -> Result<Window, TaskFailure> {
    let calls: Result<_, TaskFailure> = spec.calls.into_iter().map(decode_call).collect();
    Ok(Window {
        rows: decode::schema(spec.rows)?,
        partition: spec.partition,
        calls: calls?,
    })
}

fn decode_call(spec: WindowCallSpec) -> Result<WindowCall, TaskFailure> {
    let arguments = spec.arguments.into_iter();
    let arguments: Result<_, DataFusionError> =
        arguments.map(ExpressionSpec::into_expression).collect();
    let frame = spec.frame.ok_or_else(|| incomplete("a window", "frame"))?;
    Ok(WindowCall {
        function: spec.function,
        is_aggregate: spec.is_aggregate,
        arguments: arguments.map_err(|error| unreadable(&error))?,
        order: spec.order.into_iter().map(decode_key).collect(),
        frame: decode_frame(frame)?,
        filter: spec.filter,
        is_distinct: spec.is_distinct,
        ignores_nulls: spec.ignores_nulls,
        name: spec.name,
    })
}

fn decode_frame(spec: FrameSpec) -> Result<WindowFrame, TaskFailure> {
    let units = match spec.units() {
        UnitsCode::Unknown => return Err(incomplete("a frame", "units")),
        UnitsCode::Rows => WindowFrameUnits::Rows,
        UnitsCode::Range => WindowFrameUnits::Range,
        UnitsCode::Groups => WindowFrameUnits::Groups,
    };
    let bound = |bound: Option<BoundSpec>| {
        let kind = bound.and_then(|bound| bound.kind);
        decode_bound(kind.ok_or_else(|| incomplete("a frame", "bounds"))?)
    };
    let (start, end) = (bound(spec.start)?, bound(spec.end)?);
    Ok(WindowFrame::new_bounds(units, start, end))
}

fn decode_bound(kind: BoundKind) -> Result<WindowFrameBound, TaskFailure> {
    let value = |spec: ExpressionSpec| match spec.into_expression() {
        Ok(Expression::Planned(Expr::Literal(value, _))) => Ok(value),
        Ok(_) => Err(incomplete("a frame", "value")),
        Err(error) => Err(unreadable(&error)),
    };
    Ok(match kind {
        BoundKind::Preceding(distance) => WindowFrameBound::Preceding(value(distance)?),
        BoundKind::CurrentRow(()) => WindowFrameBound::CurrentRow,
        BoundKind::Following(distance) => WindowFrameBound::Following(value(distance)?),
    })
}
