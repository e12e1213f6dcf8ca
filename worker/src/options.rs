//! What a caller can say about a task, an actor and a call. Defaults are Ray's.

use std::collections::BTreeMap;

use aktis_proto::v1 as wire;

/// Resources by name, in units of 1/10000 (half a CPU is `("CPU", 5000)`).
pub type ResourceMap = BTreeMap<String, i64>;

/// Where a task or an actor may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Pack, then spread.
    #[default]
    Default,
    /// Spread over the nodes.
    Spread,
    /// This node; `is_soft`: another if it is gone or full.
    Node {
        /// The node.
        node_id: aktis_common::ids::NodeId,
        /// Whether another node may do.
        is_soft: bool,
    },
}

/// A function: a pickled one by the hash of its exported definition, or a registered native one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Empty for native functions.
    pub id: bytes::Bytes,
    /// "module.qualname", or the registered name.
    pub name: String,
}

impl Function {
    /// A native function or actor.
    pub fn native(name: impl Into<String>) -> Self {
        Self {
            id: bytes::Bytes::new(),
            name: name.into(),
        }
    }

    pub(crate) fn to_wire(&self) -> wire::FunctionDescriptor {
        let language = if self.id.is_empty() {
            wire::FunctionLanguage::Native
        } else {
            wire::FunctionLanguage::Python
        };
        wire::FunctionDescriptor {
            language: language.into(),
            function_id: self.id.clone(),
            name: self.name.clone(),
        }
    }
}

/// Options of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOptions {
    /// What it needs while it runs. Default: one CPU.
    pub resources: ResourceMap,
    /// Bytes of GPU memory instead of, or besides, a fraction; 0 when not asked for.
    pub gpu_memory_bytes: u64,
    /// Where it may run.
    pub strategy: Strategy,
    /// Number of results.
    pub num_returns: u32,
    /// Re-executions after system failures; -1 without end. Default 3.
    pub max_retries: i32,
    /// Whether the task's own exceptions are retried too.
    pub retry_exceptions: bool,
    /// Pickled tuple of exception types to retry on; empty: any.
    pub retry_exception_types: bytes::Bytes,
    /// The worker ends after this many executions; 0 is never.
    pub max_calls: u32,
    /// Text for messages and events; empty: the function's name.
    pub name: String,
    /// Results come one by one ([`ObjectStream`](crate::ObjectStream)).
    pub is_streaming: bool,
    /// A generator waits while this many of its items were not taken; 0: never.
    pub max_unread_items: u32,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            resources: ResourceMap::from([("CPU".to_owned(), 10_000)]),
            gpu_memory_bytes: 0,
            strategy: Strategy::Default,
            num_returns: 1,
            max_retries: 3,
            retry_exceptions: false,
            retry_exception_types: bytes::Bytes::new(),
            max_calls: 0,
            name: String::new(),
            is_streaming: false,
            max_unread_items: 0,
        }
    }
}

/// Options of an actor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActorOptions {
    /// What it holds while it lives. Empty, as in Ray: one CPU to be placed, none to live.
    pub resources: Option<ResourceMap>,
    /// As in [`TaskOptions`].
    pub gpu_memory_bytes: u64,
    /// Where it may run.
    pub strategy: Strategy,
    /// Restarts after system failures; -1 without end.
    pub max_restarts: i32,
    /// Retries of calls that the actor's death interrupted; -1 without end.
    pub max_task_retries: i32,
    /// Calls at once; 0: decided by the class.
    pub max_concurrency: u32,
    /// Calls that run at once at most, with all defaults applied, outside of concurrency groups; callers keep what is far
    /// beyond. 0 counts as 1, as is right for native actors.
    pub calls_at_once: u32,
    /// Calls of each concurrency group that run at once at most, by the group's name.
    pub concurrency_groups: BTreeMap<String, u32>,
    /// Name within the namespace; empty: none.
    pub name: String,
    /// Namespace; empty: the job's.
    pub namespace: String,
    /// Lives until killed, not until its handles are gone.
    pub is_detached: bool,
    /// Calls waiting at once per caller; -1 (and 0): no limit.
    pub max_pending_calls: i32,
    /// With `name`: use the actor that has it.
    pub get_if_exists: bool,
    /// Opaque description of the class for `get_actor` (the bindings' business).
    pub handle_state: bytes::Bytes,
    /// Python modules that its process is to share with others instead of importing them itself.
    pub shared_modules: Vec<String>,
}

/// Options of an actor call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Number of results; 0 counts as 1.
    pub num_returns: u32,
    /// Overrides the actor's `max_task_retries`.
    pub max_task_retries: Option<i32>,
    /// Retry on the method's own exceptions.
    pub retry_exceptions: bool,
    /// Pickled tuple of exception types to retry on; empty: any.
    pub retry_exception_types: bytes::Bytes,
    /// Results come one by one.
    pub is_streaming: bool,
    /// As in [`TaskOptions`].
    pub max_unread_items: u32,
    /// The concurrency group in which the call runs; empty: the default one. Callers keep the order and the limit of each
    /// group; the actor finds the group by the method.
    pub concurrency_group: String,
    /// Shown instead of the class and method; empty for those.
    pub name: String,
}
