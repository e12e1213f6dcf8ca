//! The zygote and the worker, as Python starts them.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use aktis_common::zygote::WorkerStart;
use aktis_forkserver::{Forked, Forker, Served, UNBORN_STATUS, serve};
use aktis_worker::Runtime;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter_end::detached;

struct PythonForker<'py> {
    fork: Bound<'py, PyAny>,
    preload: Bound<'py, PyAny>,
}

impl Forker for PythonForker<'_> {
    fn fork(&mut self) -> std::io::Result<Forked> {
        let pid: u32 = self
            .fork
            .call0()
            .and_then(|pid| pid.extract())
            .map_err(std::io::Error::other)?;
        Ok(if pid == 0 {
            Forked::Child
        } else {
            Forked::Parent(pid)
        })
    }

    fn preload(&mut self, modules: &[String]) {
        if let Err(error) = self.preload.call1((modules.to_vec(),)) {
            error.write_unraisable(self.preload.py(), None);
        }
    }
}

/// Serves the raylet at `link`. None: it is gone. Otherwise this is a child, and the dictionary says what it becomes;
/// `SystemExit` if it cannot become a worker.
#[pyfunction]
#[allow(
    unsafe_code,
    reason = "takes over a descriptor that Python hands in by number"
)]
pub(crate) fn zygote_serve<'py>(
    py: Python<'py>,
    link: RawFd,
    cleanup_dirs: Vec<PathBuf>,
    fork: Bound<'py, PyAny>,
    preload: Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    // SAFETY: the caller gives the descriptor away (documented in the stub); nobody else closes it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    aktis_common::process_title::show("aktis::zygote");
    // Forks inherit the answer.
    let _ = aktis_common::machine::cpu_count();
    let mut forker = PythonForker { fork, preload };
    let start = match serve(UnixStream::from(link), &cleanup_dirs, &mut forker)? {
        Served::RayletGone => return Ok(None),
        Served::Worker(start) => start,
        Served::Unborn(error) => {
            eprintln!("this worker cannot start: {error}");
            return Err(pyo3::exceptions::PySystemExit::new_err(UNBORN_STATUS));
        }
    };
    let become_worker = PyDict::new(py);
    become_worker.set_item(
        "start",
        serde_json::to_string(&start).map_err(std::io::Error::other)?,
    )?;
    become_worker.set_item("env", start.env)?;
    Ok(Some(become_worker))
}

/// Becomes the worker that `zygote_serve` described; returns when the process is to end.
#[pyfunction]
pub(crate) fn worker_main(py: Python<'_>, start: &Bound<'_, PyDict>) -> PyResult<()> {
    let environment = py.import("os")?.getattr("environ")?;
    if let Some(variables) = start.get_item("env")? {
        environment.call_method1("update", (variables,))?;
    }
    let text: String = start
        .get_item("start")?
        .ok_or_else(|| pyo3::exceptions::PyValueError::new_err("start is missing"))?
        .extract()?;
    let start: WorkerStart = serde_json::from_str(&text).map_err(std::io::Error::other)?;
    crate::execute::run_worker(py, &start)
}

/// Stays, when user code is over, until other processes need nothing of this one any more.
#[pyfunction]
pub(crate) fn linger(py: Python<'_>) -> PyResult<()> {
    let Some(runtime) = Runtime::current() else {
        return Ok(());
    };
    if detached(py, || runtime.is_needed()) {
        // What user code left in cycles: models, and handles on actors.
        py.import("gc")?.call_method0("collect")?;
        detached(py, || runtime.linger());
    }
    Ok(())
}

/// Calls this process `title` in `ps` and `top`.
#[pyfunction]
pub(crate) fn show_title(title: &str) {
    aktis_common::process_title::show(title);
}
