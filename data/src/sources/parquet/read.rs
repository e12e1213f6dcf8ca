//! Reading parts of Parquet files.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::FileScanConfigBuilder;
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource_parquet::source::ParquetSource;
use datafusion_datasource_parquet::{CachedParquetFileReaderFactory, ParquetAccessPlan};
use datafusion_execution::object_store::ObjectStoreUrl;
use datafusion_execution::runtime_env::RuntimeEnv;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use tokio::runtime::Runtime as TokioRuntime;

use super::adapt::{Adapter, ScanColumns};
use super::small;
use super::spec::{FilePart, FilesPosition, ScanSpec};
use crate::error::first_line;
use crate::operators::stream::BatchStream;
use crate::os_error;
use crate::panics;
use crate::sources::{Opened, PartPlace, Places, SourceReader};
use crate::storage::{DataFile, Store, StoreSpec};

/// How much of a file's end is read first: most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;
/// Of files that are far, so many bytes (before compression) are one run: the next ones are asked for while it is decoded.
const FAR_RUN_BYTES: u64 = 16 << 20;
/// Runs of files that are far are asked for ahead until they have so many bytes, before compression, and at least one is.
const AHEAD_BYTES: u64 = 64 << 20;
/// Runs that are under way at most.
const AHEAD_RUNS: usize = 16;

/// Reads parts of Parquet files: row groups are skipped by their statistics, pages by the page index, rows by the
/// predicate while they are decoded. Keeps footers between inputs.
pub(super) struct FileReader {
    scan: ScanSpec,
    files: Files,
}

impl FileReader {
    /// A reader with the settings of a table.
    pub(super) fn new(settings: &Bytes) -> Result<Self, TaskFailure> {
        let scan: ScanSpec = crate::sources::decode(settings)?;
        let definition = scan.store.clone();
        let store = StoreSpec { definition }.open()?;
        let context =
            Arc::new(TaskContext::default().with_runtime(Arc::new(RuntimeEnv::default())));
        Ok(Self {
            scan,
            files: Files { store, context },
        })
    }
}

