//! An operator under way, polled on the thread of the stage worker.
//!
//! Operators ask for rows from inside of a poll, where nothing may block and no other runtime may be entered; but the rows
//! come from functions and readers that do both. So an operator that wants rows gets none at once: the wish is noted in its
//! [`Slot`], polling stops, the rows are fetched, and polling goes on.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::{DataFusionError, Result};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::environment::Environment;
use super::failure;
use super::feed::FragmentFeed;

/// Threads that read spill files: a thread for each file that is merged would have a stack and a place in the allocator, too.
const FILE_THREADS: usize = 2;

/// What happens to rows before they get into the operator, or when they come out of it.
pub(super) type Dress = Box<dyn FnMut(RecordBatch) -> Result<RecordBatch> + Send>;

/// An operator and its rows.
pub(super) struct Run {
    step: &'static str,
    /// Before the runtime, so that its tasks are gone first.
    output: SendableRecordBatchStream,
    /// One for each feed.
    slots: Vec<Arc<Slot>>,
    /// For the rows of the first feed.
    before: Dress,
    after: Dress,
    schema: SchemaRef,
    runtime: Runtime,
}

/// Where rows get into an operator.
#[derive(Default)]
pub(super) struct Slot(Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    /// An operator reads it.
    is_begun: bool,
    rows: Option<RecordBatch>,
    is_over: bool,
    is_wanted: bool,
    reader: Option<Waker>,
    driver: Option<Waker>,
}

enum Driven {
    Output(Option<Result<RecordBatch>>),
    /// Of this feed.
    RowsWanted(usize),
}

/// The rows of a slot as the leaf of a plan.
pub(super) fn leaf(schema: &SchemaRef) -> Result<(Arc<Slot>, Arc<dyn ExecutionPlan>)> {
    let slot = Arc::new(Slot::default());
    let rows = SlotRows {
        schema: Arc::clone(schema),
        slot: Arc::clone(&slot),
    };
    let schema = Arc::clone(schema);
    let leaf = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, [], false, None)?;
    Ok((slot, Arc::new(leaf)))
}

impl Run {
    /// Begins `plan`, which reads from `slots`.
    pub(super) fn new(
        step: &'static str,
        plan: &Arc<dyn ExecutionPlan>,
        slots: Vec<Arc<Slot>>,
        environment: &Environment,
    ) -> Result<Self> {
        let runtime = runtime()?;
        let context = environment.context(slots.len())?;
        let output = {
            // Operators may begin tasks.
            let _entered = runtime.enter();
            plan.execute(0, context)?
        };
        Ok(Self {
            step,
            schema: plan.schema(),
            output,
            slots,
            before: Box::new(Ok),
            after: Box::new(Ok),
            runtime,
        })
    }

    /// With rows changed on their way in and out; `schema`: what comes out then.
    pub(super) fn dressed(mut self, before: Dress, after: Dress, schema: SchemaRef) -> Self {
        self.before = before;
        self.after = after;
        self.schema = schema;
        self
    }

    /// The columns that come out.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next rows that come out, made of those of `feeds`.
    pub(super) fn next(
        &mut self,
        feeds: &mut [FragmentFeed],
    ) -> Result<Option<RecordBatch>, TaskFailure> {
        let wrong = |error: &DataFusionError| failure(self.step, error);
        loop {
            let (output, slots) = (&mut self.output, &self.slots);
            let step = self.runtime.block_on(std::future::poll_fn(|context| {
                for slot in slots {
                    slot.0.lock().driver = Some(context.waker().clone());
                }
                if let Poll::Ready(item) = output.poll_next_unpin(context) {
                    return Poll::Ready(Driven::Output(item));
                }
                let wanted = slots.iter().position(|slot| slot.0.lock().is_wanted);
                wanted.map_or(Poll::Pending, |feed| Poll::Ready(Driven::RowsWanted(feed)))
            }));
            match step {
                Driven::Output(Some(batch)) => {
                    let batch = batch.and_then(&mut self.after);
                    return batch.map(Some).map_err(|error| wrong(&error));
                }
                Driven::Output(None) => return Ok(None),
                Driven::RowsWanted(feed) => {
                    let mut rows = feeds[feed].next()?;
                    if feed == 0 {
                        let dressed = rows.map(&mut self.before).transpose();
                        rows = dressed.map_err(|error| wrong(&error))?;
                    }
                    self.slots[feed].fill(rows);
                }
            }
        }
    }
}

/// What an operator is polled in.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .max_blocking_threads(FILE_THREADS)
        .build()
        .map_err(DataFusionError::IoError)
}

impl Slot {
    /// The rows that were wanted; `None`: there are no more.
    fn fill(&self, rows: Option<RecordBatch>) {
        let mut state = self.0.lock();
        state.is_wanted = false;
        state.is_over = rows.is_none();
        state.rows = rows;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[derive(Debug)]
struct SlotRows {
    schema: SchemaRef,
    slot: Arc<Slot>,
}

impl PartitionStream for SlotRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let is_again = std::mem::replace(&mut self.slot.0.lock().is_begun, true);
        if is_again {
            // An operator that holds rows without files begins anew, with files, where they do not fit.
            let text = "rows that must be held".to_owned();
            let none = futures::stream::iter([Err(DataFusionError::ResourcesExhausted(text))]);
            return Box::pin(RecordBatchStreamAdapter::new(schema, none));
        }
        let rows = SlotStream(Arc::clone(&self.slot));
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

struct SlotStream(Arc<Slot>);

impl Stream for SlotStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.0.lock();
        if let Some(rows) = state.rows.take() {
            return Poll::Ready(Some(Ok(rows)));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        state.is_wanted = true;
        state.reader = Some(context.waker().clone());
        if let Some(driver) = state.driver.take() {
            driver.wake();
        }
        Poll::Pending
    }
}
