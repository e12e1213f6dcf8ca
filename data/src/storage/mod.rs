//! Where data lies: files by path, folder, pattern or URL, reached through `object_store`. Those that are not local are found
//! and reached by Python ([`remote`], ADR 129).

mod again;
mod ahead;
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

pub(crate) use again::read_again;
pub(crate) use ahead::KeptAhead;
pub use footer::{FileFooter, RowGroupInfo};
pub(crate) use footer::{KnownColumns, footer_here, read_footers, read_footers_here, row_groups};
pub use hive::PathColumns;
pub(crate) use hive::{hive_folder, told_columns};
pub(crate) use in_order::in_order;
pub use locate::{DataFile, ReadOptions, find_files, local_folder};
pub(crate) use locate::{files_here, files_here_now, find_paths};
pub(crate) use meter::MeteredStore;
pub use remote::{Described, Published, RemoteFiles, StoreRefusal, Transfer};
pub(crate) use store::Store;
pub use store::StoreSpec;
