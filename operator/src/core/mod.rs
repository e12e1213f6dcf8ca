//! What is to be done, as pure functions: resource, what was observed, now -> a [`Plan`].

pub mod action;
pub mod cluster;
pub mod conditions;
pub mod cron_job;
pub mod job;
pub mod names;
pub mod pods;

pub use action::{Action, CredentialsOrder, Plan, Target};
