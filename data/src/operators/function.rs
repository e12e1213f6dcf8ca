//! Functions of a stage, loaded once per worker.

use std::sync::Arc;

use aktis_worker::{TaskFailure, Value};
use parking_lot::Mutex;

use super::cached::CachedFunction;
use super::model;
use crate::graph::{Function, MapCall};
use crate::operators::udf::{self, BatchFunction};

/// A loaded function. Only one input uses it at a time.
pub(crate) type SharedFunction = Arc<Mutex<Box<dyn BatchFunction>>>;

/// Makes a function ready.
pub(crate) fn load(
    function: &Function,
    captured: Option<&Value>,
) -> Result<SharedFunction, TaskFailure> {
    Ok(shared(loaded(function, captured)?))
}

/// Makes the function of a step ready, with its cache.
pub(crate) fn load_of_step(
    call: &MapCall,
    captured: Option<&Value>,
) -> Result<SharedFunction, TaskFailure> {
    let function = loaded(&call.function, captured)?;
    Ok(shared(match &call.cache {
        Some(cache) => Box::new(CachedFunction::new(function, &call.name, cache)?),
        None => function,
    }))
}

fn shared(function: Box<dyn BatchFunction>) -> SharedFunction {
    Arc::new(Mutex::new(function))
}

fn loaded(
    function: &Function,
    captured: Option<&Value>,
) -> Result<Box<dyn BatchFunction>, TaskFailure> {
    Ok(match function {
        Function::Python(definition) => udf::load(definition, captured)?,
        Function::Model(spec) => model::load(spec)?,
    })
}
