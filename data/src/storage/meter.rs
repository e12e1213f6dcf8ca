//! An object store that counts what is read from it, and reads small files once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::again::is_worth_another;
use super::ahead::{KeptAhead, ReadAhead};
use super::kept::KeptFiles;

/// Counts the bytes of every read; what is left of small files beside their footers comes along with these; passes everything on to another store.
#[derive(Debug)]
pub(crate) struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    /// Whether reads that fail may be tried again: those of other stores than local ones were.
    is_patient: bool,
    bytes_read: AtomicU64,
    kept: KeptFiles,
    ahead: Arc<ReadAhead>,
}

impl MeteredStore {
    /// Counts reads from `inner`, and keeps so much of small files.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, kept_bytes: u64) -> Self {
        Self {
            inner,
            is_patient: false,
            bytes_read: AtomicU64::new(0),
            kept: KeptFiles::new(kept_bytes),
            ahead: Arc::default(),
        }
    }

    /// The same, of local files: reads that fail are tried again where that may help.
    pub(crate) fn patient(self) -> Self {
        Self {
            is_patient: true,
            ..self
        }
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// What is kept of small files.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept.bytes()
    }

    /// Reads a range, and keeps it for whoever asks for parts of it while what is returned lives.
    pub(crate) async fn read_ahead(&self, location: &Path, range: Range<u64>) -> Result<KeptAhead> {
        let parts = self.read(location, std::slice::from_ref(&range)).await?;
        let bytes = parts.into_iter().next().unwrap_or_default();
        Ok(self.ahead.keep(location, range.start, bytes))
    }

    /// All of a small file, of which nothing more will be asked for.
    pub(crate) async fn whole(&self, location: &Path, size_bytes: u64) -> Result<Bytes> {
        if let Some(bytes) = self.kept.take(location, size_bytes) {
            return Ok(bytes);
        }
        let whole = 0..size_bytes;
        let parts = self.read(location, std::slice::from_ref(&whole)).await?;
        Ok(parts.into_iter().next().unwrap_or_default())
    }

    /// Reads and counts.
    async fn read(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut tries = 0;
        loop {
            let outcome = self.inner.get_ranges(location, ranges).await;
            tries += 1;
            if self.is_patient && is_worth_another(&outcome, tries) {
                continue;
            }
            let parts = outcome?;
            self.count(parts.iter().map(|part| part.len() as u64).sum());
            return Ok(parts);
        }
    }

    /// Counts what was read.
    pub(super) fn count(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metered {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut tries = 0;
        loop {
            let outcome = self.inner.get_opts(location, options.clone()).await;
            tries += 1;
            if self.is_patient && is_worth_another(&outcome, tries) {
                continue;
            }
            let result = outcome?;
            self.count(result.range.end - result.range.start);
            return Ok(result);
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let at_hand = self.kept.parts(location, ranges);
        if let Some(parts) = at_hand.or_else(|| self.ahead.parts(location, ranges)) {
            return Ok(parts);
        }
        let parts = self.read(location, ranges).await?;
        self.kept.keep(location, ranges, &parts);
        Ok(parts)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    async fn of_files(files: &[(&Path, usize)]) -> (MeteredStore, Arc<InMemory>) {
        let inner = Arc::new(InMemory::new());
        for (location, bytes) in files {
            let content: Vec<u8> = (0..*bytes).map(|number| (number % 251) as u8).collect();
            let put = inner.put(location, content.into()).await;
            put.expect("has room");
        }
        (MeteredStore::new(Arc::clone(&inner) as _, 0), inner)
    }

    #[tokio::test]
    async fn small_file_is_read_once_and_counted_once() {
        let (small, large) = (Path::from("small"), Path::from("large"));
        let (store, inner) = of_files(&[(&small, 1000), (&large, 100_000)]).await;
        let ends = [(&small, 0..1000), (&large, 40_000..100_000)];
        for (location, end) in ends {
            store.get_ranges(location, &[end]).await.expect("reads");
        }
        assert_eq!(store.bytes_read(), 61_000);
        inner.delete(&small).await.expect("is there");
        let parts = store.get_ranges(&small, &[2..4, 252..255]).await;
        assert_eq!(parts.expect("came along"), [vec![2, 3], vec![1, 2, 3]]);
        let whole = store.whole(&small, 1000).await.expect("came along");
        assert_eq!((whole.len(), store.kept_bytes()), (1000, 0));
        assert_eq!(store.bytes_read(), 61_000);
        let alone = |range: Range<u64>| std::iter::once(range).collect::<Vec<_>>();
        let rest = store
            .get_ranges(&large, &alone(10..20))
            .await
            .expect("reads");
        assert_eq!((rest[0].len(), store.bytes_read()), (10, 61_010));
        inner.delete(&large).await.expect("is there");
        let gone = store.get_ranges(&large, &alone(50_000..50_001)).await;
        assert!(gone.is_err(), "only the end of it was read: {gone:?}");
    }
}
