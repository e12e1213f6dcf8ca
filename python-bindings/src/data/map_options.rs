//! From keyword arguments to a map's specification.

use std::collections::HashMap;

use aktis_common::resources::{Quantity, ResourceRequest, ResourceSet};
use aktis_data::block::BlockHandle;
use aktis_data::plan::{
    Compute, ComputeKind, Kept, MapFunction, MapSpec, Produces, PythonFunction,
};
use aktis_worker::ObjectRef;
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Workers and resources, as `_functions.compute_of` makes them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ComputeOptions {
    is_actors: bool,
    min_workers: usize,
    initial_workers: Option<usize>,
    max_workers: Option<usize>,
    resources: HashMap<String, f64>,
    is_default: bool,
}

impl ComputeOptions {
    pub(crate) fn to_compute(&self) -> PyResult<Compute> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "amounts of resources are small"
        )]
        let units = |amount: f64| (amount * Quantity::SCALE as f64).round() as i64;
        let amounts = self.resources.iter();
        let amounts = amounts.map(|(name, amount)| (name.clone(), units(*amount)));
        let resources = ResourceRequest::new(ResourceSet::from_units(amounts), 0)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Compute {
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
            produces: if self.is_mask {
                Produces::Mask
            } else {
                Produces::Unknown
            },
            keeps_rows: self.keeps_rows,
            batch_rows: self.batch_rows,
            window_rows: self.window_rows,
            compute: self.compute,
        }
    }
}
