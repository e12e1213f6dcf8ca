//! From keyword arguments to a map's specification.

use std::collections::HashMap;
use std::time::Duration;

use aktis_common::resources::{Quantity, ResourceRequest, ResourceSet};
use aktis_data::block::BlockHandle;
use aktis_data::operators::model::model_map;
use aktis_data::plan::{
    Batching, CacheSpec, Compute, ComputeKind, FailurePolicy, Kept, MapFunction, MapSpec, OnError,
    OtherWorkers, PoolSpec, Produces, PythonFunction,
};
use aktis_worker::ObjectRef;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::plan_error;
use super::plan::model_spec;
use crate::object_ref::PyObjectRef;

/// Workers and resources, as `_functions.compute_of` makes them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ComputeOptions<'py> {
    is_actors: bool,
    min_workers: usize,
    initial_workers: Option<usize>,
    max_workers: Option<usize>,
    resources: HashMap<String, f64>,
    is_default: bool,
    others: Vec<OtherOptions<'py>>,
}

/// Workers of another kind, as `_functions.other_workers` makes them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OtherOptions<'py> {
    min_workers: usize,
    initial_workers: Option<usize>,
    max_workers: Option<usize>,
    resources: HashMap<String, f64>,
    batch_rows: Option<usize>,
    definition: Option<Vec<u8>>,
    captured: Option<PyRef<'py, PyObjectRef>>,
    model: Option<String>,
}

impl OtherOptions<'_> {
    fn to_others(&self) -> PyResult<OtherWorkers> {
        let pool = PoolSpec {
            min_workers: self.min_workers,
            initial_workers: self.initial_workers,
            max_workers: self.max_workers,
            resources: resource_request(&self.resources)?,
        };
        if let Some(spec) = &self.model {
            let map = model_map(model_spec(spec)?, Compute::actors());
            let map = map.map_err(|error| plan_error(&error))?;
            return Ok(OtherWorkers {
                pool,
                batch_rows: map.batch_rows,
                function: Some(map.function),
            });
        }
        let python = |definition: &Vec<u8>| PythonFunction {
            definition: Bytes::from(definition.clone()),
            captured: captured_block(self.captured.as_ref()),
        };
        Ok(OtherWorkers {
            pool,
            batch_rows: self.batch_rows,
            function: self
                .definition
                .as_ref()
                .map(python)
                .map(MapFunction::Python),
        })
    }
}

/// The object that holds the references of a function.
fn captured_block(captured: Option<&PyRef<'_, PyObjectRef>>) -> Option<BlockHandle> {
    captured.map(|captured| BlockHandle::new(captured.reference().clone()))
}

fn resource_request(amounts: &HashMap<String, f64>) -> PyResult<ResourceRequest> {
    ResourceRequest::new(resource_set(amounts), 0)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

impl ComputeOptions<'_> {
    pub(crate) fn to_compute(&self) -> PyResult<Compute> {
        let resources = resource_request(&self.resources)?;
        let others = self.others.iter().map(OtherOptions::to_others);
        Ok(Compute {
            others: others.collect::<PyResult<_>>()?,
            kind: if self.is_actors {
                ComputeKind::Actors
            } else {
                ComputeKind::Tasks
            },
            min_workers: self.min_workers,
            initial_workers: self.initial_workers,
            max_workers: self.max_workers,
            resources,
            is_default: self.is_default,
        })
    }
}

/// Amounts of resources by name.
pub(crate) fn resource_set(amounts: &HashMap<String, f64>) -> ResourceSet {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "amounts of resources are small"
    )]
    let units = |amount: f64| (amount * Quantity::SCALE as f64).round() as i64;
    let amounts = amounts.iter();
    ResourceSet::from_units(amounts.map(|(name, amount)| (name.clone(), units(*amount))))
}

