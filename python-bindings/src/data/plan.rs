//! `_aktis.data.Plan`: a lazy dataset. What it begins with: [`sources`](super::sources); what runs it: [`jobs`](super::jobs).

use std::num::NonZeroU64;
use std::path::PathBuf;

use aktis_data::graph::{Unnest, plan_job};
use aktis_data::operators::model::{model_files, model_map};
use aktis_data::plan::{
    Batching, BlockRows, Compute, Dataset, Expectation, Expression, MapSpec, MostViolations,
    Produces, RepartitionBy,
};
use aktis_data::{PlanError, Sink};
use aktis_inference::ModelSpec;
use arrow::datatypes::Schema;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrow_py::{schema_from_py, schema_to_py};
use super::errors::plan_error;
use super::execution::PyExecution;
use super::expression::PyExpression;
use super::map_options::{BatchingOptions, ComputeOptions, FailureOptions, MapOptions, cache_spec};
use super::relational::{self, Call, JoinOptions, SortKey};
use crate::interpreter_end::detached;
use crate::object_ref::PyObjectRef;

/// A description of data and of what happens to it.
#[pyclass(name = "Plan", module = "aktis._aktis.data", frozen)]
pub(crate) struct PyPlan {
    pub(super) dataset: Dataset,
    /// How many parts its source shall be read in, if the user said so.
    pub(super) parts: Option<u64>,
}

/// What a filter is given.
#[derive(FromPyObject)]
enum Predicate<'py> {
    Text(String),
    Tree(PyRef<'py, PyExpression>),
}

impl PyPlan {
    pub(crate) fn new(dataset: Dataset) -> Self {
        Self {
            dataset,
            parts: None,
        }
    }

    /// What it describes, over its files as they are now.
    pub(super) fn now(&self, py: Python<'_>) -> PyResult<Dataset> {
        let now = detached(py, || self.dataset.as_files_are_now());
        now.map_err(|error| plan_error(&error))
    }

    /// What follows from this plan.
    fn then(&self, result: Result<Dataset, PlanError>) -> PyResult<Self> {
        let Self { dataset, .. } = made(result)?;
        Ok(Self {
            dataset,
            parts: self.parts,
        })
    }
}

pub(super) fn made(result: Result<Dataset, PlanError>) -> PyResult<PyPlan> {
    result.map(PyPlan::new).map_err(|error| plan_error(&error))
}

#[pymethods]
impl PyPlan {
    #[pyo3(signature = (*, definition, captured, name, compute, batch_rows=None, window_rows=0, reads=None, keeps=None, keeps_all_except=None,
                        keeps_rows=false, is_mask=false, produces=None, failures=None, cache=None, batching=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn map(
        &self,
        definition: Vec<u8>,
        captured: Option<PyRef<'_, PyObjectRef>>,
        name: String,
        compute: ComputeOptions<'_>,
        batch_rows: Option<usize>,
        window_rows: usize,
        reads: Option<Vec<String>>,
        keeps: Option<Vec<String>>,
        keeps_all_except: Option<Vec<String>>,
        keeps_rows: bool,
        is_mask: bool,
        produces: Option<Bound<'_, PyAny>>,
        failures: Option<FailureOptions>,
        cache: Option<(String, String)>,
        batching: Option<BatchingOptions>,
    ) -> PyResult<Self> {
        let produces = produces.as_ref().map(schema_from_py).transpose()?;
        let compute = compute.to_compute()?;
        let options = MapOptions {
            definition,
            captured: captured.map(|captured| captured.reference().clone()),
            name,
            compute,
            batch_rows,
            window_rows,
            reads,
            keeps,
            keeps_all_except,
            keeps_rows,
            is_mask,
            produces,
            failures: FailureOptions::policy(failures.as_ref())?,
            cache: cache_spec(cache),
            batching: batching.map(Batching::from).unwrap_or_default(),
        };
        self.then(self.dataset.map(options.into_spec()))
    }

    /// Adds a native model, described by JSON.
    #[pyo3(signature = (spec, compute, failures=None, cache=None))]
    fn model(
        &self,
        spec: &str,
        compute: ComputeOptions<'_>,
        failures: Option<FailureOptions>,
        cache: Option<(String, String)>,
    ) -> PyResult<Self> {
        let cache = cache_spec(cache);
        let failures = FailureOptions::policy(failures.as_ref())?;
        let map = model_map(model_spec(spec)?, compute.to_compute()?);
        self.then(map.and_then(|map| {
            self.dataset.map(MapSpec {
                failures,
                cache,
                ..map
            })
        }))
    }

