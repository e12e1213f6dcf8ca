//! Python functions in stage workers. The interpreter is held only while the function and its conversions run.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_data::operators::udf::{BatchFunction, FailedRow, FunctionCounts, RowsWriter, UdfHost};
use aktis_data::storage::{Described, Published, RemoteFiles, StoreRefusal, Transfer};
use aktis_inference::HubModel;
use aktis_worker::{TaskFailure, Value};
use arrow::array::RecordBatch;
use bytes::Bytes;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::arrow_py::{batch_from_py, batch_to_py, output_from_py};
use crate::codec::{borrow_buffer, from_value};
use crate::failure::describe;
use crate::interpreter_end::attached;

/// Loads functions through `aktis.data._worker`.
pub(crate) struct PythonHost;

impl UdfHost for PythonHost {
    fn load(
        &self,
        definition: &Bytes,
        captured: Option<&Value>,
    ) -> Result<Box<dyn BatchFunction>, TaskFailure> {
        attached(|py| {
            let load = || -> PyResult<PythonFunction> {
                let module = py.import("aktis.data._worker")?;
                let captured = match captured {
                    Some(captured) => from_value(py, captured)?,
                    None => PyList::empty(py).into_any(),
                };
                let definition = PyBytes::new(py, definition);
                let function = module.call_method1("load", (definition, captured))?;
                let name = function.getattr("name")?.extract()?;
                let calls_ahead = function.getattr("calls_ahead")?.extract()?;
                let limits_calls = function.getattr("limits_calls")?.extract()?;
                let is_lazy = function.getattr("is_lazy")?.extract()?;
                let has_turns = function.getattr("has_turns")?.extract()?;
                Ok(PythonFunction {
                    function: function.unbind(),
                    name,
                    calls_ahead,
                    limits_calls,
                    is_lazy,
                    has_turns,
                })
            };
            load()
                .map(|function| Box::new(function) as Box<dyn BatchFunction>)
                .map_err(|error| described(py, &error, "aktis.data.load"))
        })
    }

    fn open_files(&self, definition: &Bytes) -> Result<Arc<dyn RemoteFiles>, TaskFailure> {
        attached(|py| {
            let open = || -> PyResult<PythonFiles> {
                let module = py.import("aktis.data._stores.store")?;
                let definition = PyBytes::new(py, definition);
                let store = module.call_method1("load", (definition,))?;
                let store = store.unbind();
                Ok(PythonFiles { store })
            };
            open()
                .map(|files| Arc::new(files) as Arc<dyn RemoteFiles>)
                .map_err(|error| described(py, &error, "aktis.data.open_files"))
        })
    }

    fn open_writer(
        &self,
        definition: &Bytes,
        folder: &str,
        stem: &str,
    ) -> Result<Box<dyn RowsWriter>, TaskFailure> {
        attached(|py| {
            let open = || -> PyResult<PythonWriter> {
                let module = py.import("aktis.data._formats.writing")?;
                let definition = PyBytes::new(py, definition);
                let writer = module.call_method1("open_writer", (definition, folder, stem))?;
                let name = writer.getattr("name")?.extract()?;
                Ok(PythonWriter {
                    writer: writer.unbind(),
                    name,
                    is_finished: false,
                })
            };
            open()
                .map(|writer| Box::new(writer) as Box<dyn RowsWriter>)
                .map_err(|error| described(py, &error, "aktis.data.open_writer"))
        })
    }

    fn decode_images(&self, images: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
        attached(|py| {
            let decode = || -> PyResult<RecordBatch> {
                let module = py.import("aktis.data._formats.encoded_images")?;
                let images = batch_to_py(py, images)?;
                batch_from_py(&module.call_method1("decoded", (images,))?)
            };
            decode().map_err(|error| {
                // What else goes wrong is not the fault of rows: Pillow is missing, say.
                let code = match error.is_instance_of::<PyValueError>(py) {
                    true => ErrorCode::InvalidArgument,
                    false => ErrorCode::Internal,
                };
                TaskFailure::new(code, error.value(py).to_string())
            })
        })
    }

    fn model_folder(&self, model: &HubModel) -> Result<PathBuf, TaskFailure> {
        let described = serde_json::to_string(model).expect("strings and numbers are always JSON");
        attached(|py| {
            let find = || -> PyResult<PathBuf> {
                let module = py.import("aktis.models.hub_files")?;
                module.call_method1("folder_here", (described,))?.extract()
            };
            find()
                .map_err(|error| TaskFailure::new(ErrorCode::Internal, error.value(py).to_string()))
        })
    }
}

