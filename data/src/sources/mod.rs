//! Where rows come from.

pub(crate) mod blocks;
pub(crate) mod parquet;
pub(crate) mod splits;

pub use blocks::{BlocksTable, RangeTable, SourceBlock};
pub use parquet::ParquetTable;
