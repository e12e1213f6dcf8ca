//! From tuples of Python to what is done with all rows of a dataset.

use aktis_data::graph::{AggregateCall, AggregateFunction, RangeKey};
use aktis_data::plan::{Expression, Grouping};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Column, whether large values come first, whether nulls do.
pub(crate) type SortKey = (String, bool, bool);

/// Function, column, name of the result, share of a quantile.
pub(crate) type Call = (String, Option<String>, String, f64);

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
