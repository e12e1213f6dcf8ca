//! Batches one after another.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

/// Batches one after another; ends with `None` or at the first failure.
pub(crate) trait BatchStream: Send {
    /// The next batch.
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure>;
}

impl BatchStream for Box<dyn BatchStream> {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        (**self).next()
    }
}

/// Batches that are there already.
pub(crate) struct Batches(pub(crate) std::vec::IntoIter<RecordBatch>);

impl BatchStream for Batches {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        Ok(self.0.next())
    }
}

/// A stream that runs ahead of its reader on a thread of its own, by a bounded number of batches.
pub(crate) struct Prefetched {
    batches: Receiver<Result<RecordBatch, TaskFailure>>,
}

impl Prefetched {
    /// Starts reading. The thread ends when the stream does or when this is dropped.
    pub(crate) fn spawn(
        mut stream: Box<dyn BatchStream>,
        ahead: usize,
    ) -> Result<Self, TaskFailure> {
        let (sender, batches) = sync_channel(ahead);
        let read = move || {
            loop {
                let item = match stream.next() {
                    Ok(Some(batch)) => Ok(batch),
                    Ok(None) => return,
                    Err(failure) => Err(failure),
                };
                let is_over = item.is_err();
                if sender.send(item).is_err() || is_over {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("aktis-read".to_owned())
            .spawn(read)
            .map_err(|error| {
                TaskFailure::new(
                    ErrorCode::Internal,
                    format!("start a reading thread: {error}"),
                )
            })?;
        Ok(Self { batches })
    }
}

impl BatchStream for Prefetched {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        // A closed channel is the end of the stream.
        self.batches.recv().ok().transpose()
    }
}
