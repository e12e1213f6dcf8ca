//! `_aktis.data.Sources`: what plans begin with.

use std::cell::RefCell;
use std::sync::Arc;

use aktis_data::block::BlockHandle;
use aktis_data::plan::{Dataset, in_rounds};
use aktis_data::sources::files::SourceFile;
use aktis_data::sources::{FilesTable, PythonReader, ReadTask, SourceBlock, TasksTable};
use aktis_data::storage::{DataFile, PathColumns, ReadOptions, StoreSpec, find_files};
use pyo3::prelude::*;

use super::arrow_py::{batch_from_py, schema_from_py};
use super::errors::plan_error;
use super::execution::StoredPart;
use super::jobs::current_runtime;
use super::plan::{PyPlan, made};
use super::query_calls::QueryCall;
use crate::interpreter_end::detached;

/// Path, length, version.
type FoundFile = (String, u64, u64);
/// Name, columns, the rows that it begins with, the step, whether a row comes once.
type QueryThatNamesItself = (String, Vec<String>, String, String, bool);
/// These, and the query that is left.
type QueryInRounds = (Vec<QueryThatNamesItself>, String);

fn data_file((path, size_bytes, version): FoundFile) -> DataFile {
    DataFile {
        path,
        size_bytes,
        version,
    }
}

/// Plans of rows that come from somewhere.
#[pyclass(name = "Sources", module = "aktis._aktis.data", frozen)]
pub(crate) struct PySources;

#[pymethods]
impl PySources {
    #[staticmethod]
    #[pyo3(signature = (paths, extensions, is_hive, has_path, ignores_missing, merges=None))]
    fn read_parquet(
        py: Python<'_>,
        paths: Vec<String>,
        extensions: Option<Vec<String>>,
        is_hive: bool,
        has_path: bool,
        ignores_missing: bool,
        merges: Option<bool>,
    ) -> PyResult<PyPlan> {
        let options = ReadOptions {
            extensions,
            told: PathColumns { is_hive, has_path },
            ignores_missing,
        };
        made(detached(py, || {
            Dataset::read_parquet_with(&paths, &options, merges)
        }))
    }

    /// The rows of Parquet files, given by name, length and version, in a store that Python reaches with this definition; an empty one: they are
    /// local.
    #[staticmethod]
    #[pyo3(signature = (definition, files, is_hive, has_path, merges=None))]
    fn read_parquet_in(
        py: Python<'_>,
        definition: Vec<u8>,
        files: Vec<FoundFile>,
        is_hive: bool,
        has_path: bool,
        merges: Option<bool>,
    ) -> PyResult<PyPlan> {
        let files: Vec<DataFile> = files.into_iter().map(data_file).collect();
        let definition = definition.into();
        let told = PathColumns { is_hive, has_path };
        made(detached(py, || {
            Dataset::read_parquet_in(StoreSpec { definition }, files, told, merges)
        }))
    }

    /// The files that paths mean, with their lengths and versions. `operation`: the call of the user, for messages.
    #[staticmethod]
    fn find_files(
        py: Python<'_>,
        operation: &str,
        paths: Vec<String>,
        extensions: Option<Vec<String>>,
        ignores_missing: bool,
    ) -> PyResult<Vec<FoundFile>> {
        let options = ReadOptions {
            extensions,
            told: PathColumns::default(),
            ignores_missing,
        };
        let files = detached(py, || find_files(operation, &paths, &options));
        let files = files.map_err(|error| plan_error(&error))?.into_iter();
        let found = |file: DataFile| (file.path, file.size_bytes, file.version);
        Ok(files.map(found).collect())
    }

