//! Where data lies: files by path, folder, pattern or URL, reached through `object_store`. Those that are not local are found
//! and reached by Python ([`remote`], ADR 129).

mod again;
mod footer;
mod hive;
mod locate;
mod meter;
mod remote;
mod store;

pub(crate) use footer::read_footers;
pub use footer::{FileFooter, RowGroupInfo};
pub use hive::PathColumns;
pub(crate) use hive::hive_folder;
pub use locate::{DataFile, ReadOptions, find_files, local_folder};
pub(crate) use meter::MeteredStore;
pub use remote::{Published, RemoteFiles, StoreRefusal, Transfer};
pub(crate) use store::Store;
pub use store::StoreSpec;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

/// The store of local files, rooted at `/`.
fn local_store() -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new())
}
