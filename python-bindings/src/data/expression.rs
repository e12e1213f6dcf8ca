//! `_aktis.data.Expression`: an expression on its way into a plan, made piece by piece by `aktis.data._lowering`.

use std::sync::Arc;

use aktis_data::PlanError;
use aktis_data::plan::Expression;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::arrow_py::{batch_from_py, schema_from_py};
use super::errors::plan_error;

/// A part of an expression, or the whole.
#[pyclass(name = "Expression", module = "aktis._aktis.data", frozen)]
pub(crate) struct PyExpression(pub(crate) Expression);

fn made(result: Result<Expression, PlanError>) -> PyResult<PyExpression> {
    result.map(PyExpression).map_err(|error| plan_error(&error))
}

#[pymethods]
impl PyExpression {
    #[staticmethod]
    fn column(name: &str) -> Self {
        Self(Expression::column(name))
    }

    /// The value in a `pyarrow.RecordBatch` of one column and one row.
    #[staticmethod]
    fn literal(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        made(Expression::literal(&batch_from_py(value)?))
    }

    #[staticmethod]
    fn binary(symbol: &str, left: &Self, right: &Self) -> PyResult<Self> {
        made(Expression::binary(symbol, &left.0, &right.0))
    }

    #[staticmethod]
    fn unary(symbol: &str, expression: &Self) -> PyResult<Self> {
        made(Expression::unary(symbol, &expression.0))
    }

    #[staticmethod]
    fn call(name: &str, args: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let args: Vec<Expression> = args.iter().map(|arg| arg.0.clone()).collect();
        made(Expression::call(name, &args))
    }

    /// As the type of the only field of a `pyarrow.Schema`.
    #[staticmethod]
    fn cast(expression: &Self, schema: &Bound<'_, PyAny>, is_try: bool) -> PyResult<Self> {
        let schema = schema_from_py(schema)?;
        let field = Arc::clone(&schema.fields()[0]);
        made(Expression::cast(&expression.0, field, is_try))
    }

    /// Whether it is one of the values of a `pyarrow.RecordBatch` of one column.
    #[staticmethod]
    fn in_list(expression: &Self, values: &Bound<'_, PyAny>) -> PyResult<Self> {
        made(Expression::in_list(&expression.0, &batch_from_py(values)?))
    }

    #[staticmethod]
    fn like(expression: &Self, pattern: &Self, ignores_case: bool) -> PyResult<Self> {
        made(Expression::like(&expression.0, &pattern.0, ignores_case))
    }

    #[staticmethod]
    fn from_bytes(bytes: Vec<u8>) -> PyResult<Self> {
        made(Expression::from_bytes(bytes))
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let bytes = self.0.to_bytes().map_err(|error| plan_error(&error))?;
        let make = py.import("aktis.data._native")?.getattr("expression")?;
        Ok((make, (PyBytes::new(py, &bytes),)))
    }
}
