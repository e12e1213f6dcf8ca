//! Native functions and actors: Rust code that runs as a task or an actor without touching Python.
//!
//! Every binary that may become a worker registers the same set under the same names before it starts; a descriptor then
//! only carries the name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::TaskFailure;
use crate::runtime::{ReceivedCall, Runtime};
use crate::value::{MadeBytes, Value};

/// What a native function or actor method may ask about the call it serves.
pub struct CallContext<'a> {
    /// The runtime of this process: put, get, submit.
    pub runtime: &'a Runtime,
    /// Ordinals of the GPUs that the lease holds (Python workers see them in `CUDA_VISIBLE_DEVICES` too).
    pub gpu_ids: &'a [u32],
    /// How many results the caller expects.
    pub num_returns: u32,
    /// The call; none where an actor is made.
    pub(crate) call: Option<&'a ReceivedCall>,
}

impl CallContext<'_> {
    /// A result of this call that is an Arrow stream, made where it comes to lie. The value stands for it, at `index` of the results.
    pub fn stream_result(&self, index: u32, stream: &dyn MadeBytes) -> Result<Value, TaskFailure> {
        if let Some(call) = self.call {
            return call.store_stream(index, stream);
        }
        let mut bytes = vec![0; stream.len_bytes()];
        stream.make(0, &mut bytes);
        Ok(Value::arrow_stream(bytes))
    }
}

/// A native task: input value and resolved dependencies in, one value per return out.
pub type NativeFunction =
    fn(&CallContext<'_>, Value, Vec<Value>) -> Result<Vec<Value>, TaskFailure>;

/// Makes a native actor from its constructor's input.
pub type NativeActorFactory =
    fn(&CallContext<'_>, Value, Vec<Value>) -> Result<Box<dyn NativeActor>, TaskFailure>;

/// A native actor. Calls come one at a time, in order per caller.
pub trait NativeActor: Send {
    /// Serves one call: the method's input and resolved dependencies in, one value per return out.
    fn call(
        &mut self,
        context: &CallContext<'_>,
        method: &str,
        input: Value,
        dependencies: Vec<Value>,
    ) -> Result<Vec<Value>, TaskFailure>;
}

/// The native functions and actors of a binary, by name.
#[derive(Default, Clone)]
pub struct NativeRegistry {
    functions: HashMap<&'static str, NativeFunction>,
    actors: HashMap<&'static str, NativeActorFactory>,
}

impl NativeRegistry {
    /// Adds a function. Panics if the name is taken: two crates of one binary disagree.
    #[must_use]
    pub fn with_function(mut self, name: &'static str, function: NativeFunction) -> Self {
        assert!(
            self.functions.insert(name, function).is_none(),
            "native function {name} is registered twice"
        );
        self
    }

    /// Adds an actor. Panics if the name is taken.
    #[must_use]
    pub fn with_actor(mut self, name: &'static str, factory: NativeActorFactory) -> Self {
        assert!(
            self.actors.insert(name, factory).is_none(),
            "native actor {name} is registered twice"
        );
        self
    }

    pub(crate) fn function(&self, name: &str) -> Option<NativeFunction> {
        self.functions.get(name).copied()
    }

    pub(crate) fn actor(&self, name: &str) -> Option<NativeActorFactory> {
        self.actors.get(name).copied()
    }

    /// Shares the registry with the runtime.
    pub fn into_shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}
