//! The main loop of a worker process: runs what the lanes bring.
//!
//! ```text
//!  next_work ─► native function or actor ─► NativeHost                     no interpreter lock
//!          └──► Python function ─► call
//!          └──► Python actor    ─► sync: call here, in order
//!                               └► async, threaded: host.dispatch, answered by CallDone from any thread
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::fork;
use aktis_common::ids::{ActorId, WorkerId};
use aktis_common::marks::{Point, mark};
use aktis_common::process_title;
use aktis_common::zygote::WorkerStart;
use aktis_proto::v1::AcceleratorAssignment;
use aktis_worker::native::{NativeHost, NativeRegistry, is_native};
use aktis_worker::runtime::{ActorStart, CallOutcome};
use aktis_worker::{
    LeaseMark, ProcessRole, ReceivedCall, Runtime, RuntimeConfig, Work, set_current_task,
};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::answer::{Circumstances, answer, end_forked_child, hand_over, produce};
use crate::cancel::{LoopHost, cancel_on_loop, install_canceller};
use crate::codec::decode_args;
use crate::exit::wanted_exit;
use crate::failure::{describe, to_py_err};
use crate::interpreter_end::detached;
use crate::loaded::Loaded;
use crate::python_thread::CALLBACKS;
use crate::session::{CURRENT_CALL, CurrentCall, process_settings, signal_check};
use crate::work_feed::WorkFeed;

/// How long the executor waits before it lets Python look for signals.
const SIGNAL_SLICE: Duration = Duration::from_secs(1);

enum Actor {
    None,
    /// Methods run here, one after the other.
    Sync(Py<PyAny>),
    /// Methods are handed to a host with threads, and answered from there.
    OnThreads(Py<PyAny>),
    /// Methods are coroutines; the host's loop runs on the main thread.
    OnLoop(Py<PyAny>),
}

/// What a worker process executes.
pub(crate) struct CallExecutor {
    runtime: Runtime,
    native: NativeHost,
    functions: Loaded,
    /// Methods of the actor by name, found in its class when they are first called.
    methods: HashMap<String, Py<PyAny>>,
    executions: HashMap<Bytes, u32>,
    actor: Actor,
    actor_id: Option<ActorId>,
    gpu_ids: Vec<u32>,
    /// What numerical libraries were told last.
    threads: i64,
    /// The lease whose GPUs and threads are set.
    prepared_for: Option<LeaseMark>,
    loop_host: LoopHost,
    /// What the process is called: the function that it runs, or has run last and not long ago.
    titled: String,
}

/// The title of a worker that has nothing to do.
const IDLE: &str = "idle";

/// Native functions and actors that every Python worker offers.
fn native_registry() -> Arc<NativeRegistry> {
    let registry = NativeRegistry::default();
    #[cfg(feature = "data")]
    let registry = aktis_data::register(registry);
    registry.into_shared()
}

/// Becomes a worker: joins the node and runs what comes until the process is to end.
pub(crate) fn run_worker(py: Python<'_>, start: &WorkerStart) -> PyResult<()> {
    let worker_id = WorkerId::from_hex(&start.worker_id)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let settings = process_settings()?;
    let config = RuntimeConfig {
        raylet_socket: start.raylet_socket.clone(),
        role: ProcessRole::Worker {
            startup_token: start.startup_token,
        },
        worker_id,
        entrypoint: String::new(),
        namespace: String::new(),
        log_sink: None,
        interrupt: signal_check,
        queued_limit_bytes: settings.max_queued_bytes.0,
        lineage_limit_bytes: settings.lineage_bytes.0,
        lease_idle: settings.lease_idle,
        infeasible: settings.infeasible,
        likely_modules: Vec::new(),
    };
    let runtime = detached(py, || Runtime::start(config))
        .map_err(|failure| PyRuntimeError::new_err(failure.message))?;
    let mut executor = CallExecutor {
        runtime,
        native: NativeHost::new(native_registry()),
        functions: Loaded::default(),
        methods: HashMap::new(),
        executions: HashMap::new(),
        actor: Actor::None,
        actor_id: None,
        gpu_ids: Vec::new(),
        threads: 1,
        prepared_for: None,
        loop_host: LoopHost::default(),
        titled: String::new(),
    };
    executor.show_title(IDLE);
    install_canceller(&executor.runtime, &executor.loop_host);
    let runtime = executor.runtime.clone();
    let ended = match executor.run(py) {
        Ok(Some(host)) => Bound::new(py, WorkFeed::new(executor, host.clone_ref(py)))
            .and_then(|feed| host.bind(py).call_method1("run", (feed,)).map(drop)),
        ended => ended.map(drop),
    };
    detached(py, || runtime.drain());
    ended.and_then(|()| wanted_exit())
}

