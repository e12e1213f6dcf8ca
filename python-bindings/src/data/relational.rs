//! From tuples of Python to what is done with all rows of a dataset.

use aktis_data::graph::{AggregateCall, AggregateFunction, Join, JoinKind, JoinNaming, RangeKey};
use aktis_data::plan::{Expression, Grouping, Hint, Joining};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Column, whether large values come first, whether nulls do.
pub(crate) type SortKey = (String, bool, bool);

/// Function, column, name of the result, share of a quantile.
pub(crate) type Call = (String, Option<String>, String, f64);

/// How datasets are joined: kind, keys of the left, keys of the right, suffixes, number of partitions, whether the right goes
/// to all parts of the left.
pub(crate) type JoinOptions = (
    String,
    Vec<String>,
    Vec<String>,
    Option<String>,
    Option<String>,
    u32,
    Option<String>,
);

/// A join as the plan takes it.
pub(crate) fn joining(
    (kind, left_keys, right_keys, left_suffix, right_suffix, partitions, hint): JoinOptions,
) -> PyResult<Joining> {
    let Some(kind) = JoinKind::parse(&kind) else {
        let names: Vec<&str> = JoinKind::names().collect();
        return Err(PyValueError::new_err(format!(
            "join(): join_type must be one of {}, not {kind:?}",
            names.join(", ")
        )));
    };
    let join = Join {
        kind,
        keys: left_keys.into_iter().zip(right_keys).collect(),
        has_equal_nulls: false,
        condition: None,
        is_not_in: false,
        naming: JoinNaming::KeysOnce {
            left_suffix,
            right_suffix,
        },
    };
    let hint = match hint {
        Some(name) => Some(Hint::parse(&name).ok_or_else(|| {
            PyValueError::new_err(format!(
                "join(): hint must be 'broadcast', 'salt' or None, not {name:?}"
            ))
        })?),
        None => None,
    };
    Ok(Joining {
        join,
        partitions,
        hint,
    })
}

/// A key as the plan takes it.
pub(crate) fn range_key((column, is_descending, has_nulls_first): SortKey) -> RangeKey {
    RangeKey {
        column,
        is_descending,
        has_nulls_first,
    }
}

/// One row per group; `outputs`: names and SQL over the keys and the names of the calls.
pub(crate) fn grouping(
    keys: Vec<String>,
    calls: Vec<Call>,
    outputs: Vec<(String, String)>,
) -> PyResult<Grouping> {
    let calls: PyResult<Vec<AggregateCall>> = calls.into_iter().map(call).collect();
    let outputs = outputs.into_iter();
    Ok(Grouping {
        keys,
        calls: calls?,
        outputs: outputs
            .map(|(name, sql)| (name, Expression::Text(sql)))
            .collect(),
    })
}

fn call((function, column, name, share): Call) -> PyResult<AggregateCall> {
    let function = match function.as_str() {
        "count" => AggregateFunction::Count,
        "count_distinct" => AggregateFunction::CountDistinct,
        "sum" => AggregateFunction::Sum,
        "sum_of_floats" => AggregateFunction::SumOfFloats,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "variance" => AggregateFunction::Variance,
        "quantile" => AggregateFunction::Quantile(share.to_bits()),
        "list" => AggregateFunction::List,
        "distinct" => AggregateFunction::Distinct,
        "list_values" => AggregateFunction::ListOfValues,
        "distinct_values" => AggregateFunction::DistinctValues,
        other => {
            return Err(PyValueError::new_err(format!(
                "there is no aggregate function {other:?}"
            )));
        }
    };
    Ok(AggregateCall {
        function,
        column,
        name,
    })
}
