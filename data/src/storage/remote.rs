//! Files that are not local, as an object store: a library of Python reaches them (ADR 129), this decides what to ask for.
//! Written files take another way: as a whole, by [`RemoteFiles`] alone (ADR 130).
//!
//! ```text
//!  ranges that the Parquet reader wants ──► merged where the gap is small ──► pieces ──► RemoteFiles, all at once
//! ```
//! A store in Rust would be another [`ObjectStore`], beside this one in [`Store`](super::Store): nothing else would change.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use object_store::path::{Path, PathPart};
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::hive::decoded;

/// Between ranges that are nearer to each other than this, what nobody wants is read as well: a request costs more.
const GAP_BYTES: u64 = 1 << 20;
/// What is longer is asked for in pieces, side by side: one connection gives less than the machine takes.
const PIECE_BYTES: u64 = 4 << 20;
/// As long as fewer requests than these are under way, pieces are shorter, so that as many are: whoever has asked for nothing else waits for
/// this. None is shorter than what comes in the time that a store takes for an answer.
const FULL_REQUESTS: u64 = 16;
const LEAST_PIECE_BYTES: u64 = 256 << 10;

/// Files by name, wherever these are. Blocks; what may come right is tried again, but not for ever; requests of one call are
/// under way at once.
pub trait RemoteFiles: Send + Sync {
    /// The bytes of `ranges` of a file, in their order.
    fn read_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreRefusal>;

    /// What lies at each of these paths; `None`: no file any more.
    fn describe(&self, paths: &[&str]) -> Result<Vec<Option<Described>>, StoreRefusal>;

    /// Copies files from here to there. A file is there when it is whole, and not before.
    fn upload(&self, files: &[Transfer]) -> Result<(), StoreRefusal>;

    /// Copies files from there to here.
    fn download(&self, files: &[Transfer]) -> Result<(), StoreRefusal>;

    /// Gives files in `folder` their names: all of them, or none. `replaces`: then what was in the folder goes.
    fn publish(&self, folder: &str, new: &[Published], replaces: bool) -> Result<(), StoreRefusal>;

    /// Removes a folder of a job's own, if there is one.
    fn sweep(&self, folder: &str) -> Result<(), StoreRefusal>;
}

/// What a store says of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Its length.
    pub size_bytes: u64,
    /// Another number when it has changed; 0: nothing tells.
    pub version: u64,
}

/// A file here and its name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its absolute path here.
    pub local: String,
    /// Its name there.
    pub name: String,
}

/// A file there that gets its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it is called until then.
    pub hidden: String,
    /// What it is called from then on.
    pub name: String,
}

/// Why a store did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct StoreRefusal {
    /// The whole sentence, with the file and what to do.
    pub text: String,
    /// The number of the system's error that says the same.
    pub number: i32,
}

/// Reads through [`RemoteFiles`]. Nothing else: files are listed and written elsewhere.
pub(super) struct RemoteStore {
    files: Arc<dyn RemoteFiles>,
    /// What was refused last: readers wrap an error until it is nothing but its text.
    refused: Mutex<Option<StoreRefusal>>,
    /// Requests whose answers are not there.
    under_way: Arc<Mutex<u64>>,
}

impl RemoteStore {
    pub(super) fn new(files: Arc<dyn RemoteFiles>) -> Self {
        Self {
            files,
            refused: Mutex::new(None),
            under_way: Arc::default(),
        }
    }

    pub(super) fn take_refused(&self) -> Option<StoreRefusal> {
        self.refused.lock().take()
    }

    /// The name of a file in the store, whatever signs are in it.
    pub(super) fn location(path: &str) -> Path {
        [PathPart::from(path)].into_iter().collect()
    }

    /// Reads on a thread of its own: a request that nobody waits for any more holds nothing up.
    async fn read(&self, location: &Path, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        let (files, path) = (Arc::clone(&self.files), decoded(location.as_ref()));
        let (sender, answer) = oneshot::channel();
        let under_way = Arc::clone(&self.under_way);
        let count = ranges.len() as u64;
        let read = move || {
            let read = files.read_ranges(&path, &ranges);
            *under_way.lock() -= count;
            // Nobody hears it if the reader has gone.
            let _ = sender.send(read);
        };
        let thread = std::thread::Builder::new().name("aktis-remote".to_owned());
        *self.under_way.lock() += count;
        if let Err(error) = thread.spawn(read) {
            *self.under_way.lock() -= count;
            return Err(generic(error.into()));
        }
        let answer = answer.await;
        answer
            .map_err(|_| generic("a reading thread ended without a word".into()))?
            .map_err(|refused| {
                *self.refused.lock() = Some(refused.clone());
                generic(refused.into())
            })
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let store = "remote";
    Error::Generic { store, source }
}

/// What of [`ObjectStore`] no reader of Parquet asks for.
fn unasked<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "remote files".to_owned(),
    })
}

/// Ranges that cover all of `ranges`, in order, without small gaps between them.
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// How long pieces of `ranges` are, beside so many requests that are under way.
fn piece_bytes(ranges: &[Range<u64>], under_way: u64) -> u64 {
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let more = FULL_REQUESTS.saturating_sub(under_way).max(1);
    bytes.div_ceil(more).clamp(LEAST_PIECE_BYTES, PIECE_BYTES)
}

/// A range as pieces of about one size, of so many bytes at most.
fn pieces(range: &Range<u64>, bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let (start, length) = (range.start, range.end - range.start);
    let count = length.div_ceil(bytes).max(1);
    let at = move |index: u64| start + length * index / count;
    (0..count).map(move |index| at(index)..at(index + 1))
}

