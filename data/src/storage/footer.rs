//! Parquet footers: schema and row groups of files, without their data.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
    RowGroupMetaData,
};
use parquet::schema::types::SchemaDescPtr;

use super::Store;
use super::again::read_again;
use super::in_order::in_order;
use super::locate::DataFile;
use crate::error::PlanError;
use crate::os_error;
use crate::panics::text_of;

/// How many footers of files that are far are read at once.
const CONCURRENT_FOOTERS: usize = 32;
/// How much of a file's end is read first: most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;
/// Values that are told by a dictionary are much longer than that where they have so many times its bytes.
const MUCH_SHORTER: u64 = 4;

/// One row group of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowGroupInfo {
    /// Rows.
    pub rows: u64,
    /// Bytes of its columns before compression, about.
    pub bytes: u64,
    /// The first byte of its columns in the file.
    pub start: u64,
    /// One after the last; 0: the footer does not say it.
    pub end: u64,
}

/// What a file's footer says.
#[derive(Debug, Clone)]
pub struct FileFooter {
    /// The file.
    pub file: DataFile,
    /// Its columns, without metadata.
    pub schema: SchemaRef,
    /// Its row groups in order.
    pub row_groups: Vec<RowGroupInfo>,
}

impl FileFooter {
    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.row_groups.iter().map(|group| group.rows).sum()
    }
}

/// Reads the footers of local files, in the same order.
pub(crate) fn read_footers_here(paths: &[String]) -> Result<Vec<FileFooter>, PlanError> {
    in_order(
        paths,
        || None,
        |last, path| {
            let read = read_again(|| read_here(path));
            let (file, metadata) = read.map_err(|error| invalid(path, &error))?;
            footer_of(file, metadata, last)
        },
    )
}

/// The file, and its footer.
fn read_here(path: &str) -> Result<(DataFile, ParquetMetaData), ParquetError> {
    let file = File::open(path)?;
    let described = DataFile::here(path, &file.metadata()?);
    let footer = reader().load_and_finish(FetchHere(file), described.size_bytes);
    // Nothing in it ever waits.
    Ok((described, futures::executor::block_on(footer)?))
}

/// The footer of a local file, without statistics.
pub(crate) fn footer_here(path: &str) -> Result<ParquetMetaData, ParquetError> {
    read_here(path).map(|(_, footer)| footer)
}

/// Reads the footers of files in a store, in the same order. Blocks.
pub(crate) fn read_footers(
    store: &Store,
    files: &[DataFile],
) -> Result<Vec<FileFooter>, PlanError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| PlanError::storage("footers", &error))?;
    let mut read = futures::stream::iter(files)
        .map(async |file| Ok((file.clone(), read_there(store, file).await?)))
        .buffered(CONCURRENT_FOOTERS);
    runtime.block_on(async {
        let (mut footers, mut last) = (Vec::with_capacity(files.len()), None);
        while let Some((file, metadata)) = read.try_next().await? {
            footers.push(footer_of(file, metadata, &mut last)?);
        }
        Ok(footers)
    })
}

async fn read_there(store: &Store, file: &DataFile) -> Result<ParquetMetaData, PlanError> {
    let fetch = FetchFrom {
        store: store.objects(),
        location: store.location(file)?,
    };
    let read = reader().load_and_finish(fetch, file.size_bytes).await;
    read.map_err(|error| match store.take_refused() {
        Some(refused) => PlanError::Refused(refused),
        None => invalid(&file.path, &error),
    })
}

fn invalid(path: &str, error: &ParquetError) -> PlanError {
    match os_error::number(error) {
        Some(_) => PlanError::storage(path, error),
        None => PlanError::InvalidParquet {
            path: path.to_owned(),
            detail: error.to_string(),
        },
    }
}

/// Reads no statistics of values: plans are made without them, and workers read them with the rows.
fn reader() -> ParquetMetaDataReader {
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    ParquetMetaDataReader::new()
        .with_metadata_options(Some(options))
        .with_prefetch_hint(Some(FOOTER_HINT_BYTES))
}

fn footer_of(
    file: DataFile,
    metadata: ParquetMetaData,
    last: &mut Option<KnownColumns>,
) -> Result<FileFooter, PlanError> {
    let row_groups = row_groups(&metadata);
    let schema = match last.as_ref().and_then(|last| last.of(&metadata)) {
        Some(schema) => schema,
        None => {
            let known = KnownColumns::read(&Arc::new(metadata), &file.path)?;
            Arc::clone(&last.insert(known).schema)
        }
    };
    Ok(FileFooter {
        file,
        schema,
        row_groups,
    })
}

/// The row groups that a footer tells of, in order.
pub(crate) fn row_groups(metadata: &ParquetMetaData) -> Vec<RowGroupInfo> {
    let group = |group: &RowGroupMetaData| {
        let place = place_of(group).unwrap_or(0..0);
        RowGroupInfo {
            rows: u64::try_from(group.num_rows()).unwrap_or(0),
            bytes: bytes_of(group),
            start: place.start,
            end: place.end,
        }
    };
    metadata.row_groups().iter().map(group).collect()
}

/// Bytes of a row group before compression, or of its values, where a dictionary has made these much shorter.
fn bytes_of(group: &RowGroupMetaData) -> u64 {
    let bytes = |told: i64| u64::try_from(told).unwrap_or(0);
    let encoded = bytes(group.total_byte_size());
    let columns = group.columns().iter().map(|column| {
        let values = column.unencoded_byte_array_data_bytes();
        bytes(values.unwrap_or(0).max(column.uncompressed_size()))
    });
    let values: u64 = columns.sum();
    if values > MUCH_SHORTER * encoded {
        values
    } else {
        encoded
    }
}

