//! Parquet files, also where their columns differ.

mod adapt;
#[cfg(test)]
mod adapt_tests;
#[cfg(test)]
mod far_tests;
mod positions;
mod prune;
mod read;
mod small;
#[cfg(test)]
mod small_tests;
pub(crate) mod spec;
mod table;

pub use table::ParquetTable;

use super::SourceKind;

pub(super) const KIND: SourceKind = SourceKind {
    name: "parquet",
    of_table: |table| Some(table.downcast_ref::<ParquetTable>()?),
    reader: |settings| Ok(Box::new(read::FileReader::new(settings)?)),
    calls_python: false,
};