    /// The rows of files of a format that Python reads, each with whether it may be read in parts. `store`: what Python reaches them
    /// with; empty: they are local; None: nobody can look at them again.
    #[staticmethod]
    #[pyo3(signature = (*, operation, definition, store, files, schema, rows_per_file, is_hive, has_path))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn read_files(
        operation: &str,
        definition: Vec<u8>,
        store: Option<Vec<u8>>,
        files: Vec<(FoundFile, bool)>,
        schema: Option<Bound<'_, PyAny>>,
        rows_per_file: Option<u64>,
        is_hive: bool,
        has_path: bool,
    ) -> PyResult<PyPlan> {
        let file = |(file, has_parts)| SourceFile {
            file: data_file(file),
            has_parts,
        };
        let store = store.map(|definition| StoreSpec {
            definition: definition.into(),
        });
        let files = files.into_iter().map(file).collect();
        let reader = PythonReader {
            definition: definition.into(),
            schema: schema.as_ref().map(schema_from_py).transpose()?,
        };
        let told = PathColumns { is_hive, has_path };
        let table = FilesTable::new(operation, store, files, reader, told, rows_per_file);
        made(table.and_then(Dataset::read_files))
    }

    /// The rows that tasks of Python give: what the reader understands, and about how many rows it is.
    #[staticmethod]
    fn read_tasks(definition: Vec<u8>, tasks: Vec<(Vec<u8>, u64)>) -> PyResult<PyPlan> {
        let task = |(position, rows): (Vec<u8>, u64)| ReadTask {
            position: position.into(),
            rows,
        };
        let tasks = tasks.into_iter().map(task).collect();
        let definition = definition.into();
        made(Dataset::read_tasks(TasksTable { tasks, definition }))
    }

    #[staticmethod]
    fn range(rows: u64) -> PyResult<PyPlan> {
        made(Dataset::range(rows))
    }

    /// The rows that a query selects from plans, by the names that it has for them. `functions`: what else it may call: name, what it
    /// returns as a schema of one column, whether it takes values beside columns, and what makes a step of a call: from a plan, arguments
    /// (names of columns, or values as batches of one row) and a name to the plan with columns of what it makes, and their names.
    #[staticmethod]
    fn sql(
        query: &str,
        tables: Vec<(String, PyRef<'_, PyPlan>)>,
        functions: Vec<QueryCall<'_>>,
    ) -> PyResult<PyPlan> {
        let table =
            |(name, plan): &(String, PyRef<'_, PyPlan>)| (name.clone(), plan.dataset.clone());
        let tables: Vec<_> = tables.iter().map(table).collect();
        let raised = RefCell::new(None);
        let functions = functions.into_iter();
        let functions: PyResult<Vec<_>> = functions.map(|call| call.function(&raised)).collect();
        let planned = Dataset::sql_calling(query, &tables, &functions?);
        match raised.take() {
            Some(error) => Err(error),
            None => made(planned),
        }
    }

    /// What of a query goes in rounds: of each part its name, its columns if they are named, the rows that it begins with, the step that
    /// makes rows of the last ones, and whether a row comes once; and the query that is left.
    #[staticmethod]
    fn in_rounds(query: &str) -> PyResult<Option<QueryInRounds>> {
        let found = in_rounds(query).map_err(|error| plan_error(&error))?;
        Ok(found.map(|found| {
            let recursions = found.recursions.into_iter();
            let parts = recursions.map(|one| {
                let halves = (one.start, one.step);
                (one.name, one.columns, halves.0, halves.1, one.is_distinct)
            });
            (parts.collect(), found.rest)
        }))
    }

    #[staticmethod]
    fn from_batches(schema: &Bound<'_, PyAny>, batches: Vec<Bound<'_, PyAny>>) -> PyResult<PyPlan> {
        let schema = schema_from_py(schema)?;
        let batches: PyResult<Vec<_>> = batches.iter().map(batch_from_py).collect();
        made(Dataset::from_batches(schema, batches?))
    }

    /// The rows of parts of blocks in the object store, with the columns of `schema`, which those of every block fit into.
    #[staticmethod]
    fn from_parts(schema: &Bound<'_, PyAny>, parts: Vec<StoredPart<'_>>) -> PyResult<PyPlan> {
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
}
