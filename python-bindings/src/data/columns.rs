//! `_aktis.data.unify_columns` and its kin: the rules by which batches of one dataset go together.

use aktis_data::columns::{self, Misfit};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrow_py::{batch_from_py, batch_to_py, schema_from_py, schema_to_py};
use crate::interpreter_end::detached;

/// Where two schemas come from, for messages.
type Places = (String, String);

fn misfit(misfit: &Misfit, (wanted_at, found_at): &Places) -> PyErr {
    PyValueError::new_err(misfit.between(wanted_at, found_at))
}

/// The columns of both schemas, each of a type that both fit into.
#[pyfunction]
pub(crate) fn unify_columns<'py>(
    py: Python<'py>,
    one: &Bound<'py, PyAny>,
    other: &Bound<'py, PyAny>,
    places: Places,
) -> PyResult<Bound<'py, PyAny>> {
    let unified = columns::unify(&schema_from_py(one)?, &schema_from_py(other)?);
    schema_to_py(py, &*unified.map_err(|error| misfit(&error, &places))?)
}

/// The columns for somebody who has seen rows of `handed` and now gets some of `next`.
#[pyfunction]
pub(crate) fn settle_columns<'py>(
    py: Python<'py>,
    handed: &Bound<'py, PyAny>,
    next: &Bound<'py, PyAny>,
    places: Places,
) -> PyResult<Bound<'py, PyAny>> {
    let settled = columns::settle(&schema_from_py(handed)?, &schema_from_py(next)?);
    schema_to_py(py, &*settled.map_err(|error| misfit(&error, &places))?)
}

/// The rows of a batch with the columns of a schema.
#[pyfunction]
pub(crate) fn conform_columns<'py>(
    py: Python<'py>,
    batch: &Bound<'py, PyAny>,
    schema: &Bound<'py, PyAny>,
    places: Places,
) -> PyResult<Bound<'py, PyAny>> {
    let (batch, schema) = (batch_from_py(batch)?, schema_from_py(schema)?);
    let conformed = detached(py, || columns::conform(&batch, &schema));
    batch_to_py(py, &conformed.map_err(|error| misfit(&error, &places))?)
}
