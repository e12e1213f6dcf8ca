//! `_aktis.data.Execution`: a running plan.

use std::time::Duration;

use aktis_data::Execution;
use aktis_data::costs::OperatorCost;
use aktis_data::executor::{DeliveredBlock, Next};
use aktis_data::plan::MostViolations;
use aktis_data::stats::{
    ChosenBatch, ExecutionStats, ExpectationStats, KindStats, OperatorStats, StageStats, WorkerTime,
};
use aktis_worker::{ObjectRef, TaskFailure};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::arrow_py::{batch_to_py, schema_to_py};
use crate::failure::to_py_err;
use crate::interpreter_end::detached;
use crate::object_ref::PyObjectRef;

/// Rows in the object store, not read yet.
#[pyclass(name = "Block", module = "aktis._aktis.data", frozen)]
pub(crate) struct PyBlock(DeliveredBlock);

#[pymethods]
impl PyBlock {
    /// Where its rows lie, for a plan over them: the reference, the first row, rows, bytes.
    fn part<'py>(&self, py: Python<'py>) -> PyResult<StoredPart<'py>> {
        let reference = self.0.handle().get::<ObjectRef>().cloned();
        let reference = reference
            .ok_or_else(|| PyRuntimeError::new_err("this block is not in the object store"))?;
        let reference = PyObjectRef::new(py, reference)?;
        Ok((reference, self.0.first_row(), self.0.rows(), self.0.bytes()))
    }
}

/// Rows of a block in the object store: its reference, the first of them, how many, their bytes.
pub(super) type StoredPart<'py> = (Bound<'py, PyObjectRef>, u64, u64, u64);

/// The step, the columns, the part.
type PyLetters<'py> = (String, Bound<'py, PyAny>, StoredPart<'py>);

/// The step, the columns, record batches.
type ReadLetters<'py> = (String, Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>);

/// A running plan.
#[pyclass(name = "Execution", module = "aktis._aktis.data", frozen, weakref)]
pub(crate) struct PyExecution(
    Execution,
    /// What was found of the files of each output.
    Vec<u64>,
);

impl PyExecution {
    pub(crate) fn new(execution: Execution, looks: Vec<u64>) -> Self {
        Self(execution, looks)
    }

    /// What it did so far.
    pub(super) fn statistics(&self) -> ExecutionStats {
        self.0.stats()
    }

    /// The exception for a failure of the run; of an expectation, with the rows that violate it.
    fn exception(&self, py: Python<'_>, failure: &TaskFailure) -> PyErr {
        let stats = self.0.stats();
        let Some(broken) = stats.broken_expectation() else {
            return to_py_err(py, failure);
        };
        let made = expectation_to_py(py, broken).and_then(|broken| {
            let module = py.import("aktis.data._expectations")?;
            module.call_method1("broken", (&failure.message, broken))
        });
        made.map_or_else(|error| error, PyErr::from_value)
    }
}

#[pymethods]
impl PyExecution {
    /// Waits for at most so many seconds. Returns whether it is over, and a block if there is one. Raises if it failed.
    fn next(&self, py: Python<'_>, seconds: f64) -> PyResult<(bool, Option<PyBlock>)> {
        let next = detached(py, || self.0.next(Duration::from_secs_f64(seconds)));
        py.check_signals()?;
        match next {
            Next::Block(block) => Ok((false, Some(PyBlock(block)))),
            Next::Pending => Ok((false, None)),
            Next::End(Ok(())) => Ok((true, None)),
            Next::End(Err(failure)) => Err(self.exception(py, &failure)),
        }
    }

