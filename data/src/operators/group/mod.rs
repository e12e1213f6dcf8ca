//! Stages that run together: one plan of the engine's operators, on threads of this worker.
//!
//! ```text
//!  splits of every source ──► leaves ──► filters, projections, joins, groups, sorts ──► one stream ──► blocks
//!                             (as many partitions as threads, rows exchanged in memory by the engine)
//! ```
//! What a stage does is what it does alone ([`fragment`](super::fragment)); only how rows come from one stage to the next is
//! different here. All of them share one pool of memory; sorts, groups and joins put into files what has no room.

mod hold;
mod leaf;
mod meeting;
mod meters;
mod plan;
mod row_bytes;
#[cfg(test)]
mod tests;

pub(crate) use meters::GroupMeters;

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;
use datafusion_execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};

use super::failing::FailingInput;
use super::fragment::{self, Environment};
use super::stream::BatchStream;
use crate::graph::GroupTask;
use crate::sources::{InputBlock, Opened};
use crate::wire::group::GroupPosition;

/// The step that failures of the whole are told of.
const STEP: &str = "Query";
/// Of the memory of a thread, the allocator may keep one of so many parts for its next batches: readers have threads, too.
const KEPT_PART: u64 = 16;
/// Columns of a batch, at least.
const LEAST_KEPT_BYTES: u64 = 1 << 20;
/// Batches have no use for more.
const MOST_KEPT_BYTES: u64 = 32 << 20;

/// The rows that the last stage of the group gives, for the input at this place. `failing`: where expectations tell what they have
/// found, if there are any.
pub(crate) fn open(
    group: &GroupTask,
    input: Opened,
    environment: &Environment,
    failing: Option<&Arc<FailingInput>>,
) -> Result<(Box<dyn BatchStream>, GroupMeters), TaskFailure> {
    let inputs = inputs_of(input)?;
    let planned = plan::planned(group, inputs, environment, failing)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(group.threads.max(1) as usize)
        .thread_name("aktis-query")
        .build()
        .map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("start threads for a query: {error}"),
            )
        })?;
    let threads = group.threads as usize;
    let kept = environment.memory() as u64 / (u64::from(group.threads.max(1)) * KEPT_PART);
    aktis_worker::keep_freed(kept.clamp(LEAST_KEPT_BYTES, MOST_KEPT_BYTES));
    let mut environment = environment.clone();
    if environment.is_scarce(threads) {
        // What is known of files is how long rows are there, which may be a hundredth.
        environment.row_bytes = environment.row_bytes.max(planned.row_bytes()?);
    }
    let output = {
        // Operators begin tasks.
        let _entered = runtime.enter();
        let context = environment.shared_context(threads);
        context.and_then(|context| planned.root.execute(0, context))
    };
    let rows = GroupRows {
        schema: planned.root.schema(),
        output: output.map_err(|error| failure(&error))?,
        is_told: false,
        runtime,
    };
    Ok((Box::new(rows), planned.meters))
}

/// Of each member: its splits.
fn inputs_of(input: Opened) -> Result<Vec<VecDeque<Opened>>, TaskFailure> {
    let GroupPosition { members } = GroupPosition::read(input.position)?;
    let mut blocks = input.blocks.into_iter();
    let mut inputs = Vec::with_capacity(members.len());
    for member in members {
        let mut splits = VecDeque::with_capacity(member.splits.len());
        for split in member.splits {
            let own: Vec<InputBlock> = blocks.by_ref().take(split.blocks as usize).collect();
            if own.len() < split.blocks as usize {
                return Err(TaskFailure::new(
                    ErrorCode::Internal,
                    "an input came with fewer blocks than its splits have",
                ));
            }
            splits.push_back(Opened {
                position: split.position,
                blocks: own,
            });
        }
        inputs.push(splits);
    }
    Ok(inputs)
}

/// What happened on some thread, for the user: a reader's own words, or the engine's.
fn failure(error: &DataFusionError) -> TaskFailure {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<TaskFailure>() {
            Some(failure) => failure.clone(),
            None => fragment::failure(STEP, error),
        },
        _ => fragment::failure(STEP, error),
    }
}

struct GroupRows {
    /// Before the runtime, so that its tasks are gone first.
    output: SendableRecordBatchStream,
    schema: SchemaRef,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
    runtime: Runtime,
}

impl BatchStream for GroupRows {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            let batch = self.runtime.block_on(self.output.next()).transpose();
            match batch.map_err(|error| failure(&error))? {
                Some(batch) if batch.num_rows() > 0 => {
                    self.is_told = true;
                    return Ok(Some(batch));
                }
                Some(_) => {}
                None => {
                    let is_told = std::mem::replace(&mut self.is_told, true);
                    let schema = Arc::clone(&self.schema);
                    return Ok((!is_told).then(|| RecordBatch::new_empty(schema)));
                }
            }
        }
    }
}
