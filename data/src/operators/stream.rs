//! Batches one after another.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::map::CallsAhead;

/// Batches one after another; ends with `None` or at the first failure.
pub(crate) trait BatchStream: Send {
    /// The next batch.
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure>;

    /// The next rows where they lie, if nobody has put them together: about so many bytes of them. For whoever would copy them once more.
    /// `None`: the next ones are to be had from [`next`](Self::next).
    fn next_picked(&mut self, _bytes: u64) -> Result<Option<PickedRows>, TaskFailure> {
        Ok(None)
    }

    /// So many rows have come to the first function of the stage, and all that becomes of them has been given; `None`: something
    /// is between, or nobody knows.
    fn position(&self) -> Option<u64> {
        self.passes_on()?.position()
    }

    /// The same, without the batch that was given last.
    fn position_before(&self) -> Option<u64> {
        self.passes_on()?.position_before()
    }

    /// Begins calls whose turn would come later, as many as may be under way. `before`: calls of an input that comes first, of
    /// the same function. `None`: it has more to begin, or its calls do not overlap.
    fn begin_ahead(
        &mut self,
        _before: Option<&CallsBegun>,
    ) -> Result<Option<CallsBegun>, TaskFailure> {
        Ok(None)
    }

    /// Whether [`next`](Self::next) has something to give by then, as far as that can be known; waits so long at most.
    fn is_ready_within(&mut self, _patience: Duration) -> Result<bool, TaskFailure> {
        Ok(true)
    }

    /// Where its batches come from, if it gives all that becomes of one before it takes another: their places are its own.
    fn passes_on(&self) -> Option<&dyn BatchStream> {
        None
    }
}

/// Rows of batches that have others too.
#[derive(Debug)]
pub(crate) struct PickedRows {
    pub(crate) batches: Arc<Vec<RecordBatch>>,
    /// Batch and row of each.
    pub(crate) places: Vec<(usize, usize)>,
    /// How many they have, about.
    pub(crate) bytes: u64,
}

impl PickedRows {
    /// Their columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.batches[0].schema()
    }
}

/// The calls of a step over an input, all of which are begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallsBegun {
    /// Those that are not over, or wait behind such.
    pub(crate) calls: usize,
    /// As many as there may be.
    pub(crate) most: usize,
    /// What they hold.
    pub(crate) ahead: CallsAhead,
}

impl CallsBegun {
    /// Whether one more may be begun.
    pub(crate) fn have_room(&self) -> bool {
        self.calls < self.most
    }
}

impl BatchStream for Box<dyn BatchStream> {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        (**self).next()
    }

    fn next_picked(&mut self, bytes: u64) -> Result<Option<PickedRows>, TaskFailure> {
        (**self).next_picked(bytes)
    }

    fn begin_ahead(
        &mut self,
        before: Option<&CallsBegun>,
    ) -> Result<Option<CallsBegun>, TaskFailure> {
        (**self).begin_ahead(before)
    }

    fn is_ready_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        (**self).is_ready_within(patience)
    }

    fn passes_on(&self) -> Option<&dyn BatchStream> {
        Some(&**self)
    }
}

/// Only pauses have these columns.
static PAUSE: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::empty()));

/// Not a row, and no word of columns: whoever pulls is to do what else there is, and pull again.
pub(crate) fn pause() -> RecordBatch {
    RecordBatch::new_empty(Arc::clone(&PAUSE))
}

/// Whether it is a [`pause`], and no batch.
pub(crate) fn is_pause(batch: &RecordBatch) -> bool {
    Arc::ptr_eq(batch.schema_ref(), &PAUSE)
}

/// Batches that are there already.
#[cfg(test)]
pub(crate) struct Batches(pub(crate) std::vec::IntoIter<RecordBatch>);

#[cfg(test)]
impl BatchStream for Batches {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        Ok(self.0.next())
    }
}