impl SourceReader for FileReader {
    fn open(
        &mut self,
        input: Opened,
        row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let FilesPosition { parts } = crate::sources::decode(&input.position)?;
        let columns = ScanColumns::new(&self.scan)
            .map_err(|error| Paths::of(&parts, &self.files.store).failure(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| {
                TaskFailure::new(ErrorCode::Internal, format!("start a reader: {error}"))
            })?;
        let are_told_apart = self.scan.predicate.is_none();
        let runs = runs(
            &parts,
            &columns,
            self.files.store.is_remote(),
            are_told_apart,
        );
        Ok(Box::new(FileStream {
            files: self.files.clone(),
            batch_rows: self.scan.batch_rows,
            row_limit,
            runs,
            columns,
            runtime,
            open: VecDeque::new(),
        }))
    }

    fn places(&self, position: &Bytes) -> Result<Option<Places>, TaskFailure> {
        let FilesPosition { parts } = crate::sources::decode(position)?;
        let parts = parts.into_iter().map(|part| PartPlace {
            file: Some(part.path),
            row_group: Some(part.row_group.into()),
            first_row: part.first_row,
            rows: part.rows,
        });
        Ok(Some(Places {
            parts: parts.collect(),
            is_exact: self.scan.predicate.is_none(),
        }))
    }

    fn bytes_read(&self) -> u64 {
        self.files.store.bytes_read()
    }

    fn may_run_ahead(&self) -> bool {
        true
    }
}

/// Parts that one stream reads: those of files that are far are few, so that several streams wait for answers at once.
/// `are_told_apart`: small files are read in another way than others.
fn runs(
    parts: &[FilePart],
    columns: &ScanColumns,
    is_far: bool,
    are_told_apart: bool,
) -> VecDeque<Vec<FilePart>> {
    let mut bytes = 0;
    let is_one_run = |one: &FilePart, next: &FilePart| {
        bytes += one.bytes;
        let is_enough = is_far && (one.path != next.path || bytes >= FAR_RUN_BYTES);
        let is_alike = !are_told_apart || small::is_all_of_one(one) == small::is_all_of_one(next);
        let is_one = !is_enough && is_alike && columns.is_one_run(one, next);
        if !is_one {
            bytes = 0;
        }
        is_one
    };
    let runs = parts.chunk_by(is_one_run);
    runs.map(<[FilePart]>::to_vec).collect()
}

/// Where files lie, and what is known of them.
#[derive(Clone)]
struct Files {
    store: Store,
    context: Arc<TaskContext>,
}

impl Files {
    fn stream(
        &self,
        adapter: &Adapter,
        parts: &[FilePart],
        batch_rows: u64,
        row_limit: Option<usize>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let row_limit = row_limit.filter(|_| adapter.gives_all());
        if adapter.pushed.is_none() && parts.iter().all(small::is_all_of_one) {
            return small::stream(&self.store, adapter, parts, batch_rows, row_limit);
        }
        let cache = self
            .context
            .runtime_env()
            .cache_manager
            .get_file_metadata_cache();
        let factory = CachedParquetFileReaderFactory::new(self.store.objects(), cache);
        let mut source = ParquetSource::new(Arc::clone(&adapter.own))
            .with_metadata_size_hint(FOOTER_HINT_BYTES)
            .with_parquet_file_reader_factory(Arc::new(factory))
            .with_enable_page_index(true)
            .with_pushdown_filters(true);
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
        let mut selections: BTreeMap<u32, Vec<RowSelector>> = BTreeMap::new();
        for part in run {
            let selectors = selections.entry(part.row_group).or_default();
            let covered: usize = selectors.iter().map(|selector| selector.row_count).sum();
            selectors.push(RowSelector::skip(
                rows(part.first_row).saturating_sub(covered),
            ));
            selectors.push(RowSelector::select(rows(part.rows)));
        }
        let mut access = ParquetAccessPlan::new_none(first.row_groups as usize);
        for part in run {
            let Some(mut selectors) = selections.remove(&part.row_group) else {
                continue;
            };
            let covered: usize = selectors.iter().map(|selector| selector.row_count).sum();
            let group = part.row_group as usize;
            access.scan(group);
            let group_rows = rows(part.row_group_rows);
            let is_whole =
                selectors.iter().all(|s| !s.skip || s.row_count == 0) && covered == group_rows;
            if !is_whole {
                selectors.push(RowSelector::skip(group_rows.saturating_sub(covered)));
                access.scan_selection(group, RowSelection::from(selectors));
            }
        }
        let file = DataFile {
            path: first.path.clone(),
            size_bytes: first.size_bytes,
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

fn rows(count: u64) -> usize {
    usize::try_from(count).expect("a row group has fewer rows than memory has addresses")
}

/// The files of an input, for messages.
struct Paths {
    paths: Vec<String>,
    store: Store,
}

impl Paths {
    fn of(parts: &[FilePart], store: &Store) -> Self {
        Self {
            paths: parts.iter().map(|part| part.path.clone()).collect(),
            store: store.clone(),
        }
    }

    fn names(&self) -> String {
        let mut paths = self.paths.clone();
        paths.dedup();
        paths.join(" or ")
    }

    fn failure(&self, error: &DataFusionError) -> TaskFailure {
        if let Some(refused) = self.store.take_refused() {
            return TaskFailure::of_os(refused.number, refused.text);
        }
        match os_error::number(error).or_else(|| self.refused()) {
            Some(number) => {
                let text = format!("read {}: {}", self.names(), os_error::text(number));
                TaskFailure::of_os(number, text)
            }
            None => self.damaged(&first_line(error)),
        }
    }

    /// The system's error number for a file that cannot be opened: not every reader hands it on.
    fn refused(&self) -> Option<i32> {
        let local = self.paths.iter().filter(|_| !self.store.is_remote());
        let mut errors = local.filter_map(|path| std::fs::File::open(path).err());
        errors.find_map(|error| error.raw_os_error())
    }

    /// Decoders meet values that they did not expect by panicking.
    fn panicked(&self, text: &str) -> TaskFailure {
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

/// The rows of parts of files, run by run: those of a run have the same columns.
struct FileStream {
    files: Files,
    columns: ScanColumns,
    batch_rows: u64,
    row_limit: Option<usize>,
    runs: VecDeque<Vec<FilePart>>,
    /// Runs that are being read, in order. Before `runtime`, which their tasks belong to.
    open: VecDeque<RowRun>,
    runtime: TokioRuntime,
}

/// A run that is being read.
struct RowRun {
    stream: SendableRecordBatchStream,
    adapter: Adapter,
    paths: Paths,
    bytes: u64,
}

impl BatchStream for FileStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            self.open_ahead()?;
            let Some(run) = self.open.front_mut() else {
                return Ok(None);
            };
            let RowRun {
                stream,
                adapter,
                paths,
                ..
            } = run;
            let runtime = &self.runtime;
            let read = || {
                let batch = runtime.block_on(stream.next());
                batch.transpose().map_err(|error| paths.failure(&error))
            };
            let Some(batch) = panics::caught(|text| paths.panicked(text), read)? else {
                self.open.pop_front();
                continue;
            };
            return adapter.adapt(batch, || paths.names()).map(Some);
        }
    }
}

impl FileStream {
    /// Begins the next run if none is under way, and more of them where answers take long.
    fn open_ahead(&mut self) -> Result<(), TaskFailure> {
        let is_far = self.files.store.is_remote();
        loop {
            let bytes: u64 = self.open.iter().map(|run| run.bytes).sum();
            let is_enough = match self.open.len() {
                0 => false,
                1 => !is_far,
                count => count >= AHEAD_RUNS || bytes >= AHEAD_BYTES,
            };
            if is_enough {
                return Ok(());
            }
            let Some(parts) = self.runs.pop_front() else {
                return Ok(());
            };
            self.open.push_back(self.begin(&parts)?);
        }
    }

    fn begin(&self, parts: &[FilePart]) -> Result<RowRun, TaskFailure> {
        let paths = Paths::of(parts, &self.files.store);
        let open = || {
            let adapter = self.columns.adapter(&parts[0]);
            let stream = adapter.and_then(|adapter| {
                let stream = self
                    .files
                    .stream(&adapter, parts, self.batch_rows, self.row_limit)?;
                Ok((adapter, self.under_way(stream)))
            });
            stream.map_err(|error| paths.failure(&error))
        };
        let (adapter, stream) = panics::caught(|text| paths.panicked(text), open)?;
        Ok(RowRun {
            stream,
            adapter,
            paths,
            bytes: parts.iter().map(|part| part.bytes).sum(),
        })
    }

    /// The stream, which goes on by itself whenever this thread waits for another, where answers take long.
    fn under_way(&self, mut stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        if !self.files.store.is_remote() {
            return stream;
        }
        let mut builder = RecordBatchReceiverStream::builder(stream.schema(), 1);
        let sender = builder.tx();
        let read = async move {
            while let Some(batch) = stream.next().await {
                // The reader has gone: nobody wants the rest.
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        builder.spawn_on(read, self.runtime.handle());
        builder.build()
    }
}
