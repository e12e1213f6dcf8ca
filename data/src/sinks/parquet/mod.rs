//! Parquet files.

mod alike;
mod part;
mod write;

pub(crate) use alike::make_alike;
pub(crate) use part::{UNFINISHED, unfinished_folder};
pub(crate) use write::{Sink, empty_file, open, properties};