    /// The files that make a native model what it is; a folder stands for all that is in it.
    #[staticmethod]
    fn model_files(spec: &str) -> PyResult<Vec<PathBuf>> {
        model_files(&model_spec(spec)?).map_err(|error| plan_error(&error))
    }

    /// The columns that a native model reads, and those that it adds as a `pyarrow.Schema`.
    #[staticmethod]
    fn model_columns<'py>(
        py: Python<'py>,
        spec: &str,
    ) -> PyResult<(Vec<String>, Bound<'py, PyAny>)> {
        let map = model_map(model_spec(spec)?, Compute::actors());
        let map = map.map_err(|error| plan_error(&error))?;
        let added = match map.produces {
            Produces::Fields(fields) => fields,
            Produces::Unknown | Produces::Mask => Vec::new(),
        };
        let added = schema_to_py(py, &Schema::new(added))?;
        Ok((map.reads.unwrap_or_default(), added))
    }

    /// The same rows, judged by SQL text or an `Expression`. `most`: how many may violate it; `share`: which share of them.
    #[pyo3(signature = (predicate, *, name, most, share, only_warns))]
    fn expect(
        &self,
        predicate: Predicate<'_>,
        name: String,
        most: Option<u64>,
        share: Option<f64>,
        only_warns: bool,
    ) -> PyResult<Self> {
        let share = share.map(|share| MostViolations::Share(share.to_bits()));
        let expectation = Expectation {
            name,
            expression: match &predicate {
                Predicate::Text(text) => Expression::from(text.as_str()),
                Predicate::Tree(tree) => tree.0.clone(),
            },
            most: share.unwrap_or(MostViolations::Rows(most.unwrap_or(0))),
            only_warns,
        };
        self.then(self.dataset.expect(expectation))
    }

    /// The same rows, of which nothing is expected.
    fn without_expectations(&self) -> PyResult<Self> {
        self.then(self.dataset.without_expectations())
    }

    /// By SQL text or by an `Expression`.
    fn filter(&self, predicate: Predicate<'_>) -> PyResult<Self> {
        self.then(match predicate {
            Predicate::Text(text) => self.dataset.filter(text.as_str()),
            Predicate::Tree(tree) => self.dataset.filter(tree.0.clone()),
        })
    }

    fn with_columns(&self, columns: Vec<(String, PyRef<'_, PyExpression>)>) -> PyResult<Self> {
        let column =
            |(name, tree): &(String, PyRef<'_, PyExpression>)| (name.clone(), tree.0.clone());
        let columns: Vec<_> = columns.iter().map(column).collect();
        self.then(self.dataset.with_columns(&columns))
    }

    fn select(&self, names: Vec<String>) -> PyResult<Self> {
        self.then(self.dataset.select(&names))
    }

    fn drop(&self, names: Vec<String>) -> PyResult<Self> {
        self.then(self.dataset.drop(&names))
    }

    fn rename(&self, pairs: Vec<(String, String)>) -> PyResult<Self> {
        self.then(self.dataset.rename(&pairs))
    }

    fn limit(&self, rows: usize) -> PyResult<Self> {
        self.then(self.dataset.limit(rows))
    }

    fn sort(&self, keys: Vec<SortKey>) -> PyResult<Self> {
        let keys = keys.into_iter().map(relational::range_key).collect();
        self.then(self.dataset.sort(keys))
    }

    fn shuffle(&self, seed: Option<u64>) -> PyResult<Self> {
        self.then(self.dataset.shuffle(seed))
    }

    /// A row for each element of the lists of these columns; `index`: the column with their places.
    fn explode(
        &self,
        columns: Vec<String>,
        keeps_empty: bool,
        index: Option<&str>,
    ) -> PyResult<Self> {
        let unnest = Unnest {
            columns,
            keeps_empty,
        };
        self.then(self.dataset.explode(unnest, index))
    }

    fn sample(&self, share: f64, seed: Option<u64>) -> PyResult<Self> {
        self.then(self.dataset.sample(share, seed))
    }

    fn repartition(
        &self,
        parts: u32,
        is_shuffled: bool,
        keys: Option<Vec<String>>,
        is_sorted: bool,
    ) -> PyResult<Self> {
        let by = match keys {
            Some(keys) => RepartitionBy::Keys { keys, is_sorted },
            None if is_shuffled => RepartitionBy::Chance,
            None => RepartitionBy::Place,
        };
        self.then(self.dataset.repartition(parts, by))
    }

    /// Blocks of so many rows; `is_exact`: only the last of all may have fewer.
    fn repartition_by_rows(&self, rows: NonZeroU64, is_exact: bool) -> PyResult<Self> {
        self.then(self.dataset.with_block_rows(BlockRows { rows, is_exact }))
    }

    fn cluster(&self, keys: Vec<String>) -> PyResult<Self> {
        self.then(self.dataset.cluster(keys))
    }

    fn group(
        &self,
        keys: Vec<String>,
        calls: Vec<Call>,
        outputs: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let grouping = relational::grouping(keys, calls, outputs)?;
        self.then(self.dataset.group(grouping))
    }

    fn union(&self, others: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let others: Vec<&Dataset> = others.iter().map(|other| &other.dataset).collect();
        self.then(self.dataset.union(&others))
    }

    fn join(&self, right: PyRef<'_, Self>, options: JoinOptions) -> PyResult<Self> {
        let joining = relational::joining(options)?;
        self.then(self.dataset.join(&right.dataset, joining))
    }

    fn zip(&self, others: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let others: Vec<&Dataset> = others.iter().map(|other| &other.dataset).collect();
        self.then(self.dataset.zip(&others))
    }

    /// The columns as a `pyarrow.Schema`, None if only a run can tell.
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.dataset
            .schema()
            .map(|schema| schema_to_py(py, &schema))
            .transpose()
    }

    /// The same rows, which have these columns; rows that have others fail the run.
    fn declared(&self, schema: &Bound<'_, PyAny>) -> PyResult<Self> {
        let schema = schema_from_py(schema)?;
        self.then(self.dataset.declared(&schema))
    }

    /// Whether a function has to run for the rows.
    fn has_functions(&self) -> bool {
        self.dataset.has_functions()
    }

    /// How many rows come out of the files as they are now, None if only a run can tell.
    fn known_rows(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let known = |dataset: &Dataset| {
            let job = plan_job(dataset, &Sink::Consumer);
            job.map(|job| job.outputs[0].known_rows)
                .map_err(|error| plan_error(&error))
        };
        if known(&self.dataset)?.is_some() {
            return known(&self.now(py)?);
        }
        // Whoever counts all files wants to know that it is of use.
        let counted = |dataset: &Dataset, is_guess| {
            let counted = detached(py, || dataset.counted(is_guess));
            counted.map_err(|error| plan_error(&error))
        };
        match counted(&self.dataset, true)? {
            Some(guess) if known(&guess)?.is_some() => {
                counted(&self.now(py)?, false)?.map_or(Ok(None), |dataset| known(&dataset))
            }
            _ => Ok(None),
        }
    }

    /// Looks at the files again. A number for what was found: another one when one has changed. Raises if one has gone, or has other
    /// columns than it had.
    fn look(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.now(py)?.look())
    }

    fn input_files(&self) -> Vec<String> {
        self.dataset.input_files()
    }

    fn num_blocks(&self, py: Python<'_>) -> PyResult<u64> {
        match self.parts {
            Some(parts) => Ok(parts),
            None => Ok(self.now(py)?.num_blocks() as u64),
        }
    }

    /// The same, where the source is read in so many parts.
    fn with_parts(&self, parts: u64) -> Self {
        Self {
            dataset: self.dataset.clone(),
            parts: Some(parts),
        }
    }

    fn explain(&self, py: Python<'_>) -> PyResult<String> {
        let explained = self.now(py)?.explain();
        explained.map_err(|error| plan_error(&error))
    }

    /// The same of a run of it, with what was measured.
    fn explain_run(&self, execution: &PyExecution) -> PyResult<String> {
        let explained = self.dataset.explain_run(&execution.statistics());
        explained.map_err(|error| plan_error(&error))
    }
}

pub(super) fn model_spec(json: &str) -> PyResult<ModelSpec> {
    ModelSpec::from_json(json).map_err(|error| PyValueError::new_err(format!("a model: {error}")))
}