    /// The record batches of a block.
    fn read<'py>(&self, py: Python<'py>, block: &PyBlock) -> PyResult<Bound<'py, PyList>> {
        let batches =
            detached(py, || self.0.read(&block.0)).map_err(|failure| to_py_err(py, &failure))?;
        let batches: PyResult<Vec<_>> =
            batches.iter().map(|batch| batch_to_py(py, batch)).collect();
        PyList::new(py, batches?)
    }

    /// Whether it has ended, well or badly; waits for at most so many seconds.
    fn has_ended(&self, py: Python<'_>, seconds: f64) -> bool {
        let next = detached(py, || self.0.next(Duration::from_secs_f64(seconds)));
        matches!(next, Next::End(_))
    }

    /// The columns of what came to an output so far as a `pyarrow.Schema`, None if nothing did, not even a batch without rows.
    #[pyo3(signature = (output=0))]
    fn seen_schema<'py>(
        &self,
        py: Python<'py>,
        output: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let schema = self.0.seen_schema(output);
        schema.map(|schema| schema_to_py(py, &schema)).transpose()
    }

    /// What `Plan.look` told of the files that an output was made of.
    #[pyo3(signature = (output=0))]
    fn look(&self, output: usize) -> Option<u64> {
        self.1.get(output).copied()
    }

    /// Rows that functions failed for on the way to an output and that were put aside: the step, the columns, and the part of the
    /// store that they are.
    #[pyo3(signature = (output=0))]
    fn dead_letters<'py>(&self, py: Python<'py>, output: usize) -> PyResult<Vec<PyLetters<'py>>> {
        let letters = self.0.dead_letters(output).into_iter();
        let letters = letters.map(|block| {
            let reference = block.handle.get::<ObjectRef>().cloned();
            let reference = reference
                .ok_or_else(|| PyRuntimeError::new_err("this block is not in the object store"))?;
            let reference = PyObjectRef::new(py, reference)?;
            let schema = schema_to_py(py, &block.schema)?;
            Ok((
                block.operator,
                schema,
                (reference, 0, block.rows, block.bytes),
            ))
        });
        letters.collect()
    }

    /// What is expected of its rows, and what was found so far.
    fn expectations<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let stats = self.0.stats();
        stats
            .expectations()
            .map(|one| expectation_to_py(py, one))
            .collect()
    }

    /// The same of an execution in this process, whose blocks are in no object store: the step, the columns, the record batches.
    fn read_dead_letters<'py>(
        &self,
        py: Python<'py>,
        output: usize,
    ) -> PyResult<Vec<ReadLetters<'py>>> {
        let letters = self.0.dead_letters(output).into_iter();
        let letters = letters.map(|block| {
            let batches = detached(py, || self.0.read_letters(&block))
                .map_err(|failure| to_py_err(py, &failure))?;
            let batches: PyResult<Vec<_>> =
                batches.iter().map(|batch| batch_to_py(py, batch)).collect();
            Ok((block.operator, schema_to_py(py, &block.schema)?, batches?))
        });
        letters.collect()
    }

    /// What each operator has cost so far.
    fn costs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let costs = self.0.stats().costs();
        costs.iter().map(|cost| cost_to_py(py, cost)).collect()
    }

    /// Ends it.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Rows that the sink of an output took.
    #[pyo3(signature = (output=0))]
    fn rows_sunk(&self, output: usize) -> u64 {
        self.0.stats().rows_sunk(output)
    }

    /// If it failed: the outputs that this happened on the way to, as far as that is known.
    fn failed_outputs(&self) -> Vec<usize> {
        self.0.stats().failed_outputs
    }

    /// The stages that wait for their first worker.
    fn waiting_stages(&self) -> Vec<String> {
        self.0
            .stats()
            .waiting_stages()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The kinds of workers of which none works, though others of their stage do, and why.
    fn waiting_kinds(&self) -> Vec<String> {
        self.0.stats().waiting_kinds()
    }

    /// What it did, as text.
    fn stats_text(&self) -> String {
        self.0.stats().to_text()
    }

    /// What it did, as a dict.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats_to_py(py, &self.0.stats())
    }
}