/// What becomes of rows that fail, as `_failing.py` makes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct FailureOptions {
    on_error: Option<String>,
    max_errors: Option<u64>,
    max_error_ratio: Option<f64>,
    max_errored_batches: Option<u64>,
    timeout_s: Option<f64>,
}

impl FailureOptions {
    /// `None`: a function of ours, whose failures end the job whatever holds for others.
    pub(crate) fn policy(options: Option<&Self>) -> PyResult<FailurePolicy> {
        let Some(options) = options else {
            return Ok(FailurePolicy::default());
        };
        let on_error = options.on_error.as_deref().map(|text| {
            OnError::parse(text)
                .ok_or_else(|| PyValueError::new_err(format!("there is no on_error={text:?}")))
        });
        let timeout = options.timeout_s.map(Duration::try_from_secs_f64);
        Ok(FailurePolicy {
            on_error: on_error.transpose()?,
            max_errors: options.max_errors,
            max_error_ratio: options.max_error_ratio.map(f64::to_bits),
            max_errored_batches: options.max_errored_batches,
            timeout: timeout
                .transpose()
                .map_err(|error| PyValueError::new_err(format!("timeout_s: {error}")))?,
            takes_defaults: true,
        })
    }
}

/// How batches are made besides `batch_rows`, as `_batching.py` makes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct BatchingOptions {
    is_auto: bool,
    token_budget: Option<u64>,
    token_column: Option<String>,
    byte_budget: Option<u64>,
    sorted_rows: u64,
    group_keys: Vec<String>,
}

impl From<BatchingOptions> for Batching {
    fn from(options: BatchingOptions) -> Self {
        Self {
            is_auto: options.is_auto,
            token_budget: options.token_budget,
            token_column: options.token_column,
            byte_budget: options.byte_budget,
            sorted_rows: options.sorted_rows,
            group_keys: options.group_keys,
        }
    }
}

/// A Python function as a step, as `Plan.map` gets it.
pub(crate) struct MapOptions {
    pub(crate) definition: Vec<u8>,
    pub(crate) captured: Option<ObjectRef>,
    pub(crate) name: String,
    pub(crate) compute: Compute,
    pub(crate) batch_rows: Option<usize>,
    pub(crate) window_rows: usize,
    pub(crate) reads: Option<Vec<String>>,
    pub(crate) keeps: Option<Vec<String>>,
    pub(crate) keeps_all_except: Option<Vec<String>>,
    pub(crate) keeps_rows: bool,
    pub(crate) is_mask: bool,
    /// The columns that it returns, if the user has declared them.
    pub(crate) produces: Option<SchemaRef>,
    pub(crate) failures: FailurePolicy,
    pub(crate) cache: Option<CacheSpec>,
    pub(crate) batching: Batching,
}

/// Where results are kept, as `_caching.py` makes it: a folder, and what the function is.
pub(crate) fn cache_spec(cache: Option<(String, String)>) -> Option<CacheSpec> {
    cache.map(|(folder, sign)| CacheSpec { folder, sign })
}

impl MapOptions {
    pub(crate) fn into_spec(self) -> MapSpec {
        let keeps = match (self.keeps, self.keeps_all_except) {
            (Some(names), _) => Kept::Named(names),
            (None, Some(names)) => Kept::AllExcept(names),
            (None, None) => Kept::Nothing,
        };
        MapSpec {
            name: self.name,
            function: MapFunction::Python(PythonFunction {
                definition: Bytes::from(self.definition),
                captured: self.captured.map(BlockHandle::new),
            }),
            reads: self.reads,
            keeps,
            produces: match self.produces {
                _ if self.is_mask => Produces::Mask,
                Some(schema) => Produces::Fields(schema.fields().iter().cloned().collect()),
                None => Produces::Unknown,
            },
            keeps_rows: self.keeps_rows,
            batch_rows: self.batch_rows,
            window_rows: self.window_rows,
            compute: self.compute,
            failures: self.failures,
            cache: self.cache,
            batching: self.batching,
        }
    }
}