impl CallExecutor {
    /// Runs until the process is to end; or until it is an async actor, whose host then runs instead.
    fn run(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let work = detached(py, || self.runtime.next_work(Some(SIGNAL_SLICE)));
            let is_over = match work {
                None => {
                    py.check_signals()?;
                    if self.actor_id.is_none() {
                        self.show_title(IDLE);
                    }
                    false
                }
                Some(Work::Exit(_)) => true,
                Some(Work::ExitForGood(_)) => {
                    self.runtime.linger_no_more();
                    true
                }
                Some(Work::StartActor(start)) => !self.start_actor(py, start),
                Some(Work::Call(call)) => self.run_call(py, call),
            };
            if is_over {
                return Ok(None);
            }
            if let Actor::OnLoop(host) = &self.actor {
                return Ok(Some(host.clone_ref(py)));
            }
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Calls the process by what it runs; costs nothing if it is called so already.
    fn show_title(&mut self, what: &str) {
        if self.titled != what {
            what.clone_into(&mut self.titled);
            process_title::show(&format!("aktis::{what}"));
        }
    }

    /// On whose behalf the call runs.
    pub(crate) fn context_of(&self, call: &ReceivedCall) -> CurrentCall {
        CurrentCall {
            task: Some(call.task()),
            actor: self.actor_id,
            gpu_ids: self.gpu_ids.clone(),
            function: (!call.is_actor_call()).then(|| Arc::clone(call.template())),
            is_on_loop: matches!(self.actor, Actor::OnLoop(_)),
        }
    }

    /// Starts a call of an async actor whose inputs are here, on the thread of its loop.
    pub(crate) fn start_on_loop(
        &self,
        py: Python<'_>,
        host: &Bound<'_, PyAny>,
        mut call: Box<ReceivedCall>,
    ) {
        let (task, context) = (call.task(), self.context_of(&call));
        match call.take_inputs() {
            Ok(inputs) => {
                let arguments = decode_args(py, inputs);
                mark(Point::ArgsDecoded);
                hand_over(py, host, "dispatch", call, context, arguments);
            }
            Err(failure) => return call.finish(CallOutcome::failed(failure, Duration::ZERO)),
        }
        if self.runtime.is_cancelled(task) {
            // The wish came before the loop knew the call.
            cancel_on_loop(py, &self.loop_host, task);
        }
    }

    /// False: the process is to end.
    fn start_actor(&mut self, py: Python<'_>, mut start: Box<ActorStart>) -> bool {
        let held = start.start().accelerators.clone().unwrap_or_default();
        self.set_accelerators(py, held);
        self.set_threads(py);
        self.actor_id = Some(start.actor());
        if let Some(class) = start.spec().function.as_ref() {
            self.show_title(&class.name);
        }
        if is_native(start.spec().function.as_ref()) {
            return detached(py, || self.native.start_actor(&self.runtime, start));
        }
        let function = start.spec().function.clone().unwrap_or_default();
        CURRENT_CALL.set(CurrentCall {
            actor: self.actor_id,
            gpu_ids: self.gpu_ids.clone(),
            ..CurrentCall::default()
        });
        let made = detached(py, || start.take_inputs())
            .map_err(|failure| to_py_err(py, &failure))
            .and_then(|inputs| {
                let class = self.definition(py, &function.function_id)?;
                let (args, kwargs) = decode_args(py, inputs)?;
                let concurrency = start
                    .start()
                    .options
                    .as_ref()
                    .map_or(0, |options| options.max_concurrency);
                let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
                py.import("aktis._process.worker")?
                    .call_method1("make_actor", (class, args, kwargs, concurrency))
            });
        let result = made
            .and_then(|host| self.adopt_host(&host))
            .map_err(|error| {
                describe(py, &error, &format!("{}.__init__", function.name), None).failure
            });
        let is_alive = result.is_ok();
        start.finish(result);
        is_alive
    }

    fn adopt_host(&mut self, host: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind: String = host.getattr("kind")?.extract()?;
        self.actor = if kind == "sync" {
            Actor::Sync(host.getattr("instance")?.unbind())
        } else {
            Actor::OnThreads(host.clone().unbind())
        };
        if kind == "async" {
            CALLBACKS.start(host.py())?;
            *self.loop_host.lock() = Some(host.clone().unbind());
            self.actor = Actor::OnLoop(host.clone().unbind());
        }
        Ok(())
    }

    /// True: the process is to end.
    fn run_call(&mut self, py: Python<'_>, mut call: Box<ReceivedCall>) -> bool {
        if self.native.has_actor() || is_native(call.template().function.as_ref()) {
            let (native, runtime) = (&mut self.native, &self.runtime);
            return detached(py, || native.run(runtime, call));
        }
        if !call.is_actor_call() {
            self.prepare_for(py, &call);
            if let Some(function) = call.template().function.as_ref() {
                self.show_title(&function.name);
            }
        }
        let inputs = match detached(py, || call.take_inputs()) {
            Ok(inputs) => inputs,
            Err(failure) => {
                detached(py, || {
                    call.finish(CallOutcome::failed(failure, Duration::ZERO))
                });
                return false;
            }
        };
        let context = self.context_of(&call);
        set_current_task(Some(call.task()));
        let arguments = decode_args(py, inputs);
        mark(Point::ArgsDecoded);
        if let Actor::OnThreads(host) = &self.actor {
            hand_over(py, host.bind(py), "dispatch", call, context, arguments);
            return false;
        }
        CURRENT_CALL.set(context);
        self.run_here(py, call, arguments)
    }

    /// GPUs and threads are those of the lease under which the call runs.
    fn prepare_for(&mut self, py: Python<'_>, call: &ReceivedCall) {
        let lease = call.lease();
        if self.prepared_for == Some(lease) {
            return;
        }
        if let Some(held) = call.accelerators() {
            self.set_accelerators(py, held);
        }
        self.set_threads(py);
        self.prepared_for = Some(lease);
    }

    fn run_here(
        &mut self,
        py: Python<'_>,
        call: Box<ReceivedCall>,
        arguments: PyResult<crate::codec::PyArgs<'_>>,
    ) -> bool {
        let begun = Instant::now();
        if !call.is_actor_call() && !self.runtime.begin_on_main(call.task()) {
            let failure = call.cancelled();
            detached(py, || {
                call.finish(CallOutcome::failed(failure, Duration::ZERO))
            });
            return false;
        }
        let returned = arguments
            .and_then(|(args, kwargs)| self.callee(py, &call)?.call(args, kwargs.as_ref()));
        mark(Point::Returned);
        let produced = returned.and_then(|returned| produce(py, &call, returned));
        if fork::is_abandoned() {
            end_forked_child(py, produced.err());
        }
        self.runtime.end_on_main();
        let is_exiting = self.is_last_call(&call);
        let circumstances = Circumstances {
            begun,
            is_exiting,
            is_on_loop: false,
        };
        answer(py, call, produced, circumstances)
    }

    fn callee<'py>(&mut self, py: Python<'py>, call: &ReceivedCall) -> PyResult<Bound<'py, PyAny>> {
        match &self.actor {
            Actor::Sync(instance) if call.is_actor_call() => {
                let name = call.template().method.as_str();
                if let Some(known) = self.methods.get(name) {
                    return Ok(known.bind(py).clone());
                }
                let found = py
                    .import("aktis._process.actor_host")?
                    .call_method1("find_method", (instance, name))?;
                self.methods.insert(name.to_owned(), found.clone().unbind());
                Ok(found)
            }
            _ if call.is_actor_call() => {
                Err(PyRuntimeError::new_err("this process is not an actor"))
            }
            _ => {
                let id = call
                    .template()
                    .function
                    .as_ref()
                    .map(|function| function.function_id.clone())
                    .unwrap_or_default();
                self.definition(py, &id)
            }
        }
    }

    /// The function or class of this id, read from the gcs table at its first use.
    fn definition<'py>(&mut self, py: Python<'py>, id: &Bytes) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.functions.get(id) {
            return Ok(known.bind(py).clone());
        }
        let key = crate::session::definition_key(id);
        let bytes = detached(py, || self.runtime.kv_get(key))
            .map_err(|failure| to_py_err(py, &failure))?
            .ok_or_else(|| {
                PyRuntimeError::new_err("the function's definition is not in the gcs table")
            })?;
        let loaded = py
            .import("aktis._process.worker")?
            .call_method1("load_definition", (PyBytes::new(py, &bytes),))?;
        self.functions
            .keep(id.clone(), loaded.clone().unbind(), bytes.len());
        Ok(loaded)
    }

    /// Counts executions against max_calls.
    fn is_last_call(&mut self, call: &ReceivedCall) -> bool {
        let limit = call.template().max_calls;
        if limit == 0 {
            return false;
        }
        let id = call
            .template()
            .function
            .as_ref()
            .map(|function| function.function_id.clone())
            .unwrap_or_default();
        let executions = self.executions.entry(id).or_insert(0);
        *executions += 1;
        *executions >= limit
    }

    fn set_accelerators(&mut self, py: Python<'_>, held: AcceleratorAssignment) {
        let AcceleratorAssignment {
            gpu_ids,
            visible_devices,
            ..
        } = held;
        if gpu_ids != self.gpu_ids {
            let set = py
                .import("aktis._process.worker")
                .and_then(|module| module.call_method1("set_accelerators", (visible_devices,)));
            if let Err(error) = set {
                error.write_unraisable(py, None);
            }
            self.gpu_ids = gpu_ids;
        }
    }
    /// Numerical libraries are to use as many threads as the lease has CPUs.
    fn set_threads(&mut self, py: Python<'_>) {
        let threads = self.runtime.held_cpus().max(1);
        if threads != self.threads {
            let set = py
                .import("aktis._process.thread_limits")
                .and_then(|module| module.call_method1("set_threads", (threads,)));
            if let Err(error) = set {
                error.write_unraisable(py, None);
            }
            self.threads = threads;
        }
    }
}
