//! The seam between a stage worker and functions in another language.
//!
//! The bindings install one [`UdfHost`] when their process starts; a stage worker asks it to make functions ready. Data
//! crosses as Arrow record batches, whose buffers the other side reads in place.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_inference::HubModel;
use aktis_worker::{TaskFailure, Value};
use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::storage::RemoteFiles;

/// Makes functions of another language callable.
pub trait UdfHost: Send + Sync {
    /// Makes a function ready: for a class, constructs it. `captured` holds the references that were cut out of it.
    fn load(
        &self,
        definition: &Bytes,
        captured: Option<&Value>,
    ) -> Result<Box<dyn BatchFunction>, TaskFailure>;

    /// Makes a store of files ready for reading.
    fn open_files(&self, definition: &Bytes) -> Result<Arc<dyn RemoteFiles>, TaskFailure>;

    /// Makes a format of files ready to write rows into `folder`, in files whose names begin with `stem`.
    fn open_writer(
        &self,
        definition: &Bytes,
        folder: &str,
        stem: &str,
    ) -> Result<Box<dyn RowsWriter>, TaskFailure>;

    /// Decodes images that lie as they lie in files in a batch of one column: a batch of their pixels.
    fn decode_images(&self, images: &RecordBatch) -> Result<RecordBatch, TaskFailure>;

    /// A folder of this node with the files of a model of a hub, which are fetched if need be: from a node that has them, or from the hub.
    fn model_folder(&self, model: &HubModel) -> Result<PathBuf, TaskFailure>;
}

/// A format of files that another language writes. Dropped without [`finish`](Self::finish), it removes what it has written.
pub trait RowsWriter: Send {
    /// Takes rows.
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure>;

    /// Makes its files whole: their names and rows.
    fn finish(&mut self) -> Result<Vec<(String, u64)>, TaskFailure>;
}

/// A function from batches to batches. After [`begin`](Self::begin), outputs are pulled one by one until there is none.
pub trait BatchFunction: Send {
    /// How many calls may be under way at once. Their outputs come call after call, in the order they began.
    fn calls_ahead(&self) -> usize {
        1
    }

    /// Whether more calls than that may be begun, of which those that are too many wait by themselves.
    fn limits_calls(&self) -> bool {
        false
    }

    /// Whether each output is made when it is asked for; if not, asking whether a call has another one costs nothing.
    fn is_lazy(&self) -> bool {
        true
    }

    /// Calls the function with one batch.
    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure>;

    /// The next batch that the first call gives, `None` at its end. A call that fails has ended.
    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure>;

    /// Whether [`next_output`](Self::next_output) need not wait any more by then; waits so long at most, if it can tell.
    fn has_output_within(&mut self, _patience: Duration) -> Result<bool, TaskFailure> {
        Ok(true)
    }

    /// Nobody wants the outputs of the calls under way.
    fn forget_calls(&mut self);

    /// All calls with rows of an input are over; there may be calls with those of another.
    fn end_input(&mut self) {}

    /// From now on rows that fail may be left out: where it can tell which of them a failure is about, it says so by
    /// [`take_failed`](Self::take_failed) and goes on with the others.
    fn catch_rows(&mut self) {}

    /// How many tokens each row of a batch has, where the function is asked for that.
    fn count_tokens(&mut self, _batch: RecordBatch) -> Result<Vec<u64>, TaskFailure> {
        Err(TaskFailure::new(
            ErrorCode::Internal,
            "this function counts no tokens",
        ))
    }

    /// A call has failed for want of memory: what is kept for later calls is to be given back.
    fn free_memory(&mut self) {}

    /// Rows of the first call, or of the one that has just ended or failed, that are to be left out of what it gives.
    fn take_failed(&mut self) -> Result<Vec<FailedRow>, TaskFailure> {
        Ok(Vec::new())
    }

    /// With how many rows of its batch the call was made that has just ended well, where the results of others were at hand; `None`: with
    /// all of them.
    fn rows_asked(&self) -> Option<usize> {
        None
    }

    /// What it has counted since this was last asked.
    fn take_counts(&mut self) -> FunctionCounts {
        FunctionCounts::default()
    }
}

/// What a function counts by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionCounts {
    /// Time for which calls waited for their turns (`rate_limit=`).
    pub waited: Duration,
    /// Rows whose results were kept (`cache=`).
    pub cache_hits: u64,
    /// Rows that a function with a cache was called with.
    pub cache_misses: u64,
}

/// A row that a function has failed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    /// Its place in the batch of the call.
    pub position: usize,
    /// The class of the exception.
    pub error: String,
    /// What it says.
    pub message: String,
    /// Where it was raised, for people.
    pub traceback: String,
}

static HOST: OnceLock<Box<dyn UdfHost>> = OnceLock::new();

/// Installs the host of this process. The first one stays.
pub fn install(host: Box<dyn UdfHost>) {
    // A second call comes from a second import of the same module; both hosts are the same.
    let _ = HOST.set(host);
}

fn host() -> Result<&'static dyn UdfHost, TaskFailure> {
    let host = HOST.get().ok_or_else(|| {
        TaskFailure::new(
            ErrorCode::Internal,
            "this process cannot run Python functions: it was started without the Python bindings",
        )
    })?;
    Ok(host.as_ref())
}

/// Makes a function ready on this process's host.
pub(crate) fn load(
    definition: &Bytes,
    captured: Option<&Value>,
) -> Result<Box<dyn BatchFunction>, TaskFailure> {
    host()?.load(definition, captured)
}

/// Makes a store of files ready on this process's host.
pub(crate) fn open_files(definition: &Bytes) -> Result<Arc<dyn RemoteFiles>, TaskFailure> {
    host()?.open_files(definition)
}

/// Decodes images on this process's host; see [`UdfHost::decode_images`].
pub(crate) fn decode_images(images: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
    host()?.decode_images(images)
}

/// Finds the files of a model by this process's host; see [`UdfHost::model_folder`].
pub(crate) fn model_folder(model: &HubModel) -> Result<PathBuf, TaskFailure> {
    host()?.model_folder(model)
}

/// Makes a format of files ready on this process's host; see [`UdfHost::open_writer`].
pub(crate) fn open_writer(
    definition: &Bytes,
    folder: &str,
    stem: &str,
) -> Result<Box<dyn RowsWriter>, TaskFailure> {
    host()?.open_writer(definition, folder, stem)
}
