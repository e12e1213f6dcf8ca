//! A partition of a join: which side is held shows when one of them has come to its end.
//!
//! ```text
//!  left  ──► held ─┐ in turn, the side with fewer bytes; the first that ends is the smaller one
//!  right ──► held ─┘
//!    └► it has room: a hash table of it, the other side passes by
//!    └► neither has: both are sorted, which spills, and merged
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::{DataFusionError, Result};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::metrics::BaselineMetrics;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::hold::{Held, Holding};
use crate::block::data_bytes;
use crate::graph::Join;
use crate::operators::fragment::{How, Layout};
use crate::operators::node::{Beginning, StepNode};

/// A join of two inputs that were cut by their keys alike.
pub(super) struct KeyedJoin {
    pub(super) join: Join,
    pub(super) layout: Layout,
    pub(super) holding: Arc<Holding>,
}

impl KeyedJoin {
    /// The join as a step over its sides.
    pub(super) fn over(
        self,
        sides: Vec<Arc<dyn ExecutionPlan>>,
        partitions: usize,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = self.layout.schema();
        let meeting = Arc::new(self);
        let columns = (Arc::clone(&schema), partitions);
        let work = move |inputs: Vec<SendableRecordBatchStream>, beginning: Beginning| {
            let meeting = Arc::clone(&meeting);
            let rows = futures::stream::once(meeting.begin(inputs, beginning)).try_flatten();
            let rows: SendableRecordBatchStream =
                Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
            Ok(rows)
        };
        StepNode::plan("Join", sides, columns, Arc::new(work))
    }

    async fn begin(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        Beginning { context, metrics }: Beginning,
    ) -> Result<Counted> {
        let mut held = Held::new(&self.holding);
        let sides: Vec<Side> = inputs.into_iter().map(Side::new).collect();
        let how = choose(&sides, &mut held).await?;
        let mut rows = self.run(how, &sides, &context)?;
        let mut first = rows.next().await.transpose();
        if let (How::Hash { is_left_held }, Err(error)) = (how, &first)
            && is_lack_of_memory(error)
            && sides[usize::from(is_left_held)].is_untouched()
        {
            // Others took the memory meanwhile.
            drop(rows);
            rows = self.run(How::Merge, &sides, &context)?;
            first = rows.next().await.transpose();
        }
        let held = matches!(how, How::Hash { .. }).then_some(held);
        sides.iter().for_each(Side::forget);
        Ok(Counted {
            first: first?,
            rows,
            metrics,
            _held: held,
        })
    }

    fn run(
        &self,
        how: How,
        sides: &[Side],
        context: &Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let plan = self
            .layout
            .plan(&self.join, how, sides[0].leaf(), sides[1].leaf())?;
        plan.execute(0, Arc::clone(context))
    }
}

/// Reads both sides until one of them is at its end, or there is no room.
async fn choose(sides: &[Side], held: &mut Held) -> Result<How> {
    let mut bytes = [0, 0];
    loop {
        let next = usize::from(bytes[1] < bytes[0]);
        let Some(batch) = sides[next].read().await? else {
            return Ok(How::Hash {
                is_left_held: next == 0,
            });
        };
        let more = data_bytes(&batch);
        bytes[next] += more;
        let has_room = held.grow(batch.num_rows(), more);
        sides[next].hold(batch);
        if !has_room {
            return Ok(How::Merge);
        }
    }
}

fn is_lack_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// One side: what was read of it, and the rest. An operator that begins anew gets all of it again.
#[derive(Clone)]
struct Side {
    schema: SchemaRef,
    state: Arc<Mutex<SideState>>,
}

struct SideState {
    held: Vec<RecordBatch>,
    rest: Option<SendableRecordBatchStream>,
    /// Whether an operator has taken rows that are not held.
    is_touched: bool,
}

impl Side {
    fn new(rows: SendableRecordBatchStream) -> Self {
        Self {
            schema: rows.schema(),
            state: Arc::new(Mutex::new(SideState {
                held: Vec::new(),
                rest: Some(rows),
                is_touched: false,
            })),
        }
    }

    async fn read(&self) -> Result<Option<RecordBatch>> {
        std::future::poll_fn(|context| self.state.lock().poll_rest(context))
            .await
            .transpose()
    }

    fn hold(&self, batch: RecordBatch) {
        self.state.lock().held.push(batch);
    }

    fn is_untouched(&self) -> bool {
        !self.state.lock().is_touched
    }

    /// Nobody begins anew.
    fn forget(&self) {
        self.state.lock().held.clear();
    }

    /// All of its rows, for one operator.
    fn leaf(&self) -> Arc<dyn ExecutionPlan> {
        let side = self.clone();
        let work = move |_: Vec<SendableRecordBatchStream>, _: Beginning| {
            let rows = SideRows {
                held: side.state.lock().held.clone().into(),
                side: side.clone(),
            };
            let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(
                Arc::clone(&side.schema),
                rows,
            ));
            Ok(rows)
        };
        StepNode::plan(
            "Side",
            Vec::new(),
            (Arc::clone(&self.schema), 1),
            Arc::new(work),
        )
    }
}

impl SideState {
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let polled = rest.poll_next_unpin(context);
        if matches!(polled, Poll::Ready(None)) {
            self.rest = None;
        }
        polled
    }
}

struct SideRows {
    held: VecDeque<RecordBatch>,
    side: Side,
}

impl Stream for SideRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = self.held.pop_front() {
            return Poll::Ready(Some(Ok(batch)));
        }
        let mut state = self.side.state.lock();
        state.is_touched = true;
        state.poll_rest(context)
    }
}

/// The rows that come out, counted.
struct Counted {
    first: Option<RecordBatch>,
    rows: SendableRecordBatchStream,
    metrics: BaselineMetrics,
    _held: Option<Held>,
}

impl Stream for Counted {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.rows.poll_next_unpin(context),
        };
        if let Poll::Ready(Some(Ok(batch))) = &polled {
            self.metrics.record_output(batch.num_rows());
        }
        polled
    }
}
