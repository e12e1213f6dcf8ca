//! Wire in and out for the rest of the cluster. No decisions.

mod raylet_service;

pub(crate) use raylet_service::RayletService;
