//! Row groups that are more than a worker should hold are read page by page.
//!
//! The engine asks for all columns of a row group before it decodes the first row, which is right where files are far. Of a local file that has
//! row groups of 128 MiB each worker holds so much then, where compression leaves that, and beside it a page that is being decoded.
//! Here there is one page of each column, and the dictionary that its values come from.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_datasource_parquet::{
    ParquetAccessPlan, ParquetFileMetrics, RowGroupAccessPlanFilter, build_row_filter,
};
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_pruning::PruningPredicateBuilder;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::adapt::Adapter;
use super::read::{Files, selection_of};
use super::spec::FilePart;
use super::turns::{self, NextReader, ReadColumns};
use crate::storage::{DataFile, Store, read_again};

/// The rows of `parts` of local files, which have the same columns, one row group after the other.
pub(super) fn stream(
    files: &Files,
    adapter: &Adapter,
    parts: &[FilePart],
    batch_rows: u64,
    row_limit: Option<usize>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let is_one =
        |one: &FilePart, next: &FilePart| one.path == next.path && one.row_group == next.row_group;
    let columns = ReadColumns::new(adapter)?;
    let groups = RowGroups {
        files: files.clone(),
        waiting: parts.chunk_by(is_one).map(<[FilePart]>::to_vec).collect(),
        options: adapter.options(),
        columns: columns.clone(),
        predicate: adapter.pushed.clone(),
        batch_rows: usize::try_from(batch_rows).unwrap_or(usize::MAX),
    };
    Ok(turns::stream(groups, columns, row_limit))
}

/// Row groups that are read one after the other.
struct RowGroups {
    files: Files,
    /// Of each its parts that are wanted.
    waiting: VecDeque<Vec<FilePart>>,
    options: ArrowReaderOptions,
    columns: ReadColumns,
    /// Rows for which it is not true may be left out.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    batch_rows: usize,
}

impl NextReader for RowGroups {
    fn next_reader(
        &mut self,
        most_rows: Option<usize>,
    ) -> BoxFuture<'_, Result<Option<ParquetRecordBatchReader>, DataFusionError>> {
        async move {
            while let Some(parts) = self.waiting.pop_front() {
                if let Some(reader) = self.begin(&parts, most_rows).await? {
                    return Ok(Some(reader));
                }
            }
            Ok(None)
        }
        .boxed()
    }
}

impl RowGroups {
    /// The reader of a row group; `None`: its statistics tell that no row of it is wanted.
    async fn begin(
        &self,
        parts: &[FilePart],
        most_rows: Option<usize>,
    ) -> Result<Option<ParquetRecordBatchReader>, DataFusionError> {
        let first = &parts[0];
        let file = DataFile {
            path: first.path.clone(),
            size_bytes: first.size_bytes,
            version: 0,
        };
        let footer = self.files.footer(&file).await?;
        let metadata = ArrowReaderMetadata::try_new(footer, self.options.clone())?;
        let mask = self.columns.mask(&metadata);
        let filter = match &self.predicate {
            Some(predicate) => {
                let metrics = ExecutionPlanMetricsSet::new();
                let metrics = ParquetFileMetrics::new(0, &first.path, &metrics);
                if has_none(predicate, &metadata, first.row_group, &metrics) {
                    return Ok(None);
                }
                build_row_filter(
                    predicate,
                    metadata.schema(),
                    metadata.metadata(),
                    false,
                    &metrics,
                )?
            }
            None => None,
        };
        let pages = Pages::open(file, &self.files.store)?;
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, metadata)
            .with_row_groups(vec![first.row_group as usize])
            .with_projection(mask)
            .with_batch_size(self.batch_rows);
        if let Some(selection) = selection_of(parts) {
            reader = reader.with_row_selection(selection);
        }
        if let Some(filter) = filter {
            reader = reader.with_row_filter(filter);
        }
        if let Some(rows) = most_rows {
            reader = reader.with_limit(rows);
        }
        Ok(Some(reader.build()?))
    }
}

