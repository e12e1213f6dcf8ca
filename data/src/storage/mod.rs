//! Where data lies: files by path, folder, pattern or URL, reached through `object_store`.

mod footer;
mod hive;
mod locate;
mod meter;

pub use footer::{FileFooter, RowGroupInfo, read_footers};
pub use hive::PathColumns;
pub use locate::{DataFile, ReadOptions, find_files, local_folder};
pub use meter::MeteredStore;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

/// The store of local files, rooted at `/`.
pub fn local_store() -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new())
}
