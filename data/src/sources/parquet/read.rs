//! What an input begins with: parts of Parquet files, numbers, or blocks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
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
use futures::StreamExt;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use tokio::runtime::Runtime as TokioRuntime;

use super::adapt::{Adapter, ScanColumns};
use crate::block;
use crate::columns;
use crate::error::first_line;
use crate::operators::stream::{BatchStream, Batches, Prefetched};
use crate::os_error;
use crate::panics;
use crate::stage_worker::StageMeters;
use crate::storage::{DataFile, MeteredStore, local_store};
use crate::wire::spec::{BlockPart, FilePart, InputSpec, NumberPart, ScanSpec, StageSpec};

/// How much of a file's end is read first: most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;
/// Numbers per batch.
const NUMBERS_PER_BATCH: u64 = 64 << 10;

/// Opens the inputs of one worker; keeps footers between them.
#[derive(Default)]
pub(crate) struct SourceReader {
    files: Option<FileReader>,
    reported_bytes: u64,
}

impl SourceReader {
    /// The rows of `input`.
    pub(crate) fn open(
        &mut self,
        stage: &StageSpec,
        input: &InputSpec,
        blocks: Vec<Bytes>,
        meters: &mut StageMeters,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let stream: Box<dyn BatchStream> = if let Some(numbers) = &input.numbers {
            Box::new(Numbers::new(numbers))
        } else if input.files.is_empty() {
            let mut rows = read_blocks(&input.blocks, blocks)?;
            if !stage.block_schema.is_empty() {
                rows = with_columns(rows, &stage.block_schema)?;
            }
            Box::new(Batches(rows.into_iter()))
        } else {
            let scan = stage.scan.as_ref().ok_or_else(|| {
                TaskFailure::new(
                    ErrorCode::Internal,
                    "a stage without a scan got parts of files",
                )
            })?;
            let reader = match &mut self.files {
                Some(reader) => reader,
                None => self.files.insert(FileReader::new()),
            };
            reader.open(scan, &input.files, stage.row_limit_of_scan())?
        };
        let stream = meters.wrap_source(stream);
        let ahead = stage.prefetch_batches as usize;
        if ahead == 0 || input.files.is_empty() {
            return Ok(stream);
        }
        let prefetched: Box<dyn BatchStream> = Box::new(Prefetched::spawn(stream, ahead)?);
        Ok(meters.wrap_wait(prefetched))
    }

    /// Bytes read from storage so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.files
            .as_ref()
            .map_or(0, |files| files.store.bytes_read())
    }

    /// Bytes read since this was last asked.
    pub(crate) fn bytes_read_since_report(&mut self) -> u64 {
        let all = self.bytes_read();
        all - std::mem::replace(&mut self.reported_bytes, all)
    }
}

fn read_blocks(parts: &[BlockPart], blocks: Vec<Bytes>) -> Result<Vec<RecordBatch>, TaskFailure> {
    if parts.len() != blocks.len() {
        return Err(TaskFailure::new(
            ErrorCode::Internal,
            format!(
                "an input names {} blocks and came with {}",
                parts.len(),
                blocks.len()
            ),
        ));
    }
    let mut rows = Vec::new();
    for (part, stream) in parts.iter().zip(blocks) {
        let (_, batches) = block::decode(stream).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("read a block: {error}"))
        })?;
        let mut skip = part.first_row;
        let mut left = part.rows;
        for batch in batches {
            let length = batch.num_rows() as u64;
            let first = skip.min(length);
            let taken = left.min(length - first);
            skip -= first;
            left -= taken;
            if taken > 0 {
                let index = |rows| usize::try_from(rows).expect("no more than the batch has");
                rows.push(batch.slice(index(first), index(taken)));
            }
        }
    }
    Ok(rows)
}

/// Blocks that came of one run as rows of one dataset.
fn with_columns(rows: Vec<RecordBatch>, schema: &Bytes) -> Result<Vec<RecordBatch>, TaskFailure> {
    let schema = block::decode_schema(schema.clone()).map_err(|error| {
        TaskFailure::new(ErrorCode::Internal, format!("read a schema: {error}"))
    })?;
    let conform = |batch: RecordBatch| {
        columns::conform(&batch, &schema).map_err(|misfit| {
            let between = misfit.between("in the dataset", "in one of its blocks");
            TaskFailure::new(ErrorCode::Application, format!("read a block: {between}"))
        })
    };
    rows.into_iter().map(conform).collect()
}

/// The range source.
struct Numbers {
    schema: SchemaRef,
    next: u64,
    end: u64,
}

impl Numbers {
    fn new(part: &NumberPart) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        Self {
            schema,
            next: part.start,
            end: part.end,
        }
    }
}

