//! This node as the gcs sees it, and the others as the gcs publishes them.

pub mod cluster;
pub(super) mod report;