/// A store of `aktis.data._stores.store`.
struct PythonFiles {
    store: Py<PyAny>,
}

impl RemoteFiles for PythonFiles {
    fn read_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreRefusal> {
        let ranges: Vec<(u64, u64)> = ranges
            .iter()
            .map(|range| (range.start, range.end))
            .collect();
        attached(|py| {
            let read = || -> PyResult<Vec<Bytes>> {
                let parts = self.store.call_method1(py, "read_ranges", (path, ranges))?;
                let parts: Vec<Bound<'_, PyAny>> = parts.extract(py)?;
                parts.iter().map(borrow_buffer).collect()
            };
            read().map_err(|error| refused(py, path, &error))
        })
    }

    fn describe(&self, paths: &[&str]) -> Result<Vec<Option<Described>>, StoreRefusal> {
        attached(|py| {
            let describe = || -> PyResult<Vec<Option<Described>>> {
                let described = self
                    .store
                    .call_method1(py, "described", (paths.to_vec(),))?;
                let described: Vec<Option<(u64, u64)>> = described.extract(py)?;
                let described = described.into_iter();
                let described = described.map(|file| {
                    file.map(|(size_bytes, version)| Described {
                        size_bytes,
                        version,
                    })
                });
                Ok(described.collect())
            };
            let name = paths.first().copied().unwrap_or_default();
            describe().map_err(|error| refused(py, name, &error))
        })
    }

    fn upload(&self, files: &[Transfer]) -> Result<(), StoreRefusal> {
        self.do_with("upload", files.first(), (pairs(files),))
    }

    fn download(&self, files: &[Transfer]) -> Result<(), StoreRefusal> {
        self.do_with("download", files.first(), (pairs(files),))
    }

    fn publish(&self, folder: &str, new: &[Published], replaces: bool) -> Result<(), StoreRefusal> {
        let file = |file: &Published| (file.hidden.clone(), file.name.clone());
        let new: Vec<(String, String)> = new.iter().map(file).collect();
        self.do_with("publish", None, (folder, new, replaces))
    }

    fn sweep(&self, folder: &str) -> Result<(), StoreRefusal> {
        self.do_with("sweep", None, (folder,))
    }
}

fn pairs(files: &[Transfer]) -> Vec<(String, String)> {
    let pair = |file: &Transfer| (file.local.clone(), file.name.clone());
    files.iter().map(pair).collect()
}

impl PythonFiles {
    /// Calls a method that returns nothing. `first`: a file to name where the failure names none.
    fn do_with<A: for<'py> PyCallArgs<'py>>(
        &self,
        method: &str,
        first: Option<&Transfer>,
        arguments: A,
    ) -> Result<(), StoreRefusal> {
        attached(|py| {
            let called = self.store.call_method1(py, method, arguments);
            let name = first.map_or("files", |file| file.name.as_str());
            called.map(drop).map_err(|error| refused(py, name, &error))
        })
    }
}

/// What a store says; what it did not mean to say is a failure of its reading.
fn refused(py: Python<'_>, path: &str, error: &PyErr) -> StoreRefusal {
    let said = || -> PyResult<(i32, String)> {
        let error = error.value(py);
        Ok((
            error.getattr("errno")?.extract()?,
            error.getattr("strerror")?.extract()?,
        ))
    };
    let (number, text) = said().unwrap_or_else(|_| (EIO, format!("read {path}: {error}")));
    StoreRefusal { text, number }
}

/// The system's number for what went wrong while reading.
const EIO: i32 = 5;

/// A writer of `aktis.data._formats.writing`.
struct PythonWriter {
    writer: Py<PyAny>,
    name: String,
    is_finished: bool,
}

impl RowsWriter for PythonWriter {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        attached(|py| {
            let write = || -> PyResult<()> {
                let batch = batch_to_py(py, &batch)?;
                self.writer.call_method1(py, "write", (batch,)).map(drop)
            };
            write().map_err(|error| described(py, &error, &self.name))
        })
    }

    fn finish(&mut self) -> Result<Vec<(String, u64)>, TaskFailure> {
        let files = attached(|py| {
            let finish = || self.writer.call_method0(py, "finish")?.extract(py);
            finish().map_err(|error: PyErr| described(py, &error, &self.name))
        })?;
        self.is_finished = true;
        Ok(files)
    }
}