impl BatchStream for Numbers {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if self.next >= self.end {
            return Ok(None);
        }
        let end = self.end.min(self.next + NUMBERS_PER_BATCH);
        let number = |n: u64| i64::try_from(n).expect("range() refuses more than 2^63 rows");
        let ids = Int64Array::from_iter_values(number(self.next)..number(end));
        self.next = end;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(ids)]);
        batch.map(Some).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("make numbers: {error}"))
        })
    }
}

/// Reads parts of Parquet files: row groups are skipped by their statistics, pages by the page index, rows by the
/// predicate while they are decoded.
#[derive(Clone)]
struct FileReader {
    store: Arc<MeteredStore>,
    context: Arc<TaskContext>,
}

impl FileReader {
    fn new() -> Self {
        let store = Arc::new(MeteredStore::new(local_store()));
        let context =
            Arc::new(TaskContext::default().with_runtime(Arc::new(RuntimeEnv::default())));
        Self { store, context }
    }

    fn open(
        &self,
        scan: &ScanSpec,
        parts: &[FilePart],
        row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let columns = ScanColumns::new(scan).map_err(|error| Paths::of(parts).failure(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| {
                TaskFailure::new(ErrorCode::Internal, format!("start a reader: {error}"))
            })?;
        let runs = parts.chunk_by(|one, next| columns.is_one_run(one, next));
        Ok(Box::new(FileStream {
            reader: self.clone(),
            batch_rows: scan.batch_rows,
            row_limit,
            runs: runs.map(<[FilePart]>::to_vec).collect(),
            columns,
            runtime,
            run: None,
        }))
    }

    fn stream(
        &self,
        adapter: &Adapter,
        parts: &[FilePart],
        batch_rows: u64,
        row_limit: Option<usize>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let cache = self
            .context
            .runtime_env()
            .cache_manager
            .get_file_metadata_cache();
        let factory = CachedParquetFileReaderFactory::new(Arc::clone(&self.store) as _, cache);
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
            .register_object_store(store_url.as_ref(), Arc::clone(&self.store) as _);
        let config = FileScanConfigBuilder::new(store_url, Arc::new(source))
            .with_file_group(FileGroup::new(partitioned_files(parts)?))
            .with_projection_indices(Some(adapter.read.clone()))?
            .with_batch_size(usize::try_from(batch_rows).ok())
            .with_limit(row_limit.filter(|_| adapter.gives_all()))
            .with_preserve_order(true)
            .build();
        DataSourceExec::from_data_source(config).execute(0, Arc::clone(&self.context))
    }
}

/// One entry per run of parts of the same file, with the row groups and rows that are wanted.
fn partitioned_files(parts: &[FilePart]) -> Result<Vec<PartitionedFile>, DataFusionError> {
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
        let location = file
            .location()
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
struct Paths(Vec<String>);

impl Paths {
    fn of(parts: &[FilePart]) -> Self {
        Self(parts.iter().map(|part| part.path.clone()).collect())
    }

    fn names(&self) -> String {
        let mut paths = self.0.clone();
        paths.dedup();
        paths.join(" or ")
    }

    fn failure(&self, error: &DataFusionError) -> TaskFailure {
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
        let mut errors = self
            .0
            .iter()
            .filter_map(|path| std::fs::File::open(path).err());
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
    reader: FileReader,
    columns: ScanColumns,
    batch_rows: u64,
    row_limit: Option<usize>,
    runs: VecDeque<Vec<FilePart>>,
    runtime: TokioRuntime,
    run: Option<Run>,
}

/// A run that is being read.
struct Run {
    stream: SendableRecordBatchStream,
    adapter: Adapter,
    paths: Paths,
}

impl BatchStream for FileStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            let Some(run) = &mut self.run else {
                let Some(parts) = self.runs.pop_front() else {
                    return Ok(None);
                };
                self.run = Some(self.begin(&parts)?);
                continue;
            };
            let Run {
                stream,
                adapter,
                paths,
            } = run;
            let runtime = &self.runtime;
            let read = || {
                let batch = runtime.block_on(stream.next());
                batch.transpose().map_err(|error| paths.failure(&error))
            };
            let Some(batch) = panics::caught(|text| paths.panicked(text), read)? else {
                self.run = None;
                continue;
            };
            return adapter.adapt(batch, || paths.names()).map(Some);
        }
    }
}

impl FileStream {
    fn begin(&self, parts: &[FilePart]) -> Result<Run, TaskFailure> {
        let paths = Paths::of(parts);
        let open = || {
            let adapter = self.columns.adapter(&parts[0]);
            let stream = adapter.and_then(|adapter| {
                let stream =
                    self.reader
                        .stream(&adapter, parts, self.batch_rows, self.row_limit)?;
                Ok((adapter, stream))
            });
            stream.map_err(|error| paths.failure(&error))
        };
        let (adapter, stream) = panics::caught(|text| paths.panicked(text), open)?;
        Ok(Run {
            stream,
            adapter,
            paths,
        })
    }
}
