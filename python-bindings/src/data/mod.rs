//! The native half of `aktis.data`: plans, executions, and the host of Python functions in stage workers.

mod arrow_py;
mod columns;
mod errors;
mod execution;
mod expression;
mod host;
mod in_process;
mod jobs;
mod map_options;
mod plain_lists;
mod plan;
mod query_calls;
mod relational;
mod sink;
mod sources;

use aktis_data::operators::turns;
use pyo3::prelude::*;

/// Adds the submodule `data`, and makes this process able to run Python functions in stages.
pub(crate) fn register(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    let data = PyModule::new(py, "data")?;
    data.add_class::<plan::PyPlan>()?;
    data.add_class::<sources::PySources>()?;
    data.add_class::<jobs::PyJobs>()?;
    data.add_class::<expression::PyExpression>()?;
    data.add_class::<execution::PyExecution>()?;
    data.add_class::<execution::PyBlock>()?;
    data.add_function(wrap_pyfunction!(columns::unify_columns, &data)?)?;
    data.add_function(wrap_pyfunction!(columns::settle_columns, &data)?)?;
    data.add_function(wrap_pyfunction!(columns::conform_columns, &data)?)?;
    data.add_function(wrap_pyfunction!(plain_lists::column_of_list, &data)?)?;
    data.add_function(wrap_pyfunction!(begin_wait, &data)?)?;
    data.add_function(wrap_pyfunction!(end_wait, &data)?)?;
    module.add_submodule(&data)?;
    aktis_data::operators::udf::install(Box::new(host::PythonHost));
    Ok(())
}

/// A call of a function begins to wait for its turn: the time is not the call's.
#[pyfunction]
fn begin_wait() {
    turns::begin_wait();
}

/// It waits no more.
#[pyfunction]
fn end_wait() {
    turns::end_wait();
}
