//! The session of this process: starting, joining, leaving, and the calls that need nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_cli::laptop::{LaptopConfig, LaptopSession};
use aktis_cli::{Launcher, join};
use aktis_common::config::Settings;
use aktis_common::error::ErrorCode;
use aktis_common::fork;
use aktis_common::ids::{ActorId, TaskId, WorkerId};
use aktis_common::marks;
use aktis_proto::v1 as wire;
use aktis_worker::{ProcessRole, Runtime, RuntimeConfig, TaskFailure};
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use sha2::{Digest, Sha256};

use crate::failure::to_py_err;
use crate::interpreter_end::{attached, detached};
use crate::python_thread::{CALLBACKS, OUTPUT};
use crate::worker_output::python_log_sink;

/// How long the end of a session waits until the last lines of workers are printed.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);
/// The same for callbacks that are under way.
const CALLBACK_PATIENCE: Duration = Duration::from_millis(100);

/// The session that this process hosts, if it is a laptop session.
static LAPTOP: Mutex<Option<LaptopSession>> = Mutex::new(None);
/// Definitions that were exported in the current session.
static EXPORTED: Mutex<Option<HashSet<[u8; 16]>>> = Mutex::new(None);

/// On whose behalf a thread runs, for the runtime context.
#[derive(Clone, Default)]
pub(crate) struct CurrentCall {
    pub(crate) task: Option<TaskId>,
    pub(crate) actor: Option<ActorId>,
    pub(crate) gpu_ids: Vec<u32>,
    /// The function of a task.
    pub(crate) function: Option<Arc<wire::CallTemplate>>,
    /// On the loop of an async actor, where calls take turns.
    pub(crate) is_on_loop: bool,
}

thread_local! {
    pub(crate) static CURRENT_CALL: RefCell<CurrentCall> = RefCell::default();
}

/// On the loop of an async actor, makes the calling thread run on behalf of the call whose turn it is.
pub(crate) fn resume_on_loop(py: Python<'_>) -> PyResult<()> {
    if CURRENT_CALL.with_borrow(|call| call.is_on_loop) {
        py.import("aktis._process.actor_host")?
            .call_method0("resume")?;
    }
    Ok(())
}

/// Lets go of the session of the process that this one was forked from.
#[pyfunction]
pub(crate) fn abandon_after_fork() -> PyResult<()> {
    Ok(fork::abandon()?)
}

/// This process, which has a session, is about to be forked.
#[pyfunction]
pub(crate) fn before_fork() {
    fork::before_fork();
}

/// This process was forked, and is the parent.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    fork::after_fork_in_parent();
}

/// Raises in a process that was forked from one with a session: its locks must not be touched.
pub(crate) fn refuse_in_forked_child(py: Python<'_>) -> PyResult<()> {
    if fork::is_abandoned() {
        py.import("aktis._session.session")?
            .call_method0("refuse_in_forked_child")?;
    }
    Ok(())
}

/// The runtime, if this process has a session that is not over.
pub(crate) fn live_runtime() -> Option<Runtime> {
    Runtime::current().filter(|runtime| !runtime.is_closed() && !fork::is_abandoned())
}

/// The runtime, or the exception that says to call `init`.
pub(crate) fn runtime(py: Python<'_>) -> PyResult<Runtime> {
    refuse_in_forked_child(py)?;
    Runtime::current().ok_or_else(|| {
        let failure = TaskFailure::new(
            ErrorCode::NotConnected,
            "there is no session: call aktis.init() first (after shutdown() references are void)",
        );
        to_py_err(py, &failure)
    })
}

/// What the environment says about this process.
pub(crate) fn process_settings() -> PyResult<Settings> {
    Settings::from_env_and_overrides(&BTreeMap::new())
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Whether datasets of this process may show how far they are.
#[pyfunction]
pub(crate) fn shows_progress() -> PyResult<bool> {
    Ok(process_settings()?.progress)
}

/// Whether a signal handler of Python raised. Asked while waiting without the interpreter lock.
pub(crate) fn signal_check() -> bool {
    attached(|py| match py.check_signals() {
        Ok(()) => false,
        Err(error) => {
            // Raised again by the caller, once it holds the lock.
            RAISED.set(Some(error));
            true
        }
    })
}

thread_local! {
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// The exception that [`signal_check`] met in this thread.
pub(crate) fn raised_by_signal() -> Option<PyErr> {
    RAISED.take()
}

pub(crate) fn deadline_of(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else {
        return Ok(None);
    };
    let wait = Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!(
            "timeout must be a number of seconds >= 0, got {seconds}"
        ))
    })?;
    // A time too far to be represented is no limit.
    Ok(Instant::now().checked_add(wait))
}