/// Whether statistics tell that the predicate is true for no row of a row group.
fn has_none(
    predicate: &Arc<dyn PhysicalExpr>,
    metadata: &ArrowReaderMetadata,
    row_group: u32,
    metrics: &ParquetFileMetrics,
) -> bool {
    let schema = metadata.schema();
    let pruning = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let pruning = pruning.try_build(Arc::clone(predicate));
    let groups = metadata.metadata().row_groups();
    // Not every predicate can be asked of statistics.
    let (Ok(pruning), Some(group)) = (pruning, groups.get(row_group as usize)) else {
        return false;
    };
    let mut kept = RowGroupAccessPlanFilter::new(ParquetAccessPlan::new_all(1));
    let described = metadata.metadata().file_metadata().schema_descr();
    let groups = std::slice::from_ref(group);
    kept.prune_by_statistics(schema, described, groups, &pruning, metrics);
    kept.is_empty()
}

/// Ranges of a local file, read when they are wanted.
struct Pages {
    file: Arc<File>,
    described: DataFile,
    store: Store,
}

impl Pages {
    fn open(described: DataFile, store: &Store) -> Result<Self, ParquetError> {
        let file = read_again(|| File::open(&described.path))?;
        Ok(Self {
            file: Arc::new(file),
            described,
            store: store.clone(),
        })
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.described.size_bytes
    }
}

impl ChunkReader for Pages {
    type T = BufReader<ReadFrom>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(ReadFrom {
            file: Arc::clone(&self.file),
            at: start,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        read_again(|| self.file.read_exact_at(&mut bytes, start))?;
        self.store.has_read(length as u64);
        Ok(bytes.into())
    }
}

/// A file from a place on, whoever else reads it. Heads of pages come this way.
struct ReadFrom {
    file: Arc<File>,
    at: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = read_again(|| self.file.read_at(bytes, self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
    use arrow::compute::concat_batches;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use crate::executor::pool::InProcessPool;
    use crate::executor::{Execution, ExecutionOptions};
    use crate::plan::Dataset;
    use crate::sinks::Sink;

    use super::*;

    const ROWS: i64 = 4000;

    /// Rows of about 4 KiB in two row groups, half of which are the same few values.
    fn written(path: &std::path::Path) -> RecordBatch {
        let value = |row: i64| {
            let number = if row < ROWS / 2 { row % 5 } else { row };
            (row % 7 != 0).then(|| number.to_le_bytes().repeat(512))
        };
        let data: ArrayRef = Arc::new(BinaryArray::from_iter((0..ROWS).map(value)));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("data", data, true)]);
        let batch = batch.expect("fits");
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(usize::try_from(ROWS / 2).expect("is small")))
            .build();
        let file = File::create(path).expect("creates");
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("begins");
        writer.write(&batch).expect("writes");
        writer.close().expect("ends");
        batch
    }

    fn read(dataset: &Dataset, budget_bytes: u64) -> RecordBatch {
        let options = ExecutionOptions {
            budget_bytes: Some(budget_bytes),
            ..ExecutionOptions::default()
        };
        let pool = Box::new(InProcessPool::of_cpus(2));
        let execution = Execution::start(dataset, &Sink::Consumer, pool, &options).expect("starts");
        let batches = execution.collect().expect("ends");
        let schema = batches.first().expect("has rows").schema();
        concat_batches(&schema, &batches).expect("have one schema")
    }

    #[test]
    fn rows_are_the_same_however_little_room_there_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.parquet");
        let all = written(&path);
        let dataset = Dataset::read_parquet(&[path.display().to_string()]).expect("reads");
        let turned = dataset.select(&["data".to_owned(), "id".to_owned()]);
        let turned = turned.expect("has them");
        let chosen = dataset
            .filter("id % 10 = 3 AND id > 1000")
            .expect("filters");
        let (first, limited) = (all.slice(0, 10), dataset.limit(10).expect("limits"));
        for budget_bytes in [1 << 30, 1 << 20] {
            assert_eq!(read(&dataset, budget_bytes), all);
            let turned = read(&turned, budget_bytes);
            assert_eq!(turned, all.project(&[1, 0]).expect("has them"));
            assert_eq!(read(&limited, budget_bytes), first);
            let rows = read(&chosen, budget_bytes);
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((1003..ROWS).step_by(10)));
            assert_eq!(rows.column(0), &ids);
        }
    }
}