/// A stream that runs ahead of its reader on a thread of its own, by a bounded number of batches.
///
/// STG-3 (an-end-is-said): the thread says its end as a value. A channel that closes without one means that the thread
/// has panicked; its panic goes on in the reader, and is never taken for the end of the rows.
pub(crate) struct Prefetched {
    /// `None` once the end was read.
    ahead: Option<Ahead>,
}

struct Ahead {
    items: Receiver<Item>,
    thread: JoinHandle<()>,
}

/// What the reading thread sends: batches, then the end or a failure.
enum Item {
    Batch(RecordBatch),
    End(Result<(), TaskFailure>),
}

impl Prefetched {
    /// Starts reading. The thread ends when the stream does or when this is dropped.
    pub(crate) fn spawn(stream: Box<dyn BatchStream>, ahead: usize) -> Result<Self, TaskFailure> {
        let (sender, items) = sync_channel(ahead);
        let thread = thread::Builder::new()
            .name("aktis-read".to_owned())
            .spawn(move || read_ahead(stream, &sender))
            .map_err(|error| {
                TaskFailure::new(
                    ErrorCode::Internal,
                    format!("start a reading thread: {error}"),
                )
            })?;
        Ok(Self {
            ahead: Some(Ahead { items, thread }),
        })
    }

    /// Nothing more is read. The thread is joined, and if it has panicked, its panic goes on here.
    fn end(&mut self) {
        if let Some(Ahead { items, thread }) = self.ahead.take() {
            drop(items);
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }
}

fn read_ahead(mut stream: Box<dyn BatchStream>, sender: &SyncSender<Item>) {
    loop {
        let item = match stream.next() {
            Ok(Some(batch)) => Item::Batch(batch),
            Ok(None) => Item::End(Ok(())),
            Err(failure) => Item::End(Err(failure)),
        };
        let is_last = matches!(item, Item::End(_));
        // Nobody reads on: the input was given up.
        if sender.send(item).is_err() || is_last {
            return;
        }
    }
}

impl BatchStream for Prefetched {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Some(ahead) = &self.ahead else {
            return Ok(None);
        };
        match ahead.items.recv() {
            Ok(Item::Batch(batch)) => Ok(Some(batch)),
            Ok(Item::End(outcome)) => {
                self.end();
                outcome.map(|()| None)
            }
            Err(RecvError) => {
                self.end();
                Err(TaskFailure::new(
                    ErrorCode::Internal,
                    "a reading thread ended without a word",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::testing::rows;

    /// Gives some batches, then panics as a decoder may.
    struct Panics(usize);

    impl BatchStream for Panics {
        fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
            assert!(self.0 > 0, "column start and length should not be negative");
            self.0 -= 1;
            Ok(Some(rows(0, 2)))
        }
    }

    /// STG-3 (an-end-is-said).
    #[test]
    fn panic_of_a_reading_thread_goes_on_in_the_reader() {
        let mut stream = Prefetched::spawn(Box::new(Panics(3)), 2).expect("starts");
        for _ in 0..3 {
            assert!(stream.next().expect("reads").is_some());
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| stream.next()));
        let panic = outcome.expect_err("the end was never said");
        assert!(crate::panics::text_of(panic.as_ref()).contains("should not be negative"));
    }

    #[test]
    fn end_and_failure_are_told_apart_and_nothing_comes_after_them() {
        let batches = Batches(vec![rows(0, 2)].into_iter());
        let mut stream = Prefetched::spawn(Box::new(batches), 1).expect("starts");
        assert!(stream.next().expect("reads").is_some());
        assert!(stream.next().expect("ends").is_none());
        assert!(stream.next().expect("has ended").is_none());
    }

    #[test]
    fn reader_that_goes_away_ends_the_thread() {
        let batches = Batches(vec![rows(0, 2); 100].into_iter());
        let mut stream = Prefetched::spawn(Box::new(batches), 1).expect("starts");
        assert!(stream.next().expect("reads").is_some());
        // Joins the thread: this would hang if it did not see that nobody reads.
        stream.end();
    }
}
