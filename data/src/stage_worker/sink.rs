//! Where rows end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::stages::spec::{InputSpec, ParquetSink, SinkKind, SinkSpec, WrittenFile};

/// Encoded bytes after which a row group is written out, so that memory stays bounded.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Batches of unknown type that wait at most.
const MAX_UNTYPED_BATCHES: usize = 64;

/// Takes the rows of one input.
pub(crate) trait Sink: Send {
    /// Takes a batch.
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure>;

    /// Makes what was written final.
    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure>;
}

/// Opens the sink for one input.
pub(crate) fn open(spec: &SinkSpec, input: &InputSpec) -> Result<Box<dyn Sink>, TaskFailure> {
    match &spec.kind {
        Some(SinkKind::Count(_)) => Ok(Box::new(Count)),
        Some(SinkKind::Parquet(sink)) => Ok(Box::new(ParquetFile::new(sink, input.sequence)?)),
        None => Err(TaskFailure::new(ErrorCode::Internal, "a sink has no kind")),
    }
}

struct Count;

impl Sink for Count {
    fn write(&mut self, _batch: RecordBatch) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        Ok(Vec::new())
    }
}

/// The name of the file of one input, and what unfinished files of a run begin with.
pub(crate) fn file_name(prefix: &str, sequence: u64) -> String {
    format!("{prefix}_{sequence:06}_000000.parquet")
}

/// What the names of unfinished files of a run begin with: hidden, so that nobody reads them.
pub(crate) fn unfinished_prefix(prefix: &str) -> String {
    format!(".unfinished-{prefix}")
}

/// One Parquet file per input; appears under its name when it is complete.
struct ParquetFile {
    properties: WriterProperties,
    unfinished: PathBuf,
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
    schema: SchemaRef,
    rows: u64,
    /// Batches with columns of nulls only, which wait for the type that a later batch may tell.
    untyped: Vec<RecordBatch>,
}

impl ParquetFile {
    fn new(sink: &ParquetSink, sequence: u64) -> Result<Self, TaskFailure> {
        let name = file_name(&sink.prefix, sequence);
        let unfinished = format!(
            "{}_{sequence:06}.{}",
            unfinished_prefix(&sink.prefix),
            std::process::id()
        );
        let properties = WriterProperties::builder()
            .set_compression(compression(&sink.compression)?)
            .set_max_row_group_row_count(
                usize::try_from(sink.row_group_rows)
                    .ok()
                    .filter(|&rows| rows > 0),
            )
            .set_created_by(format!("aktis {}", env!("CARGO_PKG_VERSION")))
            .build();
        let folder = Path::new(&sink.folder);
        Ok(Self {
            properties,
            unfinished: folder.join(unfinished),
            path: folder.join(name),
            writer: None,
            schema: Arc::new(Schema::empty()),
            rows: 0,
            untyped: Vec::new(),
        })
    }

    fn open(&mut self, schema: SchemaRef) -> Result<(), TaskFailure> {
        let file = File::create(&self.unfinished).map_err(|error| self.failure(&error))?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(self.properties.clone()))
            .map_err(|error| self.failure(&error))?;
        self.schema = schema;
        self.writer = Some(writer);
        Ok(())
    }

    fn failure(&self, error: &dyn std::error::Error) -> TaskFailure {
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!("write_parquet(): write {}: {error}", self.path.display()),
        )
    }

    /// The batch with the columns of the file: functions may return, say, only nulls in one batch.
    fn conform(&self, batch: RecordBatch) -> Result<RecordBatch, TaskFailure> {
        if self.writer.is_none() || batch.schema() == self.schema {
            return Ok(batch);
        }
        let columns: Result<Vec<ArrayRef>, String> = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                let column = batch
                    .column_by_name(field.name())
                    .ok_or_else(|| format!("the column '{}' is missing", field.name()))?;
                convert(column, field.data_type()).ok_or_else(|| {
                    format!(
                        "the column '{}' is {} here and {} before",
                        field.name(),
                        column.data_type(),
                        field.data_type()
                    )
                })
            })
            .collect();
        let columns = columns.and_then(|columns| {
            if batch.num_columns() > columns.len() {
                return Err("there are more columns than before".to_owned());
            }
            RecordBatch::try_new(Arc::clone(&self.schema), columns)
                .map_err(|error| error.to_string())
        });
        columns.map_err(|detail| {
            TaskFailure::new(
                ErrorCode::Application,
                format!(
                    "write_parquet(): the batches that the function returned do not fit together: {detail}; return the \
                     same columns with the same types from every call"
                ),
            )
        })
    }
}