fn stats_to_py<'py>(py: Python<'py>, stats: &ExecutionStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let stages: PyResult<Vec<_>> = stats
        .stages
        .iter()
        .map(|stage| stage_to_py(py, stage))
        .collect();
    dict.set_item("stages", stages?)?;
    dict.set_item("source_rows", stats.source_rows)?;
    dict.set_item("bytes_read", stats.bytes_read)?;
    dict.set_item("elapsed_s", stats.elapsed.as_secs_f64())?;
    dict.set_item("budget_bytes", stats.budget_bytes)?;
    dict.set_item("relational_bytes", stats.relational_bytes)?;
    dict.set_item("most_block_bytes", stats.most_block_bytes)?;
    let files: Vec<_> = stats
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.rows, file.bytes))
        .collect();
    dict.set_item("files", files)?;
    Ok(dict)
}

fn expectation_to_py<'py>(
    py: Python<'py>,
    expectation: &ExpectationStats,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = counts_to_py(py, expectation)?;
    let examples = expectation.examples.iter();
    let examples: PyResult<Vec<_>> = examples.map(|row| batch_to_py(py, row)).collect();
    dict.set_item("examples", examples?)?;
    Ok(dict)
}

fn cost_to_py<'py>(py: Python<'py>, cost: &OperatorCost) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let seconds = &cost.seconds;
    dict.set_item("stage", cost.stage)?;
    dict.set_item("operator", &cost.operator)?;
    dict.set_item("worker", cost.worker.name())?;
    dict.set_item("cpus", cost.worker.cpus)?;
    dict.set_item("gpus", cost.worker.gpus)?;
    dict.set_item("starting_s", seconds.starting)?;
    dict.set_item("loading_s", seconds.loading)?;
    dict.set_item("useful_s", seconds.useful)?;
    dict.set_item("repeated_s", seconds.repeated)?;
    dict.set_item("idle_s", seconds.idle)?;
    dict.set_item("lent_s", seconds.lent)?;
    dict.set_item("used_cpu_s", seconds.cpu)?;
    Ok(dict)
}

fn time_to_py<'py>(py: Python<'py>, time: &WorkerTime) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("workers", time.workers)?;
    dict.set_item("held_s", time.held().as_secs_f64())?;
    dict.set_item("starting_s", time.starting.as_secs_f64())?;
    dict.set_item("loading_s", time.loading.as_secs_f64())?;
    dict.set_item("useful_s", time.useful.as_secs_f64())?;
    dict.set_item("repeated_s", time.repeated.as_secs_f64())?;
    dict.set_item("idle_s", time.idle.as_secs_f64())?;
    dict.set_item("lent_s", time.lent.as_secs_f64())?;
    dict.set_item("used_cpu_s", time.cpu.as_secs_f64())?;
    dict.set_item("rows_repeated", time.rows_repeated)?;
    Ok(dict)
}

fn counts_to_py<'py>(
    py: Python<'py>,
    expectation: &ExpectationStats,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &expectation.name)?;
    dict.set_item("rows", expectation.rows)?;
    dict.set_item("violations", expectation.violations)?;
    match expectation.most {
        MostViolations::Rows(rows) => dict.set_item("max_violations", rows)?,
        MostViolations::Share(share) => {
            dict.set_item("max_violations", f64::from_bits(share))?;
        }
    }
    dict.set_item(
        "on_violation",
        if expectation.only_warns {
            "warn"
        } else {
            "raise"
        },
    )?;
    dict.set_item("verdict", expectation.verdict.as_str())?;
    Ok(dict)
}

fn chosen_to_py<'py>(py: Python<'py>, chosen: &ChosenBatch) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("device", &chosen.device)?;
    dict.set_item("rows", chosen.rows)?;
    dict.set_item("is_settled", chosen.is_settled)?;
    dict.set_item("too_large", chosen.too_large)?;
    dict.set_item("out_of_memory", chosen.out_of_memory)?;
    let tried = PyDict::new(py);
    for &(rows, nanos) in &chosen.tried {
        tried.set_item(rows, Duration::from_nanos(nanos).as_secs_f64())?;
    }
    dict.set_item("tried_s", tried)?;
    Ok(dict)
}

