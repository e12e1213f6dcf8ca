//! Where data lies: files by path, folder, pattern or URL, reached through `object_store`. Those that are not local are found
//! and reached by Python ([`remote`], ADR 129).

mod again;
mod footer;
mod hive;
mod in_order;
mod kept;
mod local;
mod locate;
mod meter;
mod remote;
mod store;
mod walk;

pub use footer::{FileFooter, RowGroupInfo};
pub(crate) use footer::{KnownColumns, read_footers, read_footers_here, row_groups};
pub use hive::PathColumns;
pub(crate) use hive::{hive_folder, told_beside};
pub(crate) use in_order::in_order;
pub(crate) use locate::find_paths;
pub use locate::{DataFile, ReadOptions, find_files, local_folder};
pub(crate) use meter::MeteredStore;
pub use remote::{Published, RemoteFiles, StoreRefusal, Transfer};
pub(crate) use store::Store;
pub use store::StoreSpec;