impl Drop for PythonWriter {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        attached(|py| {
            if let Err(error) = self.writer.call_method0(py, "abandon") {
                tracing::warn!(%error, "what was written in vain is left to the driver");
            }
        });
    }
}

/// What the user is told, with the frames of the user's function.
fn described(py: Python<'_>, error: &PyErr, name: &str) -> TaskFailure {
    if let Some(traceback) = error.traceback(py)
        && let Err(second) = error.value(py).setattr("__traceback__", traceback)
    {
        tracing::warn!(%second, "an exception goes without its traceback");
    }
    describe(py, error, name, None).failure
}

/// Position, class of the exception, what it says, traceback.
type PyFailedRow = (usize, String, String, String);

/// A `LoadedFunction` of `aktis.data._worker`.
struct PythonFunction {
    function: Py<PyAny>,
    name: String,
    calls_ahead: usize,
    limits_calls: bool,
    is_lazy: bool,
    /// Whether its calls wait for their turns.
    has_turns: bool,
}

impl BatchFunction for PythonFunction {
    fn calls_ahead(&self) -> usize {
        self.calls_ahead
    }

    fn limits_calls(&self) -> bool {
        self.limits_calls
    }

    fn is_lazy(&self) -> bool {
        self.is_lazy
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        attached(|py| {
            let begin = || -> PyResult<()> {
                let batch = batch_to_py(py, &batch)?;
                self.function.call_method1(py, "begin", (batch,)).map(drop)
            };
            begin().map_err(|error| described(py, &error, &self.name))
        })
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        attached(|py| {
            let next = || -> PyResult<Option<RecordBatch>> {
                let output = self.function.bind(py).call_method0("next_output")?;
                if output.is_none() {
                    Ok(None)
                } else {
                    output_from_py(&output).map(Some)
                }
            };
            next().map_err(|error| described(py, &error, &self.name))
        })
    }

    fn has_output_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        attached(|py| {
            let seconds = patience.as_secs_f64();
            let ready = self
                .function
                .call_method1(py, "has_output_within", (seconds,));
            ready
                .and_then(|ready| ready.extract(py))
                .map_err(|error| described(py, &error, &self.name))
        })
    }

    fn forget_calls(&mut self) {
        attached(|py| {
            if let Err(error) = self.function.call_method0(py, "forget_calls") {
                tracing::warn!(%error, "a function could not be told to forget its call");
            }
        });
    }

    fn catch_rows(&mut self) {
        attached(|py| {
            if let Err(error) = self.function.call_method0(py, "catch_rows") {
                tracing::warn!(%error, "a function cannot tell which of its rows fail");
            }
        });
    }

    fn take_counts(&mut self) -> FunctionCounts {
        if !self.has_turns {
            return FunctionCounts::default();
        }
        attached(|py| {
            let waited = self.function.call_method0(py, "take_waited_s");
            let waited = waited.and_then(|seconds| seconds.extract::<f64>(py));
            let waited = waited
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            FunctionCounts {
                waited: waited.unwrap_or_default(),
                ..FunctionCounts::default()
            }
        })
    }

    fn count_tokens(&mut self, batch: RecordBatch) -> Result<Vec<u64>, TaskFailure> {
        attached(|py| {
            let count = || -> PyResult<Vec<u64>> {
                let batch = batch_to_py(py, &batch)?;
                let counted = self.function.call_method1(py, "count_tokens", (batch,))?;
                counted.extract(py)
            };
            count().map_err(|error| described(py, &error, &self.name))
        })
    }

    fn free_memory(&mut self) {
        attached(|py| {
            if let Err(error) = self.function.call_method0(py, "free_memory") {
                tracing::warn!(%error, "a function could not be told to free memory");
            }
        });
    }

    fn take_failed(&mut self) -> Result<Vec<FailedRow>, TaskFailure> {
        attached(|py| {
            let failed = self.function.call_method0(py, "take_failed");
            let failed = failed.and_then(|failed| failed.extract::<Vec<PyFailedRow>>(py));
            let failed = failed.map_err(|error| described(py, &error, &self.name))?;
            let row = |(position, error, message, traceback): PyFailedRow| FailedRow {
                position,
                error,
                message,
                traceback,
            };
            Ok(failed.into_iter().map(row).collect())
        })
    }
}
