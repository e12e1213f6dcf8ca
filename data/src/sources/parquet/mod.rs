//! Parquet files, also where their columns differ.

mod adapt;
#[cfg(test)]
mod adapt_tests;
mod chosen;
#[cfg(test)]
mod far_tests;
mod learned;
mod pages;
mod positions;
mod prune;
mod read;
mod small;
#[cfg(test)]
mod small_tests;
pub(crate) mod spec;
mod stream;
mod table;
mod told_twice;
mod turns;
mod unread;
mod views;

pub use table::ParquetTable;
use unread::UnreadTable;
pub(crate) use unread::{table_here, table_of};

use super::SourceKind;

pub(super) const KIND: SourceKind = SourceKind {
    name: "parquet",
    of_table: |table| match table.downcast_ref::<ParquetTable>() {
        Some(known) => Some(known),
        None => Some(table.downcast_ref::<UnreadTable>()?),
    },
    reader: |settings| Ok(Box::new(read::FileReader::new(settings)?)),
    calls_python: false,
    reaches_by_python: |settings| {
        let scan = super::decode::<spec::ScanSpec>(settings);
        scan.is_ok_and(|scan| !scan.store.is_empty())
    },
};