/// Starts a session inside this process.
#[pyfunction]
pub(crate) fn start_laptop<'py>(
    py: Python<'py>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let settings = laptop_settings(options)?;
    let zygote_command: Vec<String> = options
        .get_item("zygote_command")?
        .ok_or_else(|| PyValueError::new_err("zygote_command is missing"))?
        .extract()?;
    let launcher = Launcher {
        self_command: Vec::new(),
        zygote_command,
    };
    let config = LaptopConfig {
        settings,
        launcher,
        worker_env: BTreeMap::new(),
    };
    let session = detached(py, || LaptopSession::start(config))
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let info = PyDict::new(py);
    info.set_item("raylet_socket", text_of(session.raylet_socket()))?;
    info.set_item("session_dir", text_of(session.session_dir()))?;
    let previous = LAPTOP.lock().replace(session);
    detached(py, || drop(previous));
    Ok(info)
}

/// A path as Python's `str`. A `Path` would make Python import `pathlib`, and that half of what `init` imports.
fn text_of(path: &Path) -> &OsStr {
    path.as_os_str()
}

fn laptop_settings(options: &Bound<'_, PyDict>) -> PyResult<Settings> {
    let mut overrides = BTreeMap::new();
    for (key, setting) in [
        ("num_cpus", "num_cpus"),
        ("num_gpus", "num_gpus"),
        ("object_store_memory", "object_store_bytes"),
        ("memory", "memory"),
        ("spill_dir", "spill_dir"),
        ("temp_dir", "temp_dir"),
    ] {
        if let Some(value) = options.get_item(key)?.filter(|value| !value.is_none()) {
            overrides.insert(setting.to_owned(), value.str()?.extract()?);
        }
    }
    if let Some(resources) = options
        .get_item("resources")?
        .filter(|value| !value.is_none())
    {
        let resources: BTreeMap<String, f64> = resources.extract()?;
        overrides.insert(
            "resources".to_owned(),
            serde_json::json!(resources).to_string(),
        );
    }
    if let Some(labels) = options.get_item("labels")?.filter(|value| !value.is_none()) {
        let labels: BTreeMap<String, String> = labels.extract()?;
        overrides.insert("labels".to_owned(), serde_json::json!(labels).to_string());
    }
    Settings::from_env_and_overrides(&overrides)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Finds the raylet of this machine that belongs to the cluster.
#[pyfunction]
pub(crate) fn find_node<'py>(py: Python<'py>, address: &str) -> PyResult<Bound<'py, PyDict>> {
    let settings = Settings::from_env_and_overrides(&BTreeMap::new())
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let found = detached(py, || join::find_raylet(Some(address), &settings))
        .map_err(|error| PyConnectionError::new_err(error.to_string()))?;
    let info = PyDict::new(py);
    info.set_item("raylet_socket", text_of(&found.raylet_socket))?;
    info.set_item("session_dir", text_of(&found.session_dir))?;
    info.set_item("gcs_address", found.gcs_address.to_string())?;
    Ok(info)
}

/// Makes this process a driver of the node.
#[pyfunction]
#[pyo3(signature = (raylet_socket, entrypoint, namespace, log_sink, likely_modules, infeasible))]
pub(crate) fn connect(
    py: Python<'_>,
    raylet_socket: PathBuf,
    entrypoint: String,
    namespace: String,
    log_sink: Option<Py<PyAny>>,
    likely_modules: Vec<String>,
    infeasible: Option<String>,
) -> PyResult<()> {
    let overrides = infeasible.map(|choice| ("infeasible".to_owned(), choice));
    let settings = Settings::from_env_and_overrides(&overrides.into_iter().collect())
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let config = RuntimeConfig {
        raylet_socket,
        role: ProcessRole::Driver,
        worker_id: WorkerId::random(),
        entrypoint,
        namespace,
        log_sink: log_sink.map(python_log_sink),
        interrupt: signal_check,
        queued_limit_bytes: settings.max_queued_bytes.0,
        lineage_limit_bytes: settings.lineage_bytes.0,
        lease_idle: settings.lease_idle,
        infeasible: settings.infeasible,
        likely_modules,
    };
    *EXPORTED.lock() = None;
    if config.log_sink.is_some() {
        OUTPUT.start(py)?;
    }
    detached(py, || Runtime::start(config))
        .map(drop)
        .map_err(|failure| to_py_err(py, &failure))
}

