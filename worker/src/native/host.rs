//! Executing native functions and actors.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_proto::v1 as wire;

use crate::error::TaskFailure;
use crate::native::registry::{CallContext, NativeActor, NativeRegistry};
use crate::runtime::CallOutcome;
use crate::runtime::{ActorStart, ReceivedCall, Runtime};
use crate::value::Value;

/// Whether the task or actor is a native one.
pub fn is_native(function: Option<&wire::FunctionDescriptor>) -> bool {
    function.is_some_and(|function| function.language() == wire::FunctionLanguage::Native)
}

/// Runs native code in this process; holds the native actor, if it is one.
pub struct NativeHost {
    registry: Arc<NativeRegistry>,
    actor: Option<Box<dyn NativeActor>>,
    gpu_ids: Vec<u32>,
    /// How often functions with `max_calls` have run.
    executions: HashMap<String, u32>,
}

impl NativeHost {
    /// Of a process that can run what is registered.
    pub fn new(registry: Arc<NativeRegistry>) -> Self {
        Self {
            registry,
            actor: None,
            gpu_ids: Vec::new(),
            executions: HashMap::new(),
        }
    }

    /// Whether this process is a native actor.
    pub fn has_actor(&self) -> bool {
        self.actor.is_some()
    }

    /// Constructs the actor and reports to the raylet. False: the constructor failed, the process is to end.
    pub fn start_actor(&mut self, runtime: &Runtime, mut start: Box<ActorStart>) -> bool {
        self.gpu_ids = start
            .start()
            .accelerators
            .as_ref()
            .map(|held| held.gpu_ids.clone())
            .unwrap_or_default();
        let name = start
            .spec()
            .function
            .as_ref()
            .map(|function| function.name.clone())
            .unwrap_or_default();
        let context = CallContext {
            runtime,
            gpu_ids: &self.gpu_ids,
            num_returns: 0,
            call: None,
        };
        let made = start.take_inputs().and_then(|inputs| {
            let factory = self
                .registry
                .actor(&name)
                .ok_or_else(|| unregistered("actor", &name))?;
            catch(&name, || {
                factory(&context, inputs.args, inputs.dependencies)
            })
        });
        let result = made.map(|actor| self.actor = Some(actor));
        let is_alive = result.is_ok();
        start.finish(result);
        is_alive
    }

    /// Runs a native task or a call of the native actor, and answers it. True: the process is to end.
    pub fn run(&mut self, runtime: &Runtime, mut call: Box<ReceivedCall>) -> bool {
        let is_last = self.is_last_call(&call);
        let begun = Instant::now();
        let result = call.take_inputs().and_then(|inputs| {
            let name = call.name();
            let num_returns = call.template().num_returns;
            let (args, dependencies) = (inputs.args, inputs.dependencies);
            if call.is_actor_call() {
                let context = CallContext {
                    runtime,
                    gpu_ids: &self.gpu_ids,
                    num_returns,
                    call: Some(&call),
                };
                let actor = self
                    .actor
                    .as_mut()
                    .ok_or_else(|| unregistered("actor", &name))?;
                catch(&name, || {
                    actor.call(&context, &call.template().method, args, dependencies)
                })
            } else {
                let held = call
                    .accelerators()
                    .map(|held| held.gpu_ids)
                    .unwrap_or_default();
                let context = CallContext {
                    runtime,
                    gpu_ids: &held,
                    num_returns,
                    call: Some(&call),
                };
                let function = self
                    .registry
                    .function(&name)
                    .ok_or_else(|| unregistered("function", &name))?;
                catch(&name, || function(&context, args, dependencies))
            }
        });
        let result = result.and_then(|values| check_count(&call, values));
        call.finish(CallOutcome {
            result,
            is_retryable: false,
            is_worker_exiting: is_last,
            execution: begun.elapsed(),
            stream_length: 0,
        });
        is_last
    }

    /// Counts executions against `max_calls`.
    fn is_last_call(&mut self, call: &ReceivedCall) -> bool {
        let limit = call.template().max_calls;
        if limit == 0 {
            return false;
        }
        let executions = self.executions.entry(call.name()).or_insert(0);
        *executions += 1;
        *executions >= limit
    }
}

/// A panic of native code ends the call, not the worker.
fn catch<T>(name: &str, run: impl FnOnce() -> Result<T, TaskFailure>) -> Result<T, TaskFailure> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(TaskFailure::new(
            ErrorCode::Application,
            format!("native function {name} panicked: {text}"),
        ))
    })
}

fn check_count(call: &ReceivedCall, values: Vec<Value>) -> Result<Vec<Value>, TaskFailure> {
    let wanted = call.template().num_returns as usize;
    if values.len() == wanted {
        return Ok(values);
    }
    let message = format!(
        "{} returned {} values, but num_returns is {wanted}",
        call.name(),
        values.len()
    );
    Err(TaskFailure::new(ErrorCode::InvalidArgument, message))
}

fn unregistered(kind: &str, name: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::NotFound,
        format!(
            "no native {kind} {name} is registered in this worker: register it in the binary that starts workers"
        ),
    )
}
