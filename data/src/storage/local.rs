//! Local files: what is small is read by the thread that wants it.
//!
//! The store beneath hands every question to another thread, so that a runtime is never held up. A reader of ours has a
//! runtime of its own and waits for its file anyway; for a few kilobytes the way there and back costs more than the read.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

/// Reads of at most so many bytes are small.
const SMALL_BYTES: u64 = 64 << 10;

/// The files of this machine, rooted at `/`.
#[derive(Debug, Default)]
pub(super) struct LocalFiles {
    inner: LocalFileSystem,
}

impl LocalFiles {
    /// A small range; `None`: it is not small, or the store beneath will say what is wrong.
    fn read_here(&self, location: &Path, range: &Range<u64>) -> Option<(Bytes, File)> {
        let length = range.end.checked_sub(range.start)?;
        if length > SMALL_BYTES {
            return None;
        }
        let path = self.inner.path_to_filesystem(location).ok()?;
        let file = File::open(path).ok()?;
        let bytes = read(&file, length, range.start).ok()?;
        Some((bytes, file))
    }

    /// The same, with what else is known of the file.
    fn get_here(&self, location: &Path, range: Range<u64>) -> Option<GetResult> {
        let (bytes, file) = self.read_here(location, &range)?;
        let described = file.metadata().ok()?;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: described.modified().ok()?.into(),
            size: described.len(),
            e_tag: None,
            version: None,
        };
        Some(GetResult {
            payload: GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed()),
            meta,
            range,
            attributes: Attributes::default(),
        })
    }
}

fn read(file: &File, length: u64, offset: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

/// Whether nothing but a range of the file is asked for.
fn range_alone(options: &GetOptions) -> Option<Range<u64>> {
    let has_conditions = options.if_match.is_some()
        || options.if_none_match.is_some()
        || options.if_modified_since.is_some()
        || options.if_unmodified_since.is_some();
    match &options.range {
        Some(GetRange::Bounded(range)) if !has_conditions && !options.head => Some(range.clone()),
        _ => None,
    }
}

impl fmt::Display for LocalFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for LocalFiles {
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
        let here = range_alone(&options).and_then(|range| self.get_here(location, range));
        match here {
            Some(read) => Ok(read),
            None => self.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let [range] = ranges
            && let Some((bytes, _)) = self.read_here(location, range)
        {
            return Ok(vec![bytes]);
        }
        self.inner.get_ranges(location, ranges).await
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
    use futures::FutureExt;
    use object_store::ObjectStoreExt;

    use super::*;

    fn written(bytes: usize) -> (tempfile::TempDir, Path) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a file");
        let content: Vec<u8> = (0..bytes).map(|number| (number % 251) as u8).collect();
        std::fs::write(&path, content).expect("writes");
        let location = Path::from_absolute_path(path).expect("is absolute");
        (folder, location)
    }

    fn alone(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    fn expected(range: Range<usize>) -> Vec<u8> {
        range.map(|number| (number % 251) as u8).collect()
    }

    #[tokio::test]
    async fn ranges_are_those_that_were_asked_for() {
        let large = 4 * SMALL_BYTES as usize;
        let (_folder, location) = written(large);
        let store = LocalFiles::default();
        for range in [0..10, 0..large, large - 10..large, 5..large - 5] {
            let wanted = range.start as u64..range.end as u64;
            let one = store.get_range(&location, wanted.clone()).await;
            assert_eq!(one.expect("reads"), expected(range.clone()));
            let alone = store.get_ranges(&location, std::slice::from_ref(&wanted));
            assert_eq!(alone.await.expect("reads"), [expected(range.clone())]);
            let several = store.get_ranges(&location, &[wanted, 1..3]).await;
            assert_eq!(several.expect("reads"), [expected(range), expected(1..3)]);
        }
    }

    #[tokio::test]
    async fn what_is_small_is_read_by_the_thread_that_asks() {
        let (_folder, location) = written(1000);
        let small = LocalFiles::default();
        let read = small.get_range(&location, 10..20).now_or_never();
        assert_eq!(read.expect("is there").expect("reads"), expected(10..20));
        let read = small.get_ranges(&location, &alone(10..20)).now_or_never();
        assert_eq!(read.expect("is there").expect("reads"), [expected(10..20)]);
    }

    #[tokio::test]
    async fn ranges_that_are_not_there_fail_as_they_do_beneath() {
        let (_folder, location) = written(1000);
        let store = LocalFiles::default();
        let (ours, theirs) = (
            store.get_ranges(&location, &alone(990..1010)).await,
            store.inner.get_ranges(&location, &alone(990..1010)).await,
        );
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        let missing = Path::from("nowhere/at/all");
        let missing = store.get_range(&missing, 0..10).await;
        let is_missing = matches!(missing, Err(object_store::Error::NotFound { .. }));
        assert!(is_missing, "{missing:?}");
    }

    #[tokio::test]
    async fn conditions_are_looked_at_also_of_small_files() {
        let (_folder, location) = written(100);
        let options = GetOptions {
            if_match: Some("another".to_owned()),
            range: Some(GetRange::Bounded(0..10)),
            ..GetOptions::default()
        };
        let read = LocalFiles::default().get_opts(&location, options).await;
        assert!(matches!(
            read,
            Err(object_store::Error::Precondition { .. })
        ));
    }
}