/// The same values as another type, if that loses nothing: nulls of no type, or numbers that fit.
fn convert(column: &ArrayRef, kind: &DataType) -> Option<ArrayRef> {
    let from = column.data_type();
    let is_text = |kind: &DataType| {
        matches!(
            kind,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    let may = from == kind
        || *from == DataType::Null
        || (from.is_numeric() && kind.is_numeric())
        || (is_text(from) && is_text(kind))
        || (from.is_nested() && kind.is_nested());
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let converted = may
        .then(|| cast_with_options(column, kind, &options).ok())
        .flatten()?;
    // A float that became an integer has lost its fraction.
    let is_narrowed = from.is_floating() && kind.is_integer();
    (!is_narrowed).then_some(converted)
}

/// Whether some column has only nulls, and therefore no type yet.
fn is_untyped(schema: &Schema) -> bool {
    schema
        .fields()
        .iter()
        .any(|field| *field.data_type() == DataType::Null)
}

/// `schema`, where columns without a type take the type that `other` has for them.
fn with_types_of(schema: &Schema, other: &Schema) -> SchemaRef {
    let typed = |field: &FieldRef| {
        let found = other.field_with_name(field.name()).ok();
        let found = found.filter(|_| *field.data_type() == DataType::Null);
        found.map_or_else(|| Arc::clone(field), |found| Arc::new(found.clone()))
    };
    Arc::new(Schema::new(
        schema.fields().iter().map(typed).collect::<Vec<_>>(),
    ))
}

fn compression(name: &str) -> Result<Compression, TaskFailure> {
    Ok(match name {
        "" | "snappy" => Compression::SNAPPY,
        "none" => Compression::UNCOMPRESSED,
        "zstd" => Compression::ZSTD(ZstdLevel::default()),
        "gzip" => Compression::GZIP(GzipLevel::default()),
        "lz4" => Compression::LZ4_RAW,
        other => {
            return Err(TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!(
                    "write_parquet(compression={other:?}): it must be snappy, zstd, gzip, lz4 or none"
                ),
            ));
        }
    })
}

impl Sink for ParquetFile {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.writer.is_none() {
            if is_untyped(&batch.schema()) && self.untyped.len() < MAX_UNTYPED_BATCHES {
                self.untyped.push(batch);
                return Ok(());
            }
            let first = self
                .untyped
                .first()
                .map_or_else(|| batch.schema(), RecordBatch::schema);
            self.open(with_types_of(&first, &batch.schema()))?;
            self.write_untyped()?;
        }
        self.append(batch)
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        if let (None, Some(first)) = (&self.writer, self.untyped.first()) {
            self.open(first.schema())?;
            self.write_untyped()?;
        }
        let Some(writer) = self.writer.take() else {
            return Ok(Vec::new());
        };
        let mut file = writer.into_inner().map_err(|error| self.failure(&error))?;
        file.flush().map_err(|error| self.failure(&error))?;
        let bytes = file.metadata().map_err(|error| self.failure(&error))?.len();
        drop(file);
        fs::rename(&self.unfinished, &self.path).map_err(|error| self.failure(&error))?;
        let path = self.path.display().to_string();
        Ok(vec![WrittenFile {
            path,
            rows: self.rows,
            bytes,
        }])
    }
}

impl ParquetFile {
    fn write_untyped(&mut self) -> Result<(), TaskFailure> {
        std::mem::take(&mut self.untyped)
            .into_iter()
            .try_for_each(|batch| self.append(batch))
    }

    /// Writes to the open file.
    fn append(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let batch = self.conform(batch)?;
        let writer = self.writer.as_mut().expect("only called with an open file");
        let mut result = writer.write(&batch);
        if result.is_ok() && writer.in_progress_size() >= ROW_GROUP_BYTES {
            result = writer.flush();
        }
        self.rows += batch.num_rows() as u64;
        result.map_err(|error| self.failure(&error))
    }
}

impl Drop for ParquetFile {
    /// STG-1 (nothing-half-done).
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // It may never have been made; the driver sweeps the folder as well.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}
