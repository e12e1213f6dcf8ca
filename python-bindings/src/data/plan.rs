//! `_aktis.data.Plan`: a lazy dataset.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use aktis_data::SaveMode;
use aktis_data::block::BlockHandle;
use aktis_data::executor::pool::{RuntimePool, StagePool};
use aktis_data::graph::{JobOutput, explain_outputs, plan_job};
use aktis_data::operators::model::{model_files, model_map};
use aktis_data::plan::{Batching, Dataset, Expectation, Expression, MapSpec, MostViolations};
use aktis_data::sources::files::SourceFile;
use aktis_data::sources::{FilesTable, PythonReader, ReadTask, SourceBlock, TasksTable};
use aktis_data::storage::{DataFile, PathColumns, ReadOptions, StoreSpec, find_files};
use aktis_data::{
    Execution, ExecutionOptions, LettersFolder, PlanError, Request, Sink, Trait, prepare_folder,
};
use aktis_inference::ModelSpec;
use aktis_worker::Runtime;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrow_py::{batch_from_py, schema_from_py, schema_to_py};
use super::errors::{execute_error, plan_error};
use super::execution::{PyExecution, StoredPart};
use super::expression::PyExpression;
use super::in_process::threads;
use super::map_options::{BatchingOptions, ComputeOptions, FailureOptions, MapOptions, cache_spec};
use super::relational::{self, Call, JoinOptions, SortKey};
use super::sink::{Traits, read_resume, read_sink, read_traits};
use crate::interpreter_end::detached;
use crate::object_ref::PyObjectRef;

/// A folder's path, warnings, and the job that is taken up.
type Prepared = (String, Vec<String>, Option<(String, u64, u64)>);

/// A description of data and of what happens to it.
#[pyclass(name = "Plan", module = "aktis._aktis.data", frozen)]
pub(crate) struct PyPlan {
    dataset: Dataset,
    /// How many parts its source shall be read in, if the user said so.
    parts: Option<u64>,
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

    /// What follows from this plan.
    fn then(&self, result: Result<Dataset, PlanError>) -> PyResult<Self> {
        let Self { dataset, .. } = made(result)?;
        Ok(Self {
            dataset,
            parts: self.parts,
        })
    }
}

fn made(result: Result<Dataset, PlanError>) -> PyResult<PyPlan> {
    result.map(PyPlan::new).map_err(|error| plan_error(&error))
}

#[pymethods]
impl PyPlan {
    #[staticmethod]
    fn read_parquet(
        py: Python<'_>,
        paths: Vec<String>,
        extensions: Option<Vec<String>>,
        is_hive: bool,
        has_path: bool,
        ignores_missing: bool,
    ) -> PyResult<Self> {
        let options = ReadOptions {
            extensions,
            told: PathColumns { is_hive, has_path },
            ignores_missing,
        };
        made(detached(py, || {
            Dataset::read_parquet_with(&paths, &options)
        }))
    }

    /// The rows of Parquet files, given by name and length, in a store that Python reaches with this definition.
    #[staticmethod]
    fn read_parquet_in(
        py: Python<'_>,
        definition: Vec<u8>,
        files: Vec<(String, u64)>,
        is_hive: bool,
        has_path: bool,
    ) -> PyResult<Self> {
        let file = |(path, size_bytes)| DataFile { path, size_bytes };
        let files: Vec<DataFile> = files.into_iter().map(file).collect();
        let definition = definition.into();
        let told = PathColumns { is_hive, has_path };
        made(detached(py, || {
            Dataset::read_parquet_in(StoreSpec { definition }, &files, told)
        }))
    }

    /// The files that paths mean, with their lengths. `operation`: the call of the user, for messages.
    #[staticmethod]
    fn find_files(
        py: Python<'_>,
        operation: &str,
        paths: Vec<String>,
        extensions: Option<Vec<String>>,
        ignores_missing: bool,
    ) -> PyResult<Vec<(String, u64)>> {
        let options = ReadOptions {
            extensions,
            told: PathColumns::default(),
            ignores_missing,
        };
        let files = detached(py, || find_files(operation, &paths, &options));
        let files = files.map_err(|error| plan_error(&error))?.into_iter();
        Ok(files.map(|file| (file.path, file.size_bytes)).collect())
    }

    /// The rows of files of a format that Python reads: path, length, whether it may be read in parts.
    #[staticmethod]
    #[pyo3(signature = (*, operation, definition, files, schema, rows_per_file, is_hive, has_path))]
    fn read_files(
        operation: &str,
        definition: Vec<u8>,
        files: Vec<(String, u64, bool)>,
        schema: Option<Bound<'_, PyAny>>,
        rows_per_file: Option<u64>,
        is_hive: bool,
        has_path: bool,
    ) -> PyResult<Self> {
        let file = |(path, size_bytes, has_parts)| SourceFile {
            file: DataFile { path, size_bytes },
            has_parts,
        };
        let files = files.into_iter().map(file).collect();
        let reader = PythonReader {
            definition: definition.into(),
            schema: schema.as_ref().map(schema_from_py).transpose()?,
        };
        let told = PathColumns { is_hive, has_path };
        let table = FilesTable::new(operation, files, reader, told, rows_per_file);
        made(table.and_then(Dataset::read_files))
    }

