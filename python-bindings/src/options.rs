//! Options as the Python package passes them: plain dictionaries that it has validated.

use std::collections::BTreeMap;

use aktis_common::ids::NodeId;
use aktis_worker::{ActorOptions, CallOptions, Strategy, TaskOptions};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Resource units per whole (see `aktis_common::resources`).
const UNITS: f64 = 10_000.0;

fn item<'py, T>(options: &Bound<'py, PyDict>, key: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    match options.get_item(key)? {
        Some(value) if !value.is_none() => value.extract().map(Some).map_err(Into::into),
        _ => Ok(None),
    }
}

fn resources(options: &Bound<'_, PyDict>) -> PyResult<Option<BTreeMap<String, i64>>> {
    let Some(quantities) = item::<BTreeMap<String, f64>>(options, "resources")? else {
        return Ok(None);
    };
    let units = quantities
        .into_iter()
        .filter(|(_, quantity)| *quantity != 0.0)
        .map(|(name, quantity)| {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "quantities are validated to be small"
            )]
            let units = (quantity * UNITS).round() as i64;
            (name, units)
        });
    Ok(Some(units.collect()))
}

fn strategy(options: &Bound<'_, PyDict>) -> PyResult<Strategy> {
    let Some(value) = options
        .get_item("strategy")?
        .filter(|value| !value.is_none())
    else {
        return Ok(Strategy::Default);
    };
    if let Ok(name) = value.extract::<String>() {
        return match name.as_str() {
            "DEFAULT" => Ok(Strategy::Default),
            "SPREAD" => Ok(Strategy::Spread),
            _ => Err(PyValueError::new_err(format!(
                "unknown scheduling strategy {name:?}: use \"DEFAULT\" or \"SPREAD\""
            ))),
        };
    }
    let (_, node, is_soft) = value.extract::<(String, String, bool)>()?;
    let node_id = NodeId::from_hex(&node)
        .map_err(|error| PyValueError::new_err(format!("bad node id: {error}")))?;
    Ok(Strategy::Node { node_id, is_soft })
}

fn bytes_item(options: &Bound<'_, PyDict>, key: &str) -> PyResult<Bytes> {
    Ok(item::<Vec<u8>>(options, key)?
        .map(Bytes::from)
        .unwrap_or_default())
}

pub(crate) fn task_options(options: &Bound<'_, PyDict>) -> PyResult<TaskOptions> {
    let defaults = TaskOptions::default();
    Ok(TaskOptions {
        resources: resources(options)?.unwrap_or(defaults.resources),
        gpu_memory_bytes: item(options, "gpu_memory_bytes")?.unwrap_or(0),
        strategy: strategy(options)?,
        num_returns: item(options, "num_returns")?.unwrap_or(1),
        max_retries: item(options, "max_retries")?.unwrap_or(defaults.max_retries),
        retry_exceptions: item(options, "retry_exceptions")?.unwrap_or(false),
        retry_exception_types: bytes_item(options, "retry_exception_types")?,
        max_calls: item(options, "max_calls")?.unwrap_or(0),
        name: item(options, "name")?.unwrap_or_default(),
        is_streaming: item(options, "streaming")?.unwrap_or(false),
        max_unread_items: item(options, "max_unread_items")?.unwrap_or(0),
    })
}

pub(crate) fn actor_options(options: &Bound<'_, PyDict>) -> PyResult<ActorOptions> {
    Ok(ActorOptions {
        resources: resources(options)?,
        gpu_memory_bytes: item(options, "gpu_memory_bytes")?.unwrap_or(0),
        strategy: strategy(options)?,
        max_restarts: item(options, "max_restarts")?.unwrap_or(0),
        max_task_retries: item(options, "max_task_retries")?.unwrap_or(0),
        max_concurrency: item(options, "max_concurrency")?.unwrap_or(0),
        calls_at_once: item(options, "calls_at_once")?.unwrap_or(0),
        concurrency_groups: item(options, "concurrency_groups")?.unwrap_or_default(),
        name: item(options, "name")?.unwrap_or_default(),
        namespace: item(options, "namespace")?.unwrap_or_default(),
        is_detached: item(options, "detached")?.unwrap_or(false),
        max_pending_calls: item(options, "max_pending_calls")?.unwrap_or(-1),
        get_if_exists: item(options, "get_if_exists")?.unwrap_or(false),
        handle_state: bytes_item(options, "handle_state")?,
        shared_modules: Vec::new(),
    })
}

pub(crate) fn call_options(options: &Bound<'_, PyDict>) -> PyResult<CallOptions> {
    Ok(CallOptions {
        num_returns: item(options, "num_returns")?.unwrap_or(1),
        max_task_retries: item(options, "max_task_retries")?,
        retry_exceptions: item(options, "retry_exceptions")?.unwrap_or(false),
        retry_exception_types: bytes_item(options, "retry_exception_types")?,
        is_streaming: item(options, "streaming")?.unwrap_or(false),
        max_unread_items: item(options, "max_unread_items")?.unwrap_or(0),
        concurrency_group: item(options, "concurrency_group")?.unwrap_or_default(),
        name: item(options, "name")?.unwrap_or_default(),
    })
}