/// Leaves the session; ends it if this process hosts it.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    *EXPORTED.lock() = None;
    let laptop = LAPTOP.lock().take();
    detached(py, || {
        crate::codec::unpin();
        if let Some(runtime) = Runtime::current() {
            // What prints may use the session.
            if OUTPUT.is_started() {
                runtime.await_output(OUTPUT_PATIENCE);
                OUTPUT.finish(OUTPUT_PATIENCE);
            }
            runtime.shutdown();
            CALLBACKS.finish(CALLBACK_PATIENCE);
        }
        if let Some(laptop) = laptop {
            laptop.shutdown();
        }
    });
}

/// The function that the running task calls; None in methods of actors, and elsewhere.
#[pyfunction]
pub(crate) fn current_function() -> Option<String> {
    CURRENT_CALL.with_borrow(|call| {
        let function = call.function.as_ref()?.function.as_ref()?;
        Some(function.name.clone())
    })
}

/// Whether this process has a session.
#[pyfunction]
pub(crate) fn is_connected() -> bool {
    Runtime::current().is_some_and(|runtime| !runtime.is_closed())
}

/// Tells the node of modules that workers are likely to need, in a session of this process's own job.
#[pyfunction]
pub(crate) fn preload(modules: Vec<String>) {
    let runtime = Runtime::current().filter(|runtime| !runtime.is_closed());
    let of_driver = |runtime: &Runtime| matches!(runtime.role(), ProcessRole::Driver);
    if let Some(runtime) = runtime.filter(of_driver) {
        runtime.preload(modules);
    }
}

/// Says what this process's job is known by where jobs are added up: a JSON object of texts.
#[pyfunction]
pub(crate) fn set_job_tags(py: Python<'_>, tags: String) -> PyResult<()> {
    let runtime = runtime(py)?;
    let key = aktis_common::job_costs::tags_key(runtime.job());
    detached(py, || runtime.kv_set(key, tags)).map_err(|failure| to_py_err(py, &failure))
}

/// Who and where this process is.
#[pyfunction]
pub(crate) fn context<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let runtime = runtime(py)?;
    let (address, greeting) = (runtime.address(), runtime.greeting());
    resume_on_loop(py)?;
    let call = CURRENT_CALL.with_borrow(Clone::clone);
    let info = PyDict::new(py);
    info.set_item("job_id", runtime.job().to_string())?;
    info.set_item("node_id", address.node.to_string())?;
    info.set_item("worker_id", address.worker.to_string())?;
    info.set_item(
        "role",
        if runtime.role() == ProcessRole::Driver {
            "driver"
        } else {
            "worker"
        },
    )?;
    info.set_item("session_dir", &greeting.session_dir)?;
    info.set_item("gcs_address", &greeting.gcs_address)?;
    let assignment = runtime.assignment();
    info.set_item("namespace", assignment.namespace)?;
    info.set_item("was_reconstructed", assignment.restarts > 0)?;
    info.set_item("resources", whole_units(py, assignment.resources.iter())?)?;
    info.set_item("task_id", call.task.map(|task| task.to_string()))?;
    info.set_item("actor_id", call.actor.map(|actor| actor.to_string()))?;
    info.set_item("gpu_ids", PyList::new(py, call.gpu_ids)?)?;
    Ok(info)
}

/// Begins or stops to record the points that calls of this process pass.
#[pyfunction]
pub(crate) fn record_stages(is_on: bool) {
    marks::set_recording(is_on);
}

/// The recorded points: name, number of the thread, and time of the monotonic clock in nanoseconds, in order. They are
/// forgotten.
#[pyfunction]
pub(crate) fn take_stages() -> Vec<(&'static str, u64, u64)> {
    let marks = marks::take_marks().into_iter();
    marks
        .map(|mark| (mark.point.name(), mark.thread, mark.at_nanos))
        .collect()
}

/// The nodes of the cluster in Ray's shape.
#[pyfunction]
pub(crate) fn nodes(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let runtime = runtime(py)?;
    let nodes = detached(py, || runtime.nodes()).map_err(|failure| to_py_err(py, &failure))?;
    let described = nodes
        .iter()
        .map(|node| describe_node(py, node))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, described)
}

