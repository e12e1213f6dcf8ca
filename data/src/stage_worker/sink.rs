//! Where rows end.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::part::{Part, PartPath};
use crate::stages::spec::{InputSpec, ParquetSink, SinkKind, SinkSpec, WrittenFile};

/// Batches of unknown type that wait at most.
const MAX_UNTYPED_BATCHES: usize = 64;

/// Takes the rows of one input.
pub(crate) trait Sink: Send {
    /// Takes a batch.
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure>;

    /// Makes what was written whole; the driver gives it its name when the job is over.
    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure>;
}

/// Opens the sink for one input.
pub(crate) fn open(spec: &SinkSpec, input: &InputSpec) -> Result<Box<dyn Sink>, TaskFailure> {
    match &spec.kind {
        Some(SinkKind::Count(_)) => Ok(Box::new(Count)),
        Some(SinkKind::Parquet(sink)) => Ok(Box::new(ParquetFile::new(sink, input)?)),
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

/// Parquet files of one input: one, or as many as its rows need.
struct ParquetFile {
    spec: ParquetSink,
    sequence: u64,
    attempt: u64,
    properties: WriterProperties,
    /// The columns of its files, once they are known.
    schema: Option<SchemaRef>,
    part: Option<Part>,
    finished: Vec<WrittenFile>,
    /// Batches with columns of nulls only, which wait for the type that a later batch may tell.
    untyped: Vec<RecordBatch>,
}

/// A file without rows, so that what was written can be read again with its columns.
pub(crate) fn empty_file(
    sink: &ParquetSink,
    schema: &SchemaRef,
) -> Result<WrittenFile, TaskFailure> {
    let properties = ParquetFile::new(sink, &InputSpec::default())?.properties;
    Part::create(PartPath::new(sink, 0, 0, 0), schema, &properties)?.finish()
}

impl ParquetFile {
    fn new(sink: &ParquetSink, input: &InputSpec) -> Result<Self, TaskFailure> {
        let properties = WriterProperties::builder()
            .set_compression(compression(&sink.compression)?)
            .set_max_row_group_row_count(
                usize::try_from(sink.row_group_rows)
                    .ok()
                    .filter(|&rows| rows > 0),
            )
            .set_created_by(format!("aktis {}", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            spec: sink.clone(),
            sequence: input.sequence,
            attempt: input.attempt,
            properties,
            schema: None,
            part: None,
            finished: Vec::new(),
            untyped: Vec::new(),
        })
    }

    /// The batch with the columns of the file: functions may return, say, only nulls in one batch.
    fn conform(&self, batch: RecordBatch) -> Result<RecordBatch, TaskFailure> {
        let Some(schema) = self
            .schema
            .as_ref()
            .filter(|schema| batch.schema() != **schema)
        else {
            return Ok(batch);
        };
        let columns: Result<Vec<ArrayRef>, String> = schema
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
            RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
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
        if self.schema.is_none() {
            if is_untyped(&batch.schema()) && self.untyped.len() < MAX_UNTYPED_BATCHES {
                self.untyped.push(batch);
                return Ok(());
            }
            let first = self
                .untyped
                .first()
                .map_or_else(|| batch.schema(), RecordBatch::schema);
            self.schema = Some(with_types_of(&first, &batch.schema()));
            self.write_untyped()?;
        }
        self.append(batch)
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        if let (None, Some(first)) = (&self.schema, self.untyped.first()) {
            self.schema = Some(first.schema());
            self.write_untyped()?;
        }
        self.finish_part()?;
        Ok(std::mem::take(&mut self.finished))
    }
}

impl ParquetFile {
    fn write_untyped(&mut self) -> Result<(), TaskFailure> {
        std::mem::take(&mut self.untyped)
            .into_iter()
            .try_for_each(|batch| self.append(batch))
    }

    /// Writes rows, into as many files as they need.
    fn append(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let batch = self.conform(batch)?;
        let mut first = 0;
        while first < batch.num_rows() {
            let part = match &mut self.part {
                Some(part) => part,
                None => {
                    let number = self.finished.len() as u64;
                    let path = PartPath::new(&self.spec, self.sequence, self.attempt, number);
                    let schema = self.schema.get_or_insert_with(|| batch.schema());
                    let part = Part::create(path, schema, &self.properties)?;
                    self.part.insert(part)
                }
            };
            let room = rows_left(self.spec.max_rows_per_file, part.rows());
            let rows = room.min(batch.num_rows() - first);
            part.write(&batch.slice(first, rows))?;
            first += rows;
            if rows == room {
                self.finish_part()?;
            }
        }
        Ok(())
    }

    fn finish_part(&mut self) -> Result<(), TaskFailure> {
        if let Some(part) = self.part.take() {
            self.finished.push(part.finish()?);
        }
        Ok(())
    }
}

/// Rows that a file may still take; at least one, because a full file is finished at once.
fn rows_left(most: u64, rows: u64) -> usize {
    let left = if most == 0 { u64::MAX } else { most - rows };
    usize::try_from(left).unwrap_or(usize::MAX)
}
