//! Reading parts of Parquet files.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::FileScanConfigBuilder;
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource_parquet::metadata::DFParquetMetadata;
use datafusion_datasource_parquet::source::ParquetSource;
use datafusion_datasource_parquet::{CachedParquetFileReaderFactory, ParquetAccessPlan};
use datafusion_execution::cache::cache_manager::FileMetadataCache;
use datafusion_execution::object_store::ObjectStoreUrl;
use datafusion_execution::runtime_env::RuntimeEnv;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::ExecutionPlan;
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;
use tokio::runtime::{Builder, Runtime as TokioRuntime};
use tokio::sync::Mutex as AsyncMutex;

use super::adapt::Adapter;
use super::pages;
use super::small;
use super::spec::{FilePart, FilesPosition, ScanSpec};
use super::stream::{FileStream, WantedRows};
use crate::error::reason_of;
use crate::ledger::UNFINISHED;
use crate::operators::stream::BatchStream;
use crate::os_error;
use crate::sources::{Asked, Opened, PartPlace, Places, SourceReader};
use crate::storage::{DataFile, KeptAhead, Store, StoreSpec};

/// How much of a file's end is read first: most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;

/// Many more than there are requests under way, so that it is rare that two files meet.
const FOOTERS_AT_ONCE: usize = 256;

/// Reads parts of Parquet files: row groups are skipped by their statistics, pages by the page index, rows by the
/// predicate while they are decoded or behind that. Keeps footers between inputs.
pub(super) struct FileReader {
    scan: ScanSpec,
    files: Files,
    /// Reads files that are far beside whoever takes their rows, so that there is always something asked for; `None`: they are local.
    beside: Option<Arc<TokioRuntime>>,
    /// What the input that was opened last has asked for; `None`: none was opened.
    last: Option<Asked>,
}

impl FileReader {
    /// A reader with the settings of a table.
    pub(super) fn new(settings: &Bytes) -> Result<Self, TaskFailure> {
        let scan: ScanSpec = crate::sources::decode(settings)?;
        let definition = scan.store.clone();
        let store = StoreSpec { definition }.open(scan.kept_bytes())?;
        let context =
            Arc::new(TaskContext::default().with_runtime(Arc::new(RuntimeEnv::default())));
        let asking = Arc::new(std::array::from_fn(|_| AsyncMutex::new(())));
        let files = Files {
            store,
            context,
            asking,
            row_group_bytes: scan.row_group_bytes,
        };
        Ok(Self {
            scan,
            beside: files.store.is_remote().then(beside).transpose()?,
            files,
            last: None,
        })
    }
}

#[cfg(test)]
impl FileReader {
    /// What it opens streams with, of files that are far.
    pub(super) fn for_test(&self) -> (Files, Arc<TokioRuntime>) {
        let beside = self.beside.as_ref().expect("files are far");
        (self.files.clone(), Arc::clone(beside))
    }
}

impl SourceReader for FileReader {
    fn open(
        &mut self,
        input: Opened,
        row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let position = crate::sources::decode(&input.position)?;
        let runtime = match &self.beside {
            Some(runtime) => Arc::clone(runtime),
            None => Arc::new(started(Builder::new_current_thread().build())?),
        };
        let wanted = WantedRows {
            position,
            row_limit,
            is_first: self.last.is_none(),
        };
        let rows = FileStream::new(&self.scan, self.files.clone(), wanted, runtime)?;
        self.last = Some(rows.asked());
        Ok(Box::new(rows))
    }

    fn places(&self, position: &Bytes) -> Result<Option<Places>, TaskFailure> {
        let FilesPosition { parts, unread } = crate::sources::decode(position)?;
        let hidden = format!("/{UNFINISHED}");
        if parts.iter().any(|part| part.path.contains(&hidden)) {
            // Those of a leg are gone when somebody looks for a row.
            return Ok(None);
        }
        let parts = parts.into_iter().map(|part| PartPlace {
            file: Some(part.path),
            row_group: Some(part.row_group.into()),
            first_row: part.first_row,
            rows: part.rows,
        });
        let is_exact = self.scan.predicate.is_none() && unread.is_empty();
        let unread = unread.into_iter().map(|part| PartPlace {
            file: Some(part.path),
            row_group: None,
            first_row: 0,
            rows: 0,
        });
        Ok(Some(Places {
            parts: parts.chain(unread).collect(),
            is_exact,
        }))
    }

