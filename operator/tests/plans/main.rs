//! Plans, followed in a pretended Kubernetes: scenarios and properties. No API, no clock, no thread.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod cluster;
mod cluster_properties;
mod cron_job;
mod fixtures;
mod job;
mod pretended;