    /// The rows that tasks of Python give: what the reader understands, and about how many rows it is.
    #[staticmethod]
    fn read_tasks(definition: Vec<u8>, tasks: Vec<(Vec<u8>, u64)>) -> PyResult<Self> {
        let task = |(position, rows): (Vec<u8>, u64)| ReadTask {
            position: position.into(),
            rows,
        };
        let tasks = tasks.into_iter().map(task).collect();
        let definition = definition.into();
        made(Dataset::read_tasks(TasksTable { tasks, definition }))
    }

    #[staticmethod]
    fn range(rows: u64) -> PyResult<Self> {
        made(Dataset::range(rows))
    }

    /// The rows that a query selects from plans, by the names that it has for them.
    #[staticmethod]
    fn sql(query: &str, tables: Vec<(String, PyRef<'_, Self>)>) -> PyResult<Self> {
        let table = |(name, plan): &(String, PyRef<'_, Self>)| (name.clone(), plan.dataset.clone());
        let tables: Vec<_> = tables.iter().map(table).collect();
        made(Dataset::sql(query, &tables))
    }

    #[staticmethod]
    fn from_batches(schema: &Bound<'_, PyAny>, batches: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let schema = schema_from_py(schema)?;
        let batches: PyResult<Vec<_>> = batches.iter().map(batch_from_py).collect();
        made(Dataset::from_batches(schema, batches?))
    }

    /// The rows of parts of blocks in the object store, with the columns of `schema`, which those of every block fit into.
    #[staticmethod]
    fn from_parts(schema: &Bound<'_, PyAny>, parts: Vec<StoredPart<'_>>) -> PyResult<Self> {
        let schema = schema_from_py(schema)?;
        let session = current_runtime()?.job().to_string();
        let block = |(reference, first_row, rows, bytes): StoredPart<'_>| {
            let handle = BlockHandle::new(reference.get().reference().clone());
            Arc::new(SourceBlock::stored(
                session.clone(),
                handle,
                first_row,
                rows,
                bytes,
            ))
        };
        made(Dataset::from_blocks(
            schema,
            parts.into_iter().map(block).collect(),
        ))
    }

    #[pyo3(signature = (*, definition, captured, name, compute, batch_rows=None, window_rows=0, reads=None, keeps=None, keeps_all_except=None,
                        keeps_rows=false, is_mask=false, produces=None, failures=None, cache=None, batching=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn map(
        &self,
        definition: Vec<u8>,
        captured: Option<PyRef<'_, PyObjectRef>>,
        name: String,
        compute: ComputeOptions,
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
        compute: ComputeOptions,
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

    fn sample(&self, share: f64, seed: Option<u64>) -> PyResult<Self> {
        self.then(self.dataset.sample(share, seed))
    }

    fn repartition(&self, parts: u32, is_shuffled: bool) -> PyResult<Self> {
        self.then(self.dataset.repartition(parts, is_shuffled))
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

    /// How many rows come out, None if only a run can tell.
    fn known_rows(&self) -> PyResult<Option<u64>> {
        let job = plan_job(&self.dataset, &Sink::Consumer);
        job.map(|job| job.outputs[0].known_rows)
            .map_err(|error| plan_error(&error))
    }

    fn input_files(&self) -> Vec<String> {
        self.dataset.input_files()
    }

    fn num_blocks(&self) -> u64 {
        self.parts
            .unwrap_or_else(|| self.dataset.num_blocks() as u64)
    }

    /// The same, where the source is read in so many parts.
    fn with_parts(&self, parts: u64) -> Self {
        Self {
            dataset: self.dataset.clone(),
            parts: Some(parts),
        }
    }

    fn explain(&self) -> PyResult<String> {
        self.dataset.explain().map_err(|error| plan_error(&error))
    }

    /// The same of plans that run as one job, each into a sink.
    #[staticmethod]
    fn explain_together(outputs: Vec<Output<'_>>) -> PyResult<String> {
        let explained = explain_outputs(&read_outputs(outputs)?);
        explained.map_err(|error| plan_error(&error))
    }

    /// The same of a run of it, with what was measured.
    fn explain_run(&self, execution: &PyExecution) -> PyResult<String> {
        let explained = self.dataset.explain_run(&execution.statistics());
        explained.map_err(|error| plan_error(&error))
    }

    /// Looks whether a folder may be written into; None: nothing shall be written. Else its path, what jobs that ended badly
    /// have left there, in words, and, of a job that is taken up, its prefix, how many of its inputs are done, and how many it has.
    #[staticmethod]
    fn prepare_folder(
        operation: &str,
        path: &str,
        mode: &str,
        identity: Traits,
        resume: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Prepared>> {
        let folder = prepare_folder(Request {
            operation,
            folder: path,
            mode: save_mode(mode)?,
            identity: &read_traits(identity),
            resume: read_resume(resume)?,
        });
        let folder = folder.map_err(|error| plan_error(&error))?;
        Ok(folder.map(|folder| {
            let path = folder.path.display().to_string();
            (path, folder.warnings, folder.takes_up)
        }))
    }

    /// What the job of writing into `sink` is, but for its functions, as names and values; or why it cannot be taken up.
    #[pyo3(signature = (sink, *, keeps_order, failures))]
    fn identity(
        &self,
        sink: &Bound<'_, PyDict>,
        keeps_order: bool,
        failures: Option<FailureOptions>,
    ) -> PyResult<(Traits, Option<String>)> {
        let sink = read_sink(sink)?;
        let failures = FailureOptions::policy(failures.as_ref())?;
        let dataset = self.dataset.with_failures(&failures);
        let job = dataset.and_then(|dataset| plan_job(&dataset, &sink));
        let job = job.map_err(|error| plan_error(&error))?;
        let known = job
            .identity(keeps_order)
            .and_then(|traits| Ok((traits, sink.identity()?)));
        let (mut traits, sink) = match known {
            Ok(known) => known,
            Err(why) => return Ok((Vec::new(), Some(why))),
        };
        traits.push(sink);
        traits.push(Trait::new(
            "override_num_blocks",
            format!("{:?}", self.parts),
        ));
        traits.push(Trait::new(
            "the version of aktis",
            env!("CARGO_PKG_VERSION"),
        ));
        let traits = traits.into_iter();
        Ok((
            traits.map(|known| (known.name, known.value)).collect(),
            None,
        ))
    }

    /// Runs plans as one job in this process's session, each into a sink; or in threads of this process, which have these resources
    /// and begin with a call of this function.
    #[staticmethod]
    #[pyo3(signature = (outputs, *, keep_order, budget_bytes, block_bytes, max_deaths, failures, in_process=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keywords of one call in `_running.py`"
    )]
    fn execute(
        py: Python<'_>,
        outputs: Vec<Output<'_>>,
        keep_order: bool,
        budget_bytes: Option<u64>,
        block_bytes: Option<u64>,
        max_deaths: u32,
        failures: Option<FailureOptions>,
        in_process: Option<(HashMap<String, f64>, Py<PyAny>)>,
    ) -> PyResult<PyExecution> {
        let outputs = read_outputs(outputs)?;
        let options = ExecutionOptions {
            keep_order,
            budget_bytes,
            block_bytes,
            max_deaths,
            failures: FailureOptions::policy(failures.as_ref())?,
        };
        let pool: Box<dyn StagePool> = match in_process {
            Some((resources, begin)) => Box::new(threads(&resources, begin)),
            None => {
                let modules = py.import("aktis._process.shared_modules")?;
                let modules = modules.getattr("MODULES")?.extract()?;
                Box::new(RuntimePool::new(current_runtime()?).with_python_modules(modules))
            }
        };
        let started = detached(py, || Execution::start_all(&outputs, pool, &options));
        started
            .map(PyExecution::new)
            .map_err(|error| execute_error(py, &error))
    }
}

/// A plan, its sink, None if its rows are given out, and the folder for rows that are put aside, with what names begin with there.
type Output<'py> = (
    PyRef<'py, PyPlan>,
    Option<Bound<'py, PyDict>>,
    Option<(String, String)>,
);

fn read_outputs(outputs: Vec<Output<'_>>) -> PyResult<Vec<JobOutput>> {
    let read = |(plan, sink, letters_folder): Output<'_>| {
        Ok(JobOutput {
            dataset: plan.dataset.clone(),
            sink: sink.as_ref().map_or(Ok(Sink::Consumer), read_sink)?,
            parts: plan.parts,
            letters_folder: letters_folder.map(|(folder, prefix)| LettersFolder { folder, prefix }),
        })
    };
    outputs.into_iter().map(read).collect()
}

fn model_spec(json: &str) -> PyResult<ModelSpec> {
    ModelSpec::from_json(json).map_err(|error| PyValueError::new_err(format!("a model: {error}")))
}

fn current_runtime() -> PyResult<Runtime> {
    Runtime::current()
        .ok_or_else(|| PyRuntimeError::new_err("there is no session: call aktis.init() first"))
}

pub(super) fn save_mode(text: &str) -> PyResult<SaveMode> {
    SaveMode::parse(text).ok_or_else(|| {
        PyValueError::new_err(format!(
            "mode must be 'append', 'overwrite', 'ignore' or 'error', not {text:?}"
        ))
    })
}
