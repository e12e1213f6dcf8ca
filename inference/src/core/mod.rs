//! The decisions of this crate as pure functions: no thread, file, clock or model.

pub mod bucket;
pub mod pooling;
pub mod token_batch;
pub mod window;
