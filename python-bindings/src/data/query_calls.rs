//! Functions that a query in SQL calls and that Python makes steps of.

use std::cell::RefCell;

use aktis_data::PlanError;
use aktis_data::plan::{Called, Dataset, QueryArgument, QueryFunction};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrow_py::{batch_to_py, schema_from_py};
use super::plan::PyPlan;

/// Name, what it returns, whether it takes values, what makes a step of a call; see `Sources.sql`.
#[derive(FromPyObject)]
pub(crate) struct QueryCall<'py>(String, Bound<'py, PyAny>, bool, Bound<'py, PyAny>);

impl<'py> QueryCall<'py> {
    /// The function as the planner takes it. What Python raises when it makes a step is put into `raised`.
    pub(crate) fn function<'a>(
        self,
        raised: &'a RefCell<Option<PyErr>>,
    ) -> PyResult<QueryFunction<'a>>
    where
        'py: 'a,
    {
        let Self(name, returns, takes_values, step) = self;
        let schema = schema_from_py(&returns)?;
        let [returned] = schema.fields().as_ref() else {
            return Err(PyValueError::new_err("a function returns one column"));
        };
        let returns = returned.data_type().clone();
        let called = name.clone();
        let step = move |rows: &Dataset, arguments: &[QueryArgument], column: &str| {
            make_step(&step, rows, arguments, column).map_err(|error| {
                let text = format!("sql(): {called}(): {error}");
                raised.replace(Some(error));
                PlanError::InvalidArgument(text)
            })
        };
        Ok(QueryFunction {
            name,
            returns,
            takes_values,
            step: Box::new(step),
        })
    }
}

fn make_step(
    step: &Bound<'_, PyAny>,
    rows: &Dataset,
    arguments: &[QueryArgument],
    column: &str,
) -> PyResult<Called> {
    let py = step.py();
    let argument = |argument: &QueryArgument| match argument {
        QueryArgument::Column(name) => name.into_bound_py_any(py),
        QueryArgument::Value(value) => batch_to_py(py, value),
    };
    let arguments: PyResult<Vec<_>> = arguments.iter().map(argument).collect();
    let plan = PyPlan::new(rows.clone());
    let made = step.call1((plan, arguments?, column))?;
    let (plan, columns): (PyRef<'_, PyPlan>, Vec<String>) = made.extract()?;
    Ok(Called {
        dataset: plan.dataset.clone(),
        columns,
    })
}