/// Where the columns of a row group lie in the file.
fn place_of(group: &RowGroupMetaData) -> Option<Range<u64>> {
    let mut place: Option<Range<u64>> = None;
    for column in group.columns() {
        let first = column.data_page_offset();
        let first = column
            .dictionary_page_offset()
            .map_or(first, |dictionary| dictionary.min(first));
        let start = u64::try_from(first).ok()?;
        let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
        place = Some(place.map_or(start..end, |place| {
            place.start.min(start)..place.end.max(end)
        }));
    }
    place
}

/// The columns of a file, and what in its footer says them: those of the next one are mostly the same.
pub(crate) struct KnownColumns {
    described: SchemaDescPtr,
    arrow: Option<String>,
    /// The columns, without metadata.
    pub(crate) schema: SchemaRef,
}

impl KnownColumns {
    /// Reads the columns. The reader of the Arrow schema that writers embed panics at types that it has never heard of.
    pub(crate) fn read(metadata: &Arc<ParquetMetaData>, path: &str) -> Result<Self, PlanError> {
        let unknown = |detail: String| PlanError::UnknownTypes {
            path: path.to_owned(),
            detail,
        };
        let described = metadata.file_metadata().schema_descr_ptr();
        let arrow = arrow_schema(metadata).map(str::to_owned);
        let read = || ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new());
        let read = catch_unwind(AssertUnwindSafe(read));
        let read = read
            .map_err(|panic| unknown(text_of(panic.as_ref()).to_owned()))?
            .map_err(|error| unknown(error.to_string()))?;
        Ok(Self {
            described,
            arrow,
            schema: Arc::new(Schema::new(read.schema().fields().clone())),
        })
    }

    /// The columns of another file, if its footer says the same.
    pub(crate) fn of(&self, metadata: &ParquetMetaData) -> Option<SchemaRef> {
        let is_same = metadata.file_metadata().schema_descr_ptr() == self.described
            && arrow_schema(metadata) == self.arrow.as_deref();
        is_same.then(|| Arc::clone(&self.schema))
    }
}

/// The Arrow schema that the file's writer has embedded.
fn arrow_schema(metadata: &ParquetMetaData) -> Option<&str> {
    let said = metadata.file_metadata().key_value_metadata()?.iter().rev();
    let mut said = said.filter(|said| said.key == ARROW_SCHEMA_META_KEY);
    said.find_map(|said| said.value.as_deref())
}

/// Ranges of a local file.
struct FetchHere(File);

impl MetadataFetch for FetchHere {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = self.0.read_exact_at(&mut bytes, range.start);
        futures::future::ready(read.map(|()| bytes.into()).map_err(ParquetError::from)).boxed()
    }
}

/// Ranges of a file in a store.
struct FetchFrom {
    store: Arc<dyn ObjectStore>,
    location: Path,
}

impl MetadataFetch for FetchFrom {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.store
            .get_range(&self.location, range)
            .map_err(|error| ParquetError::External(Box::new(error)))
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BinaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray,
    };
    use arrow::datatypes::DataType;
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn rows_are_as_long_as_their_values_also_where_these_lie_in_a_dictionary() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes_of = |kinds: u8| {
            let value = |row: u16| vec![row.to_le_bytes()[0] % kinds; 10_000];
            let data: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..1000).map(value)));
            let batch = RecordBatch::try_from_iter([("data", data)]).expect("is one column");
            let path = folder.path().join(format!("{kinds}.parquet"));
            let file = std::fs::File::create(&path).expect("creates");
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("begins");
            writer.write(&batch).expect("writes");
            writer.close().expect("ends");
            let footers = read_footers_here(&[path.display().to_string()]).expect("reads");
            footers[0].row_groups[0].bytes
        };
        assert!((10_000_000..11_000_000).contains(&bytes_of(3)));
        assert!((1_000_000..11_000_000).contains(&bytes_of(200)));
    }

    #[test]
    fn columns_are_those_of_each_file_also_where_only_the_embedded_schema_tells() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kinds: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(LargeStringArray::from(vec!["a", "b"])),
            Arc::new(Int64Array::from(vec![1, 2])),
        ];
        let kind_of = |number: usize| &kinds[(number / 10) % kinds.len()];
        let mut paths = Vec::new();
        for number in 0..200 {
            let batch = RecordBatch::try_from_iter([("x", Arc::clone(kind_of(number)))]);
            let batch = batch.expect("of one length");
            let path = folder.path().join(format!("{number:03}.parquet"));
            let file = std::fs::File::create(&path).expect("creates");
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("begins");
            writer.write(&batch).expect("writes");
            writer.close().expect("ends");
            paths.push(path.display().to_string());
        }
        let footers = read_footers_here(&paths).expect("reads");
        for (number, footer) in footers.iter().enumerate() {
            let kind: &DataType = kind_of(number).data_type();
            assert_eq!(footer.schema.field(0).data_type(), kind, "file {number}");
            assert_eq!((&footer.file.path, footer.rows()), (&paths[number], 2));
        }
        std::fs::write(&paths[150], b"PAR1 it is not").expect("writes");
        std::fs::remove_file(&paths[190]).expect("removes");
        let error = read_footers_here(&paths).expect_err("one of them is damaged");
        assert!(
            matches!(&error, PlanError::InvalidParquet { path, .. } if *path == paths[150]),
            "{error}"
        );
    }
}