fn joined(pieces: &[Bytes]) -> Bytes {
    if let [piece] = pieces {
        return piece.clone();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces
        .iter()
        .for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("what was read is in memory")
}

#[async_trait]
impl ObjectStore for RemoteStore {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let merged = merged(ranges);
        let bytes = piece_bytes(&merged, *self.under_way.lock());
        let asked = merged.iter().map(|range| pieces(range, bytes).collect());
        let asked: Vec<Vec<_>> = asked.collect();
        let read = self.read(location, asked.concat()).await?;
        let mut rest = &read[..];
        let whole = |pieces: &Vec<Range<u64>>| {
            let (own, others) = rest.split_at(pieces.len());
            rest = others;
            joined(own)
        };
        let whole: Vec<Bytes> = asked.iter().map(whole).collect();
        let part = |range: &Range<u64>| {
            let index = merged.partition_point(|one| one.start <= range.start) - 1;
            let first = merged[index].start;
            whole[index].slice(place(range.start - first)..place(range.end - first))
        };
        Ok(ranges.iter().map(part).collect())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(GetRange::Bounded(range)) = options.range else {
            return unasked("read a file as a whole");
        };
        let bytes = self
            .get_ranges(location, std::slice::from_ref(&range))
            .await?;
        let bytes = bytes.into_iter().next().unwrap_or_default();
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed()),
            meta: ObjectMeta {
                location: location.clone(),
                last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
                size: range.end,
                e_tag: None,
                version: None,
            },
            range,
            attributes: object_store::Attributes::default(),
        })
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        unasked("put")
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unasked("put in parts")
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        futures::stream::iter([unasked("delete")]).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::iter([unasked("list")]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unasked("list")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unasked("copy")
    }
}

impl fmt::Display for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remote files")
    }
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteStore")
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    /// A file whose byte at `n` is `n % 251`, and what was asked for.
    #[derive(Default)]
    struct Numbers(Mutex<Vec<(String, Vec<Range<u64>>)>>);

    impl RemoteFiles for Numbers {
        fn read_ranges(
            &self,
            path: &str,
            ranges: &[Range<u64>],
        ) -> Result<Vec<Bytes>, StoreRefusal> {
            self.0.lock().push((path.to_owned(), ranges.to_vec()));
            if path.ends_with("gone") {
                let text = format!("read {path}: there is no such file");
                return Err(StoreRefusal { text, number: 2 });
            }
            Ok(ranges.iter().map(numbers).collect())
        }

        fn describe(&self, _: &[&str]) -> Result<Vec<Option<Described>>, StoreRefusal> {
            numbers_only()
        }

        fn upload(&self, _: &[Transfer]) -> Result<(), StoreRefusal> {
            numbers_only()
        }

        fn download(&self, _: &[Transfer]) -> Result<(), StoreRefusal> {
            numbers_only()
        }

        fn publish(&self, _: &str, _: &[Published], _: bool) -> Result<(), StoreRefusal> {
            numbers_only()
        }

        fn sweep(&self, _: &str) -> Result<(), StoreRefusal> {
            numbers_only()
        }
    }

    fn numbers_only<T>() -> Result<T, StoreRefusal> {
        Err(StoreRefusal {
            text: "only numbers are here".to_owned(),
            number: 95,
        })
    }

    fn numbers(range: &Range<u64>) -> Bytes {
        range.clone().map(|place| (place % 251) as u8).collect()
    }

    fn store() -> (Arc<Numbers>, RemoteStore) {
        let files = Arc::new(Numbers::default());
        (Arc::clone(&files), RemoteStore::new(files))
    }

    #[test]
    fn near_ranges_are_one_request_and_long_ones_are_several_and_bytes_are_those_asked_for() {
        let (files, store) = store();
        let path = "s3://bucket//day=1/ä %20.parquet?x";
        let far = 3 * GAP_BYTES;
        let wanted = [
            far..far + 2 * PIECE_BYTES + 5,
            10..20,
            1000..1010,
            far + 7..far + 9,
        ];
        let location = RemoteStore::location(path);
        let read = store.get_ranges(&location, &wanted);
        let read = futures::executor::block_on(read).expect("reads");
        assert!(read == wanted.iter().map(numbers).collect::<Vec<_>>());
        let asked = files.0.lock().clone();
        let [(name, ranges)] = &asked[..] else {
            panic!("one call: {asked:?}")
        };
        assert_eq!(name, path);
        assert_eq!(ranges[0], 10..1010);
        let long = &ranges[1..];
        assert_eq!(long.len() as u64, FULL_REQUESTS, "{ranges:?}");
        assert!(
            long.iter()
                .all(|range| range.end - range.start <= PIECE_BYTES)
        );
        assert_eq!(*store.under_way.lock(), 0);
    }

    #[test]
    fn pieces_are_the_shorter_the_fewer_requests_are_under_way() {
        let of = |bytes: u64, under_way| piece_bytes(std::slice::from_ref(&(0..bytes)), under_way);
        assert_eq!(of(8 * PIECE_BYTES, 0), PIECE_BYTES / 2);
        assert_eq!(of(8 * PIECE_BYTES, FULL_REQUESTS), PIECE_BYTES);
        assert_eq!(of(PIECE_BYTES, 0), LEAST_PIECE_BYTES);
        assert_eq!(pieces(&(0..10), LEAST_PIECE_BYTES).count(), 1);
    }

    #[test]
    fn what_was_refused_is_kept_beside_the_error() {
        let (_, store) = store();
        let location = RemoteStore::location("s3://bucket/gone");
        futures::executor::block_on(store.get_range(&location, 0..5)).expect_err("is refused");
        let refused = store.take_refused().expect("is known");
        assert_eq!(refused.number, 2);
        assert_eq!(store.take_refused(), None);
    }
}