/// Resources by name, from units of 1/10000.
fn whole_units<'a, 'py>(
    py: Python<'py>,
    quantities: impl Iterator<Item = (&'a String, &'a i64)>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, units) in quantities {
        #[allow(clippy::cast_precision_loss, reason = "quantities are far below 2^53")]
        dict.set_item(name, *units as f64 / 10_000.0)?;
    }
    Ok(dict)
}

fn describe_node<'py>(py: Python<'py>, node: &wire::NodeInfo) -> PyResult<Bound<'py, PyDict>> {
    let hex: String = node
        .node_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let quantities = |set: Option<&wire::ResourceSet>| {
        whole_units(py, set.into_iter().flat_map(|set| &set.quantities))
    };
    let info = PyDict::new(py);
    info.set_item("NodeID", hex)?;
    info.set_item("Alive", node.is_alive)?;
    info.set_item("NodeManagerHostname", &node.hostname)?;
    info.set_item("NodeName", &node.hostname)?;
    info.set_item("NodeManagerAddress", &node.raylet_address)?;
    info.set_item("RayletSocketName", &node.node_socket)?;
    info.set_item("Resources", quantities(node.total.as_ref())?)?;
    info.set_item("Available", quantities(node.available.as_ref())?)?;
    info.set_item(
        "Labels",
        node.labels.clone().into_iter().collect::<BTreeMap<_, _>>(),
    )?;
    info.set_item("IsHeadNode", node.is_head)?;
    info.set_item("DeathReason", &node.death_cause)?;
    info.set_item("ObjectStoreCapacityBytes", node.store_capacity_bytes)?;
    info.set_item("ObjectStoreUsedBytes", node.store_used_bytes)?;
    info.set_item("ObjectStoreDiskBytes", node.store_disk_bytes)?;
    Ok(info)
}

/// The key of a definition in the gcs table.
pub(crate) fn definition_key(id: &[u8]) -> Bytes {
    [b"definition:", id].concat().into()
}

/// Puts a definition into the gcs table, once per session. Returns its id.
#[pyfunction]
pub(crate) fn export<'py>(py: Python<'py>, definition: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let runtime = runtime(py)?;
    let digest = Sha256::digest(definition);
    let mut id = [0u8; 16];
    id.copy_from_slice(&digest[..16]);
    let is_known = EXPORTED.lock().get_or_insert_default().contains(&id);
    if !is_known {
        let bytes = Bytes::copy_from_slice(definition);
        detached(py, || runtime.kv_put(definition_key(&id), bytes))
            .map_err(|failure| to_py_err(py, &failure))?;
        // Only now: another thread that finds it here may use it at once.
        EXPORTED.lock().get_or_insert_default().insert(id);
    }
    Ok(PyBytes::new(py, &id))
}

/// All actors that the cluster knows.
#[pyfunction]
pub(crate) fn list_actors(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let runtime = runtime(py)?;
    let reply: wire::ListActorsReply =
        detached(py, || runtime.call_gcs("ListActors", &wire::Empty {}))
            .map_err(|failure| to_py_err(py, &failure))?;
    let described = reply
        .actors
        .iter()
        .map(|actor| describe_actor(py, actor))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, described)
}

fn describe_actor<'py>(py: Python<'py>, actor: &wire::ActorUpdate) -> PyResult<Bound<'py, PyDict>> {
    let hex: String = actor
        .actor_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let options = actor.options.clone().unwrap_or_default();
    let info = PyDict::new(py);
    info.set_item("actor_id", hex)?;
    info.set_item("class_name", &actor.class_name)?;
    info.set_item(
        "state",
        actor
            .state()
            .as_str_name()
            .trim_start_matches("ACTOR_STATE_"),
    )?;
    info.set_item("name", options.name)?;
    info.set_item("namespace", options.namespace)?;
    info.set_item("pid", actor.pid)?;
    info.set_item("restarts", actor.restarts)?;
    info.set_item(
        "death_cause",
        actor
            .failure
            .as_ref()
            .map(|failure| failure.message.clone()),
    )?;
    Ok(info)
}

/// Ends a worker process from a thread that is not its main one: the raylet is told, the queue says so.
pub(crate) fn end_worker(py: Python<'_>) {
    if let Some(runtime) = Runtime::current() {
        detached(py, || runtime.ask_to_exit("exit_actor() was called"));
    }
}
