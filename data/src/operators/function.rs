//! Functions of a stage, loaded once per worker.

use std::sync::Arc;

use aktis_worker::{TaskFailure, Value};
use parking_lot::Mutex;

use super::embed::EmbedFunction;
use crate::graph::Function;
use crate::operators::udf::{self, BatchFunction};

/// A loaded function. Only one input uses it at a time.
pub(crate) type SharedFunction = Arc<Mutex<Box<dyn BatchFunction>>>;

/// Makes a function ready.
pub(crate) fn load(
    function: &Function,
    captured: Option<&Value>,
) -> Result<SharedFunction, TaskFailure> {
    let function: Box<dyn BatchFunction> = match function {
        Function::Python(definition) => udf::load(definition, captured)?,
        Function::Embedder(spec) => Box::new(EmbedFunction::load((**spec).clone())?),
    };
    Ok(Arc::new(Mutex::new(function)))
}
