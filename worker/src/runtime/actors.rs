//! Creating, calling, watching and ending actors.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, ObjectId, TaskId};
use aktis_lane::{SIGNAL_SLICE, Urgency, WaitEnd, Waiter};
use aktis_proto::v1 as wire;
use wire::node_frame::Kind;

use super::Runtime;
use super::lane_table::LaneRole;
use super::submit::resource_request;
use crate::core::actors::CallLimits;
use crate::core::objects::ObjectState;
use crate::core::objects::layout_of;
use crate::error::TaskFailure;
use crate::options::{ActorOptions, Function, ResourceMap};
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;

/// A handle on an actor. When the last counted handle of a non-detached actor goes, the actor ends after its calls.
#[derive(Clone, Debug)]
pub struct ActorHandle {
    actor: ActorId,
    /// Retries of interrupted calls unless the call says otherwise.
    max_task_retries: i32,
    class_name: Arc<str>,
    /// Counts the handles; `None` for handles by name, which do not keep the actor alive.
    lifetime: Option<ObjectRef>,
}

impl ActorHandle {
    /// The actor.
    pub fn id(&self) -> ActorId {
        self.actor
    }

    /// Name of its class.
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// Retries of interrupted calls.
    pub fn max_task_retries(&self) -> i32 {
        self.max_task_retries
    }

    /// The reference whose holders keep the actor alive.
    pub fn lifetime(&self) -> Option<&ObjectRef> {
        self.lifetime.as_ref()
    }
}

impl Runtime {
    /// Creates an actor. Returns at once; calls wait until it runs.
    pub fn create_actor(
        &self,
        class: &Function,
        input: Value,
        dependencies: Vec<ObjectRef>,
        options: &ActorOptions,
    ) -> Result<ActorHandle, TaskFailure> {
        self.check_open()?;
        let actor = ActorId::random();
        let mut payload = aktis_lane::PayloadParts::default();
        input.append_to(&mut payload);
        let request = wire::CreateActorRequest {
            spec: Some(self.creation_spec(actor, class, &input, &dependencies, options)),
            options: Some(actor_options(
                class,
                options,
                self.assignment().waits_when_infeasible,
            )),
            args_payload: payload.concat().into(),
            get_if_exists: options.get_if_exists,
        };
        let know = || {
            self.0
                .core
                .note(|core| core.actors.know(actor, options.max_pending_calls))
        };
        if options.name.is_empty() {
            know();
            self.create_in_background(actor, &request, &class.name);
        } else {
            // The name may be taken: the caller is told here and now.
            let made = self.create_now(&request)?;
            if made != actor {
                return self.handle_of(made, options.max_task_retries, &class.name);
            }
            know();
        }
        self.watch_actor(actor);
        // Held for restarts, with the references that the constructor's arguments contain.
        let mut held = input;
        held.contained.extend(dependencies);
        self.with_core(|core, effects| core.actors.hold_creation_args(actor, held, effects));
        let lifetime = if options.is_detached {
            None
        } else {
            Some(self.lifetime_of(actor))
        };
        Ok(ActorHandle {
            actor,
            max_task_retries: options.max_task_retries,
            class_name: class.name.as_str().into(),
            lifetime,
        })
    }

    fn create_now(&self, request: &wire::CreateActorRequest) -> Result<ActorId, TaskFailure> {
        let reply: wire::CreateActorReply = self.call_gcs("CreateActor", request)?;
        let update = reply.actor.ok_or_else(|| bad_reply("CreateActor"))?;
        ActorId::from_bytes(&update.actor_id).map_err(|_| bad_reply("CreateActor"))
    }

    fn create_in_background(
        &self,
        actor: ActorId,
        request: &wire::CreateActorRequest,
        class: &str,
    ) {
        let runtime = self.clone();
        let class = class.to_owned();
        let call = wire::GcsCall {
            method: "CreateActor".to_owned(),
            body: prost::Message::encode_to_vec(request).into(),
        };
        let callback = Box::new(move |answer: Result<_, TaskFailure>| {
            if let Err(failure) = answer {
                let failure = as_actor_death(actor, &class, failure);
                runtime.with_core(|core, effects| core.actor_dead(actor, failure, effects));
            }
            runtime.0.births.end(actor);
        });
        self.0.births.begin(actor);
        self.0.node.request_async(Kind::GcsCall(call), callback);
    }

    fn creation_spec(
        &self,
        actor: ActorId,
        class: &Function,
        input: &Value,
        dependencies: &[ObjectRef],
        options: &ActorOptions,
    ) -> wire::TaskSpec {
        let one_cpu = ResourceMap::from([("CPU".to_owned(), 10_000)]);
        let placing = options.resources.as_ref().unwrap_or(&one_cpu);
        wire::TaskSpec {
            task_id: TaskId::next().to_wire(),
            job_id: self.job().to_wire(),
            function: Some(class.to_wire()),
            args: Some(layout_of(input)),
            dependencies: dependencies.iter().map(ObjectRef::to_wire).collect(),
            resources: Some(resource_request(
                placing,
                options.gpu_memory_bytes,
                &options.strategy,
            )),
            owner: Some(self.0.me.to_wire()),
            actor_id: actor.to_wire(),
        }
    }

    /// The reference that stands for the actor's lifetime.
    fn lifetime_of(&self, actor: ActorId) -> ObjectRef {
        let id = ObjectId::for_put();
        let nothing = Value::native(bytes::Bytes::new());
        self.0.core.note(|core| {
            core.objects.hold(id, ObjectState::Inline(nothing));
            core.objects.bind_actor(id, actor);
        });
        ObjectRef::from_counted(id, self.0.me, self)
    }

