//! `_aktis.data.Jobs`: plans that run, each into a sink.

use std::collections::HashMap;

use aktis_data::executor::pool::{RuntimePool, StagePool};
use aktis_data::graph::{JobOutput, explain_outputs, plan_to_identify};
use aktis_data::{
    Execution, ExecutionOptions, LettersFolder, Request, SaveMode, Sink, Trait, has_unfinished,
    prepare_folder,
};
use aktis_worker::Runtime;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::{execute_error, plan_error};
use super::execution::PyExecution;
use super::in_process::threads;
use super::map_options::FailureOptions;
use super::plan::PyPlan;
use super::sink::{Traits, kept_functions, read_resume, read_sink, read_traits};
use crate::interpreter_end::detached;

/// A folder's path, warnings, and the job that is taken up.
type Prepared = (String, Vec<String>, Option<Unfinished>);

/// A job's prefix; how many of its inputs are done, and how many it has; how many of its legs are finished, and how many it has.
type Unfinished = (String, (u64, u64), (u64, u64));

/// A plan, its sink, None if its rows are given out, and the folder for rows that are put aside, with what names begin with there.
type Output<'py> = (
    PyRef<'py, PyPlan>,
    Option<Bound<'py, PyDict>>,
    Option<(String, String)>,
);

/// What is done with plans as a whole.
#[pyclass(name = "Jobs", module = "aktis._aktis.data", frozen)]
pub(crate) struct PyJobs;

#[pymethods]
impl PyJobs {
    /// What plans will do that run as one job, each into a sink.
    #[staticmethod]
    fn explain_together(py: Python<'_>, outputs: Vec<Output<'_>>) -> PyResult<String> {
        let explained = explain_outputs(&read_outputs(py, outputs)?);
        explained.map_err(|error| plan_error(&error))
    }

    /// Looks whether a folder may be written into; None: nothing shall be written. Else its path, what jobs that ended badly
    /// have left there, in words, and, of a job that is taken up, its prefix, how many of its inputs are done, and how many it has, and
    /// the same of legs before the last.
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
            let unfinished = folder.takes_up.map(|job| {
                let (inputs, legs) = ((job.done, job.inputs), (job.legs_done, job.legs));
                (job.prefix, inputs, legs)
            });
            (path, folder.warnings, unfinished)
        }))
    }

    /// The path of a folder, and whether an unfinished job is in it that may be gone on with.
    #[staticmethod]
    fn has_unfinished(path: &str) -> PyResult<(String, bool)> {
        let (path, is_there) = has_unfinished(path).map_err(|error| plan_error(&error))?;
        Ok((path.display().to_string(), is_there))
    }

    /// What the job of writing plans into sinks, or of bringing their rows here, is, but for its functions, as names and values; or why it cannot be taken up. `keeps_all`: where
    /// rows of different inputs meet, what all functions make is kept.
    #[staticmethod]
    #[pyo3(signature = (outputs, *, keeps_order, keeps_all, failures))]
    fn identity(
        py: Python<'_>,
        outputs: Vec<Output<'_>>,
        keeps_order: bool,
        keeps_all: bool,
        failures: Option<FailureOptions>,
    ) -> PyResult<(Traits, Option<String>)> {
        let outputs = read_outputs(py, outputs)?;
        let failures = FailureOptions::policy(failures.as_ref())?;
        let job = plan_to_identify(&outputs, &failures).map_err(|error| plan_error(&error))?;
        let mut traits = match job.identity(keeps_order, kept_functions(keeps_all)) {
            Ok(traits) => traits,
            Err(why) => return Ok((Vec::new(), Some(why))),
        };
        for (number, output) in (1..).zip(&outputs) {
            let of_output = if outputs.len() > 1 {
                format!(" of output {number}")
            } else {
                String::new()
            };
            // Whoever gets the rows here knows what becomes of them.
            if output.sink != Sink::Consumer {
                let Trait { name, value } = match output.sink.identity() {
                    Ok(known) => known,
                    Err(why) => return Ok((Vec::new(), Some(why))),
                };
                traits.push(Trait::new(name + &of_output, value));
            }
            traits.push(Trait::new(
                format!("override_num_blocks{of_output}"),
                format!("{:?}", output.parts),
            ));
        }
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
        let outputs = read_outputs(py, outputs)?;
        let looks = outputs.iter().map(|output| output.dataset.look()).collect();
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
                let modules = modules.call_method0("modules_of_stages")?.extract()?;
                Box::new(RuntimePool::new(current_runtime()?).with_python_modules(modules))
            }
        };
        let started = detached(py, || Execution::start_all(&outputs, pool, &options));
        started
            .map(|execution| PyExecution::new(execution, looks))
            .map_err(|error| execute_error(py, &error))
    }
}

/// Plans, over their files as they are now.
fn read_outputs(py: Python<'_>, outputs: Vec<Output<'_>>) -> PyResult<Vec<JobOutput>> {
    let read = |(plan, sink, letters_folder): Output<'_>| {
        Ok(JobOutput {
            dataset: plan.now(py)?,
            sink: sink.as_ref().map_or(Ok(Sink::Consumer), read_sink)?,
            parts: plan.parts,
            letters_folder: letters_folder.map(|(folder, prefix)| LettersFolder { folder, prefix }),
        })
    };
    outputs.into_iter().map(read).collect()
}

pub(super) fn current_runtime() -> PyResult<Runtime> {
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
