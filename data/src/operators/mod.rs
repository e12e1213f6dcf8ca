//! What a stage does with rows.

pub(crate) mod blocks;
pub(crate) mod cached;
pub(crate) mod chance;
pub(crate) mod comparable;
pub(crate) mod even;
pub(crate) mod expect;
pub(crate) mod failing;
pub(crate) mod feeds;
pub(crate) mod fragment;
pub(crate) mod function;
pub(crate) mod group;
pub(crate) mod map;
pub mod model;
mod node;
pub(crate) mod packed;
pub(crate) mod partition;
pub(crate) mod relational;
#[cfg(test)]
mod relational_tests;
pub(crate) mod sample;
pub(crate) mod stream;
pub mod turns;
pub mod udf;
pub(crate) mod unnest;
