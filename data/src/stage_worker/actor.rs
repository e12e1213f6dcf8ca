//! The stage worker as an actor of a cluster: what it is called by, and how its messages are read.

use std::path::Path;

use aktis_common::error::ErrorCode;
use aktis_worker::native::{CallContext, NativeActor, NativeRegistry};
use aktis_worker::{TaskFailure, Value};
use prost::Message;

use super::StageWorker;
use crate::block::EncodedBlock;
use crate::operators::fragment::SpillPlace;
use crate::sources::{InputBlock, block_bytes};
use crate::wire::spec::{InputSpec, Report, StageSpec};

/// The actor's name in the registry.
pub const STAGE_WORKER: &str = "aktis.data.StageWorker";
/// Loads the functions of the stage. No result but success.
pub const METHOD_READY: &str = "ready";
/// Begins an input and pulls once.
pub const METHOD_START: &str = "start";
/// Adds an input that follows the one that is under way, and pulls once.
pub const METHOD_QUEUE: &str = "queue";
/// Pulls once.
pub const METHOD_PULL: &str = "pull";

/// Rows that do not fit into the memory of relational work lie here, in the folder that the node spills to: they go with it.
const SPILL_FOLDER: &str = "rows";

/// Adds the stage worker to the actors that a worker process can run.
#[must_use]
pub fn register(registry: NativeRegistry) -> NativeRegistry {
    registry.with_actor(STAGE_WORKER, |context, input, captured| {
        let spec = StageSpec::decode(&*input.inband).map_err(|error| broken_message(&error))?;
        let node = context.runtime.greeting();
        // It may wait for its dataset's consumer for as long as that likes.
        context.runtime.rest_when_idle();
        let worker = StageWorker::new(spec, captured)?.of_cluster(context.runtime);
        Ok(Box::new(worker.spilling_into(SpillPlace {
            folder: Path::new(&node.spill_dir).join(SPILL_FOLDER),
            min_free_fraction: node.min_free_disk_fraction,
            min_free_bytes: node.min_free_disk_bytes,
        })))
    })
}

fn broken_message(error: &prost::DecodeError) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("read a message for a stage worker: {error}"),
    )
}

impl NativeActor for StageWorker {
    fn call(
        &mut self,
        context: &CallContext<'_>,
        method: &str,
        input: Value,
        dependencies: Vec<Value>,
    ) -> Result<Vec<Value>, TaskFailure> {
        match method {
            METHOD_READY => {
                let ready = self.ready()?;
                Ok(vec![Value::native(ready.encode_to_vec())])
            }
            METHOD_START => {
                let (spec, blocks) = given(input, dependencies)?;
                reply(context, self.begin(spec, blocks)?)
            }
            METHOD_QUEUE => {
                let (spec, blocks) = given(input, dependencies)?;
                reply(context, self.queue(spec, blocks)?)
            }
            METHOD_PULL => reply(context, self.pull()?),
            other => Err(TaskFailure::new(
                ErrorCode::Internal,
                format!("a stage worker has no method {other:?}"),
            )),
        }
    }
}

/// An input with its blocks.
fn given(
    input: Value,
    dependencies: Vec<Value>,
) -> Result<(InputSpec, Vec<InputBlock>), TaskFailure> {
    let spec = InputSpec::decode(&*input.inband).map_err(|error| broken_message(&error))?;
    let there = input.contained.into_iter().map(InputBlock::Stored);
    let here = dependencies.into_iter().map(block_bytes);
    Ok((spec, there.chain(here.map(InputBlock::Here)).collect()))
}

/// The two results of a call; the block is the second.
fn reply(
    context: &CallContext<'_>,
    (report, block): (Report, Option<EncodedBlock>),
) -> Result<Vec<Value>, TaskFailure> {
    let report = Value::native(report.encode_to_vec());
    let block = block
        .map(|block| block.into_result(context, 1))
        .transpose()?;
    Ok(vec![report, block.unwrap_or_default()])
}