    fn bytes_read(&self) -> u64 {
        self.files.store.bytes_read()
    }

    fn may_run_ahead(&self) -> bool {
        true
    }

    fn asked(&self) -> Option<Asked> {
        self.last.clone().filter(|_| self.beside.is_some())
    }
}

/// A thread that reads beside others. Answers that nobody waits for any more do not hold its end up.
fn beside() -> Result<Arc<TokioRuntime>, TaskFailure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("aktis-read-far")
        .build();
    started(runtime).map(Arc::new)
}

fn started(runtime: std::io::Result<TokioRuntime>) -> Result<TokioRuntime, TaskFailure> {
    runtime
        .map_err(|error| TaskFailure::new(ErrorCode::Internal, format!("start a reader: {error}")))
}

/// Where files lie, and what is known of them.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) store: Store,
    context: Arc<TaskContext>,
    /// Which footers are asked for now, by what paths hash to: several streams read from one file, and the first asks for all.
    asking: Arc<[AsyncMutex<()>; FOOTERS_AT_ONCE]>,
    /// Row groups of local files that have more are read page by page.
    row_group_bytes: u64,
}

impl Files {
    /// Asks for the footer of a file, unless it is known, and keeps it for whoever reads from it next.
    pub(super) async fn footer(
        &self,
        file: &DataFile,
    ) -> Result<Arc<ParquetMetaData>, DataFusionError> {
        let location = self.store.location(file);
        let object = ObjectMeta {
            location: location.map_err(|error| DataFusionError::External(Box::new(error)))?,
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size: file.size_bytes,
            e_tag: None,
            version: None,
        };
        let mut hasher = DefaultHasher::new();
        file.path.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % FOOTERS_AT_ONCE as u64).expect("is small");
        let _asking = self.asking[place].lock().await;
        let objects = self.store.objects();
        let read = DFParquetMetadata::new(&objects, &object)
            .with_metadata_size_hint(Some(FOOTER_HINT_BYTES))
            .with_file_metadata_cache(Some(self.footers()));
        read.fetch_metadata().await
    }

    /// Asks for the footer of a file as [`footer`](Self::footer), and beside it, if that is not known, for bytes of the file that will be
    /// wanted as soon as it is: one answer less to wait for.
    pub(super) async fn footer_and(
        &self,
        file: &DataFile,
        range: Option<Range<u64>>,
    ) -> Result<Option<KeptAhead>, DataFusionError> {
        let location = self.store.location(file);
        let location = location.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let is_known = self.footers().contains_key(&location);
        let Some(range) = range.filter(|_| !is_known) else {
            return self.footer(file).await.map(|_| None);
        };
        let (footer, ahead) =
            futures::join!(self.footer(file), self.store.read_ahead(&location, range));
        footer?;
        ahead.map(Some).map_err(Into::into)
    }

    /// The footers that were read last.
    pub(super) fn footers(&self) -> Arc<FileMetadataCache> {
        let runtime = self.context.runtime_env();
        runtime.cache_manager.get_file_metadata_cache()
    }

    /// The rows of `parts`, which have the same columns.
    pub(super) fn stream(
        &self,
        adapter: &Adapter,
        parts: &[FilePart],
        batch_rows: u64,
        row_limit: Option<usize>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let row_limit = row_limit.filter(|_| adapter.gives_all());
        let is_read_whole = adapter.pushed.is_none() || !adapter.chooses_early;
        if is_read_whole && parts.iter().all(small::is_all_of_one) {
            return small::stream(&self.store, adapter, parts, batch_rows, row_limit);
        }
        let is_large = |part: &FilePart| part.row_group_bytes() > self.row_group_bytes;
        if !self.store.is_remote() && parts.iter().any(is_large) {
            return pages::stream(self, adapter, parts, batch_rows, row_limit);
        }
        let objects = self.store.objects();
        let factory = CachedParquetFileReaderFactory::new(objects, self.footers());
        let mut source = ParquetSource::new(Arc::clone(&adapter.as_read))
            .with_metadata_size_hint(FOOTER_HINT_BYTES)
            .with_parquet_file_reader_factory(Arc::new(factory))
            .with_enable_page_index(true)
            .with_pushdown_filters(adapter.chooses_early);
        if let Some(predicate) = &adapter.pushed {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let store_url = ObjectStoreUrl::local_filesystem();
        self.context
            .runtime_env()
            .register_object_store(store_url.as_ref(), self.store.objects());
        let config = FileScanConfigBuilder::new(store_url, Arc::new(source))
            .with_file_group(FileGroup::new(partitioned_files(parts, &self.store)?))
            .with_projection_indices(Some(adapter.read.clone()))?
            .with_batch_size(usize::try_from(batch_rows).ok())
            .with_limit(row_limit)
            .with_preserve_order(true)
            .build();
        DataSourceExec::from_data_source(config).execute(0, Arc::clone(&self.context))
    }
}

