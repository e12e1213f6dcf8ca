//! Functions of a stage, loaded once per worker.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::{TaskFailure, Value};
use parking_lot::Mutex;

use crate::operators::embed;
use crate::operators::udf::{self, BatchFunction};
use crate::wire::spec::{FunctionKind, MapStep};

/// A loaded function. Only one input uses it at a time.
pub(crate) type SharedFunction = Arc<Mutex<Box<dyn BatchFunction>>>;

/// Makes the function of a step ready.
pub(crate) fn load(
    step: &MapStep,
    captured: Option<&Value>,
) -> Result<SharedFunction, TaskFailure> {
    let function: Box<dyn BatchFunction> = match &step.function {
        Some(FunctionKind::Python(definition)) => udf::load(definition, captured)?,
        Some(FunctionKind::Embedder(spec)) => embed::load(spec)?,
        None => {
            return Err(TaskFailure::new(
                ErrorCode::Internal,
                "a map step has no function",
            ));
        }
    };
    Ok(Arc::new(Mutex::new(function)))
}
