//! Parquet files.

mod adapt;
#[cfg(test)]
mod adapt_tests;
pub(crate) mod prune;
pub(crate) mod read;
mod table;

pub use table::ParquetTable;
