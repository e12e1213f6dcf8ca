//! Lines that workers printed, on their way to the Python function that prints them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aktis_proto::v1 as wire;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::python_thread::OUTPUT;

/// Hands lines to `sink` on the thread that prints.
pub(crate) fn python_log_sink(sink: Py<PyAny>) -> aktis_worker::runtime::LogSink {
    let (sink, lost_lines) = (Arc::new(sink), AtomicUsize::new(0));
    Box::new(move |lines: wire::LogLines| {
        let (sink, count) = (Arc::clone(&sink), lines.lines.len());
        let on_the_way = usize::try_from(lines.lost_before).unwrap_or(usize::MAX);
        let lost_before = lost_lines.swap(0, Ordering::Relaxed) + on_the_way;
        let is_queued = OUTPUT.run(move |py| {
            let record = record_of(py, &lines, lost_before)?;
            Ok((sink.clone_ref(py), PyTuple::new(py, [record])?.unbind()))
        });
        if !is_queued {
            lost_lines.fetch_add(lost_before + count, Ordering::Relaxed);
        }
    })
}

/// What `print_worker_lines` takes.
fn record_of<'py>(
    py: Python<'py>,
    lines: &wire::LogLines,
    lost_before: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let record = PyDict::new(py);
    record.set_item("pid", lines.pid)?;
    record.set_item("source", &lines.source)?;
    record.set_item("hostname", &lines.hostname)?;
    record.set_item("is_stderr", lines.is_stderr)?;
    record.set_item("lines", &lines.lines)?;
    record.set_item("lost_before", lost_before)?;
    Ok(record)
}
