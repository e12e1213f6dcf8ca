//! Results of a function: those in files, by their keys, and those that wait to be written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::compact;
use super::files::{self, KeptPart};
use super::keys::Key;
use crate::block::{self, data_bytes};
use crate::plan::CacheSpec;

/// What is lost at most with a worker that is killed, beside the call that was under way.
const PATIENCE: Duration = Duration::from_secs(1);
/// Results wait to be written together, so many bytes at most.
const WAITING_BYTES: u64 = 4 << 20;
/// Results of parts that stay in memory, once they were read.
const READ_BYTES: u64 = 64 << 20;

/// What is kept of one function, as a worker knows it.
pub(super) struct ResultStore {
    folder: PathBuf,
    /// Files that were looked at.
    seen: HashSet<OsString>,
    parts: Vec<KeptPart>,
    /// Which row of which part.
    index: HashMap<Key, (usize, usize)>,
    read: HashMap<usize, Arc<RecordBatch>>,
    read_order: VecDeque<usize>,
    read_bytes: u64,
    waiting: Vec<(Vec<Key>, Arc<RecordBatch>)>,
    waiting_index: HashMap<Key, (usize, usize)>,
    waiting_bytes: u64,
    written_at: Instant,
    /// Parts written since somebody looked whether there are too many.
    written: usize,
    is_broken: bool,
}

impl ResultStore {
    /// What is kept as `spec` says.
    pub(super) fn open(spec: &CacheSpec) -> Result<Self, TaskFailure> {
        let folder = PathBuf::from(&spec.folder).join(&spec.sign);
        fs::create_dir_all(&folder).map_err(|error| {
            TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!("cache={:?}: make the folder: {error}", spec.folder),
            )
        })?;
        compact::run(&folder);
        let mut store = Self {
            folder,
            seen: HashSet::new(),
            parts: Vec::new(),
            index: HashMap::new(),
            read: HashMap::new(),
            read_order: VecDeque::new(),
            read_bytes: 0,
            waiting: Vec::new(),
            waiting_index: HashMap::new(),
            waiting_bytes: 0,
            written_at: Instant::now(),
            written: 0,
            is_broken: false,
        };
        store.look();
        Ok(store)
    }

    /// The result of a row, if there is one: a batch, and which of its rows.
    pub(super) fn find(&mut self, key: &Key) -> Option<(Arc<RecordBatch>, usize)> {
        if let Some(&(waiting, row)) = self.waiting_index.get(key) {
            return Some((Arc::clone(&self.waiting[waiting].1), row));
        }
        let &(part, row) = self.index.get(key)?;
        if let Some(results) = self.results(part) {
            return Some((results, row));
        }
        // Somebody has merged it, or it is torn.
        self.index.retain(|_, place| place.0 != part);
        self.look();
        let &(part, row) = self.index.get(key)?;
        self.results(part).map(|results| (results, row))
    }

    /// Keeps results: soon in a file.
    pub(super) fn keep(&mut self, keys: Vec<Key>, results: &RecordBatch) {
        if results.num_rows() == 0 || self.is_broken {
            return;
        }
        // A copy: what Python made may hold on to all that its function was given.
        let Ok(alone) = block::alone(results) else {
            return;
        };
        let place = self.waiting.len();
        let rows = keys.iter().enumerate();
        self.waiting_index
            .extend(rows.map(|(row, key)| (*key, (place, row))));
        self.waiting_bytes += data_bytes(&alone);
        self.waiting.push((keys, Arc::new(alone)));
        if self.waiting_bytes >= WAITING_BYTES || self.written_at.elapsed() >= PATIENCE {
            self.write();
        }
    }

    /// Writes what waits.
    pub(super) fn write(&mut self) {
        self.written_at = Instant::now();
        self.waiting_bytes = 0;
        self.waiting_index.clear();
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(first) = waiting.first().map(|one| one.1.schema()) {
            let (alike, others) = waiting.into_iter().partition(|one| one.1.schema() == first);
            waiting = others;
            if let Err(error) = self.write_together(alike) {
                // The job needs no cache: it is only slower.
                tracing::warn!(%error, folder = %self.folder.display(), "results are not kept any more");
                self.is_broken = true;
                return;
            }
        }
        if self.written >= compact::MANY {
            self.written = 0;
            compact::run(&self.folder);
        }
    }

    fn write_together(&mut self, alike: Vec<(Vec<Key>, Arc<RecordBatch>)>) -> std::io::Result<()> {
        let batches: Vec<&RecordBatch> = alike.iter().map(|one| one.1.as_ref()).collect();
        let whole = concat_batches(&batches[0].schema(), batches).map_err(std::io::Error::other)?;
        let keys = alike.into_iter().flat_map(|one| one.0).collect();
        let part = files::write(&self.folder, keys, &whole)?;
        self.written += 1;
        let name = part.results.with_extension("keys");
        self.seen.extend(name.file_name().map(OsString::from));
        self.add(part);
        Ok(())
    }

    /// Reads the keys of parts that are new.
    fn look(&mut self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if files::is_keys(&name.to_string_lossy()) && self.seen.insert(name) {
                // One that goes meanwhile was merged into another.
                if let Ok(Some(part)) = files::read_keys(&entry.path()) {
                    self.add(part);
                }
            }
        }
    }

    fn add(&mut self, part: KeptPart) {
        let number = self.parts.len();
        let rows = part.keys.iter().enumerate();
        self.index
            .extend(rows.map(|(row, key)| (*key, (number, row))));
        self.parts.push(part);
    }

    /// The results of a part; `None`: they are not there.
    fn results(&mut self, part: usize) -> Option<Arc<RecordBatch>> {
        if let Some(read) = self.read.get(&part) {
            return Some(Arc::clone(read));
        }
        let results = Arc::new(files::read_results(&self.parts[part]).ok().flatten()?);
        self.read_bytes += self.parts[part].bytes;
        self.read.insert(part, Arc::clone(&results));
        self.read_order.push_back(part);
        while self.read_bytes > READ_BYTES
            && self.read_order.len() > 1
            && let Some(oldest) = self.read_order.pop_front()
        {
            self.read.remove(&oldest);
            self.read_bytes -= self.parts[oldest].bytes;
        }
        Some(results)
    }
}

impl Drop for ResultStore {
    fn drop(&mut self) {
        self.write();
    }
}