fn operators_to_py<'py>(
    py: Python<'py>,
    operators: &[OperatorStats],
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let mut entries = Vec::with_capacity(operators.len());
    for operator in operators {
        let entry = PyDict::new(py);
        entry.set_item("name", &operator.name)?;
        entry.set_item("rows_in", operator.rows_in)?;
        entry.set_item("rows_out", operator.rows_out)?;
        entry.set_item("rows_failed", operator.rows_failed)?;
        entry.set_item("bytes_out", operator.bytes_out)?;
        entry.set_item("batches_out", operator.batches_out)?;
        entry.set_item("wall_s", operator.wall.as_secs_f64())?;
        entry.set_item("cpu_s", operator.cpu.as_secs_f64())?;
        if let Some(expectation) = &operator.expectation {
            entry.set_item("expectation", counts_to_py(py, expectation)?)?;
        }
        entry.set_item("waited_s", operator.waited.as_secs_f64())?;
        entry.set_item("cache_hits", operator.cache_hits)?;
        entry.set_item("cache_misses", operator.cache_misses)?;
        let chosen: PyResult<Vec<_>> = operator
            .chosen
            .iter()
            .map(|one| chosen_to_py(py, one))
            .collect();
        entry.set_item("chosen_batches", chosen?)?;
        entries.push(entry);
    }
    Ok(entries)
}

fn kind_to_py<'py>(py: Python<'py>, kind: &KindStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let called = kind.called().cloned().unwrap_or_default();
    dict.set_item("worker", kind.worker.name())?;
    dict.set_item("cpus", kind.worker.cpus)?;
    dict.set_item("gpus", kind.worker.gpus)?;
    dict.set_item("batch_size", kind.batch_rows)?;
    dict.set_item("workers", kind.workers)?;
    dict.set_item("starting", kind.starting)?;
    dict.set_item("rows", called.rows_in)?;
    dict.set_item("batches", called.batches_out)?;
    dict.set_item("busy_s", called.wall.as_secs_f64())?;
    dict.set_item("operators", operators_to_py(py, &kind.operators)?)?;
    dict.set_item("time", time_to_py(py, &kind.time)?)?;
    dict.set_item("waits", kind.waits.as_deref())?;
    Ok(dict)
}

fn stage_to_py<'py>(py: Python<'py>, stage: &StageStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let operators = operators_to_py(py, &stage.operators)?;
    dict.set_item("name", &stage.name)?;
    dict.set_item("givers", &stage.givers)?;
    dict.set_item("place", stage.place.as_deref())?;
    dict.set_item("operators", operators)?;
    dict.set_item("blocks", stage.blocks)?;
    dict.set_item("block_bytes", stage.block_bytes)?;
    dict.set_item("inputs", stage.inputs.0)?;
    dict.set_item("known_inputs", stage.inputs.1)?;
    dict.set_item("workers", stage.workers)?;
    dict.set_item("starting", stage.starting)?;
    dict.set_item("is_done", stage.is_done)?;
    dict.set_item("worker_deaths", stage.deaths)?;
    dict.set_item("worker", stage.worker.name())?;
    dict.set_item("cpus", stage.worker.cpus)?;
    dict.set_item("gpus", stage.worker.gpus)?;
    dict.set_item("time", time_to_py(py, &stage.time)?)?;
    let kinds: PyResult<Vec<_>> = stage
        .kinds
        .iter()
        .map(|kind| kind_to_py(py, kind))
        .collect();
    dict.set_item("kinds", kinds?)?;
    dict.set_item("cut_partitions", stage.cut_partitions.0)?;
    dict.set_item("cut_inputs", stage.cut_partitions.1)?;
    let hot_keys: Vec<&String> = stage.hot_keys.iter().collect();
    dict.set_item("hot_keys", hot_keys)?;
    Ok(dict)
}
