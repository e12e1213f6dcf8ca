//! Which store files lie in.

use std::ops::Range;
use std::sync::Arc;

use aktis_worker::TaskFailure;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::local::LocalFiles;
use super::locate::DataFile;
use super::remote::RemoteStore;
use super::{KeptAhead, MeteredStore, RemoteFiles, StoreRefusal};
use crate::error::PlanError;
use crate::operators::udf;

/// Where files lie, as it travels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreSpec {
    /// What the `UdfHost` reaches them with; empty: they are local.
    pub definition: Bytes,
}

impl StoreSpec {
    /// Its files, for whoever writes them.
    pub(crate) fn files(&self) -> Result<Arc<dyn RemoteFiles>, TaskFailure> {
        udf::open_files(&self.definition)
    }

    /// Makes it ready for reading. `kept_bytes`: what may be kept of small files that came along with their footers.
    pub(crate) fn open(&self, kept_bytes: u64) -> Result<Store, TaskFailure> {
        if self.definition.is_empty() {
            let files = Arc::new(LocalFiles::default());
            let store = Arc::new(MeteredStore::new(files, kept_bytes).patient());
            return Ok(Store {
                store,
                remote: None,
            });
        }
        let remote = Arc::new(RemoteStore::new(self.files()?));
        Ok(Store {
            store: Arc::new(MeteredStore::new(Arc::clone(&remote) as _, kept_bytes)),
            remote: Some(remote),
        })
    }
}

/// A store that files are read from.
#[derive(Clone)]
pub(crate) struct Store {
    store: Arc<MeteredStore>,
    remote: Option<Arc<RemoteStore>>,
}

impl Store {
    /// All of a small file.
    pub(crate) async fn whole(
        &self,
        location: &Path,
        size_bytes: u64,
    ) -> object_store::Result<Bytes> {
        self.store.whole(location, size_bytes).await
    }

    /// Reads a range, and keeps it for whoever asks for parts of it while what is returned lives.
    pub(crate) async fn read_ahead(
        &self,
        location: &Path,
        range: Range<u64>,
    ) -> object_store::Result<KeptAhead> {
        self.store.read_ahead(location, range).await
    }

    /// What is kept of small files.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.store.kept_bytes()
    }

    /// For readers.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store) as _
    }

    /// Whether an answer takes so long that it is worth asking ahead.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// What the store calls a file.
    pub(crate) fn location(&self, file: &DataFile) -> Result<Path, PlanError> {
        match &self.remote {
            Some(_) => Ok(RemoteStore::location(&file.path)),
            None => file.location(),
        }
    }

    /// What was refused since this was last asked, in the store's own words.
    pub(crate) fn take_refused(&self) -> Option<StoreRefusal> {
        self.remote.as_ref()?.take_refused()
    }

    /// Somebody has read so much of its files without it.
    pub(crate) fn has_read(&self, bytes: u64) {
        self.store.count(bytes);
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.store.bytes_read()
    }
}