    fn handle_of(
        &self,
        actor: ActorId,
        max_task_retries: i32,
        class: &str,
    ) -> Result<ActorHandle, TaskFailure> {
        self.adopt_actor(actor, max_task_retries, class, None)
    }

    /// A handle that came from another process, or by name.
    pub fn adopt_actor(
        &self,
        actor: ActorId,
        max_task_retries: i32,
        class_name: &str,
        lifetime: Option<ObjectRef>,
    ) -> Result<ActorHandle, TaskFailure> {
        self.check_open()?;
        if self.0.core.note(|core| core.actors.know(actor, -1)) {
            self.watch_actor(actor);
        }
        Ok(ActorHandle {
            actor,
            max_task_retries,
            class_name: class_name.into(),
            lifetime,
        })
    }

    pub(super) fn watch_actor(&self, actor: ActorId) {
        self.0.node.tell(
            Kind::WatchActor(wire::WatchActor {
                actor_id: actor.to_wire(),
            }),
            Urgency::Now,
        );
    }

    /// Ends an actor now. With `no_restart` false it is restarted if it has restarts left.
    pub fn kill_actor(&self, actor: &ActorHandle, no_restart: bool) -> Result<(), TaskFailure> {
        let request = wire::KillActorRequest {
            actor_id: actor.actor.to_wire(),
            no_restart,
            cause: "killed by kill()".to_owned(),
            is_graceful: false,
        };
        self.wait_until_made(actor.actor)?;
        self.call_gcs::<_, wire::Empty>("KillActor", &request)
            .map(drop)
    }

    fn wait_until_made(&self, actor: ActorId) -> Result<(), TaskFailure> {
        let waiter = Arc::new(Waiter::new(1));
        let made = Arc::clone(&waiter);
        self.0
            .births
            .after(actor, Box::new(move || made.count_down()));
        loop {
            match self.reactor().wait(&waiter, None, Some(SIGNAL_SLICE)) {
                WaitEnd::Interrupted if (self.0.interrupt)() => {
                    let message = "interrupted by a signal";
                    return Err(TaskFailure::new(ErrorCode::Cancelled, message));
                }
                WaitEnd::Interrupted => {}
                _ => return Ok(()),
            }
        }
    }

    pub(super) fn on_actor_alive(
        &self,
        actor: ActorId,
        address: ProcessAddress,
        limits: CallLimits,
    ) {
        if !self
            .0
            .core
            .look(|core| core.actors.needs_lane(actor, address))
        {
            return;
        }
        match self.open_lane(address, LaneRole::Actor(actor), self.plain_hello()) {
            Ok(lane) => self.with_core(|core, effects| {
                core.actor_alive(actor, address, lane, limits, effects);
            }),
            // It died again, and the next update says what becomes of it; or this process has no descriptor to spare.
            Err(unreachable) => {
                let failure = unreachable.failure(ErrorCode::ActorUnavailable);
                tracing::debug!(%actor, %failure, "actor is alive but cannot be reached");
                let shortage = unreachable.is_shortage().then_some(failure);
                self.with_core(|core, effects| core.actor_unreachable(actor, shortage, effects));
            }
        }
    }

    /// Nothing can place the actor as the cluster is now: its calls fail instead of waiting for ever.
    pub(super) fn on_actor_pending(&self, actor: ActorId, failure: Option<&wire::Failure>) {
        let failure = failure
            .map(|failure| TaskFailure::from_wire(failure.clone()))
            .filter(|failure| failure.code == ErrorCode::Unschedulable);
        self.with_core(|core, effects| core.actor_pending(actor, failure, effects));
    }
}

fn actor_options(
    class: &Function,
    options: &ActorOptions,
    waits_when_infeasible: bool,
) -> wire::ActorOptions {
    let running = options.resources.clone().unwrap_or_default();
    wire::ActorOptions {
        max_restarts: options.max_restarts,
        max_task_retries: options.max_task_retries,
        max_concurrency: options.max_concurrency,
        name: options.name.clone(),
        namespace: options.namespace.clone(),
        is_detached: options.is_detached,
        max_pending_calls: options.max_pending_calls,
        calls_at_once: options.calls_at_once,
        concurrency_groups: options
            .concurrency_groups
            .iter()
            .map(|(name, calls_at_once)| wire::ConcurrencyGroup {
                name: name.clone(),
                calls_at_once: *calls_at_once,
            })
            .collect(),
        class_name: class.name.clone(),
        handle_state: options.handle_state.clone(),
        shared_modules: options.shared_modules.clone(),
        running_resources: Some(resource_request(
            &running,
            options.gpu_memory_bytes,
            &options.strategy,
        )),
        waits_when_infeasible,
    }
}

/// The failure of calls to a dead actor, whatever it died of.
pub(super) fn as_actor_death(actor: ActorId, class: &str, failure: TaskFailure) -> TaskFailure {
    match failure.code {
        ErrorCode::Unschedulable | ErrorCode::NotConnected => failure,
        // Ray's users catch it by name.
        ErrorCode::OutOfMemory => TaskFailure {
            message: format!("actor {class} ({actor}) is dead: {}", failure.message),
            ..failure
        },
        ErrorCode::ActorDied if failure.message.contains(class) => failure,
        ErrorCode::Application => TaskFailure {
            code: ErrorCode::ActorDied,
            message: format!(
                "the constructor of actor {class} ({actor}) raised: {}",
                failure.message
            ),
            ..failure
        },
        _ => TaskFailure {
            code: ErrorCode::ActorDied,
            // A handle of an earlier session does not know its class.
            message: match class {
                "" => format!("actor ({actor}) is dead: {}", failure.message),
                _ => format!("actor {class} ({actor}) is dead: {}", failure.message),
            },
            ..failure
        },
    }
}

fn bad_reply(method: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("the gcs's answer to {method} is incomplete"),
    )
}
