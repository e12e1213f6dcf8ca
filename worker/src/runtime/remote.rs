//! Functions and methods with their options, ready to be called many times.

use std::sync::Arc;

use aktis_common::ids::{JobId, WorkerId};
use aktis_proto::v1 as wire;
use parking_lot::Mutex;

use super::submit::resource_request;
use super::{ActorHandle, Runtime};
use crate::core::tasks::{CallTemplate, Target};
use crate::options::{CallOptions, Function, TaskOptions};

/// A function with its options: everything of a task but its arguments. Submitted by [`Runtime::submit`].
pub struct RemoteFunction {
    function: Function,
    options: TaskOptions,
    bound: Binding,
}

/// A method of an actor with its options: everything of a call but its arguments. Called by [`Runtime::call`].
pub struct RemoteMethod {
    actor: ActorHandle,
    method: String,
    options: CallOptions,
    bound: Binding,
}

/// What calls share, made when a process first calls on behalf of a job.
type Binding = Mutex<Option<(WorkerId, JobId, Arc<CallTemplate>)>>;

fn bound_to(
    binding: &Binding,
    runtime: &Runtime,
    make: impl FnOnce(JobId) -> CallTemplate,
) -> Arc<CallTemplate> {
    let (worker, job) = (runtime.address().worker, runtime.job());
    let mut binding = binding.lock();
    if let Some((known_worker, known_job, template)) = &*binding
        && (*known_worker, *known_job) == (worker, job)
    {
        return Arc::clone(template);
    }
    let template = Arc::new(make(job));
    *binding = Some((worker, job, Arc::clone(&template)));
    template
}

impl RemoteFunction {
    /// A function that is to run with these options.
    pub fn new(function: Function, options: TaskOptions) -> Self {
        Self {
            function,
            options,
            bound: Mutex::default(),
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.function.name
    }

    /// The options.
    pub fn options(&self) -> &TaskOptions {
        &self.options
    }

    pub(crate) fn template(&self, runtime: &Runtime) -> Arc<CallTemplate> {
        bound_to(&self.bound, runtime, |job| {
            let options = &self.options;
            let request = resource_request(
                &options.resources,
                options.gpu_memory_bytes,
                &options.strategy,
            );
            let class = runtime.class_of(&request, job);
            let num_returns = if options.is_streaming {
                0
            } else {
                options.num_returns
            };
            let shared = wire::CallTemplate {
                job_id: job.to_wire(),
                function: Some(self.function.to_wire()),
                owner: Some(runtime.address().to_wire()),
                num_returns,
                retry_exceptions: options.retry_exceptions,
                retry_exception_types: options.retry_exception_types.clone(),
                is_streaming: options.is_streaming,
                max_calls: options.max_calls,
                max_unread_items: options.max_unread_items,
                ..Default::default()
            };
            CallTemplate {
                shared,
                target: Target::Class(class),
                group: String::new(),
                retries: options.max_retries,
            }
        })
    }
}

impl RemoteMethod {
    /// A method that is to be called with these options.
    pub fn new(actor: ActorHandle, method: impl Into<String>, options: CallOptions) -> Self {
        Self {
            actor,
            method: method.into(),
            options,
            bound: Mutex::default(),
        }
    }

    /// Its name, as the process of the actor knows it.
    pub fn name(&self) -> &str {
        &self.method
    }

    /// The options.
    pub fn options(&self) -> &CallOptions {
        &self.options
    }

    /// The actor.
    pub fn actor(&self) -> &ActorHandle {
        &self.actor
    }

    pub(crate) fn template(&self, runtime: &Runtime) -> Arc<CallTemplate> {
        bound_to(&self.bound, runtime, |job| {
            let (actor, options) = (&self.actor, &self.options);
            let num_returns = if options.is_streaming {
                0
            } else {
                options.num_returns.max(1)
            };
            let shared = wire::CallTemplate {
                job_id: job.to_wire(),
                function: Some(wire::FunctionDescriptor {
                    name: actor.class_name().to_owned(),
                    ..Default::default()
                }),
                actor_id: actor.id().to_wire(),
                method: self.method.clone(),
                name: options.name.clone(),
                owner: Some(runtime.address().to_wire()),
                num_returns,
                retry_exceptions: options.retry_exceptions,
                retry_exception_types: options.retry_exception_types.clone(),
                is_streaming: options.is_streaming,
                max_unread_items: options.max_unread_items,
                ..Default::default()
            };
            CallTemplate {
                shared,
                target: Target::Actor(actor.id()),
                group: options.concurrency_group.clone(),
                retries: options.max_task_retries.unwrap_or(actor.max_task_retries()),
            }
        })
    }
}