/// One entry per run of parts of the same file, with the row groups and rows that are wanted.
fn partitioned_files(
    parts: &[FilePart],
    store: &Store,
) -> Result<Vec<PartitionedFile>, DataFusionError> {
    let mut files = Vec::new();
    for run in parts.chunk_by(|one, next| one.path == next.path) {
        let first = &run[0];
        let mut groups: BTreeMap<u32, Vec<FilePart>> = BTreeMap::new();
        for part in run {
            groups.entry(part.row_group).or_default().push(part.clone());
        }
        let mut access = ParquetAccessPlan::new_none(first.row_groups as usize);
        for (group, parts) in groups {
            access.scan(group as usize);
            if let Some(selection) = selection_of(&parts) {
                access.scan_selection(group as usize, selection);
            }
        }
        let file = DataFile {
            path: first.path.clone(),
            size_bytes: first.size_bytes,
            version: 0,
        };
        let location = store
            .location(&file)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut entry = PartitionedFile::new(String::new(), first.size_bytes);
        entry.object_meta.location = location;
        files.push(entry.with_extension(access));
    }
    Ok(files)
}

/// Which rows of their row group the parts are; `None`: all.
pub(super) fn selection_of(parts: &[FilePart]) -> Option<RowSelection> {
    let (mut selectors, mut covered) = (Vec::new(), 0);
    for part in parts {
        let first = rows(part.first_row).max(covered);
        selectors.push(RowSelector::skip(first - covered));
        selectors.push(RowSelector::select(rows(part.rows)));
        covered = first + rows(part.rows);
    }
    let all = rows(parts[0].row_group_rows);
    let is_whole = covered == all && selectors.iter().all(|one| !one.skip || one.row_count == 0);
    selectors.push(RowSelector::skip(all.saturating_sub(covered)));
    (!is_whole).then(|| RowSelection::from(selectors))
}

fn rows(count: u64) -> usize {
    usize::try_from(count).expect("a row group has fewer rows than memory has addresses")
}

/// The files of an input, for messages.
pub(super) struct Paths {
    paths: Vec<String>,
    store: Store,
}

impl Paths {
    pub(super) fn new(paths: Vec<String>, store: &Store) -> Self {
        let store = store.clone();
        Self { paths, store }
    }

    pub(super) fn of(parts: &[FilePart], store: &Store) -> Self {
        Self::new(parts.iter().map(|part| part.path.clone()).collect(), store)
    }

    pub(super) fn names(&self) -> String {
        let mut paths = self.paths.clone();
        paths.dedup();
        paths.join(" or ")
    }

    pub(super) fn failure(&self, error: &DataFusionError) -> TaskFailure {
        if let Some(refused) = self.store.take_refused() {
            return TaskFailure::of_os(refused.number, refused.text);
        }
        match os_error::number(error).or_else(|| self.refused()) {
            Some(number) => {
                let text = format!("read {}: {}", self.names(), os_error::text(number));
                TaskFailure::of_os(number, text)
            }
            None => self.damaged(&reason_of(error)),
        }
    }

    /// The system's error number for a file that cannot be opened: not every reader hands it on.
    fn refused(&self) -> Option<i32> {
        let local = self.paths.iter().filter(|_| !self.store.is_remote());
        let mut errors = local.filter_map(|path| std::fs::File::open(path).err());
        errors.find_map(|error| error.raw_os_error())
    }

    /// Decoders meet values that they did not expect by panicking.
    pub(super) fn panicked(&self, text: &str) -> TaskFailure {
        self.damaged(&format!("its decoder panicked: {text}"))
    }

    fn damaged(&self, detail: &str) -> TaskFailure {
        let paths = self.names();
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!("read {paths}: it is damaged or not Parquet: {detail}"),
        )
    }
}
