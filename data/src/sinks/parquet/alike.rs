//! One schema for all files of a job.
//!
//! A worker only knows the rows that it got itself: one may have written whole numbers where another has floats, or nulls
//! where another has text. Before the files get their names, those that differ are written anew, with the columns that all
//! of them fit into. So whatever was written can be read, by anybody.

use std::collections::HashSet;
use std::fs::{self, File};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use super::part::ROW_GROUP_BYTES;
use crate::block;
use crate::columns::{Misfit, conform, unify};
use crate::os_error;
use crate::wire::spec::WrittenFile;

/// Makes all files have the columns that all of them fit into. Blocks.
pub(super) fn make_alike(
    files: &mut [WrittenFile],
    properties: &WriterProperties,
) -> Result<(), TaskFailure> {
    // The order of the rows, not of the workers.
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let Some(schema) = unified(files)? else {
        return Ok(());
    };
    let encoded = encode(&schema)?;
    let others: Vec<&mut WrittenFile> = files
        .iter_mut()
        .filter(|file| file.schema != encoded)
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let others: Vec<Mutex<&mut WrittenFile>> = others.into_iter().map(Mutex::new).collect();
    let work = || -> Result<(), TaskFailure> {
        while let Some(file) = others.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut file = file.lock();
            file.bytes = write_anew(&file, &schema, properties)?;
            file.schema = encoded.clone();
        }
        Ok(())
    };
    let outcomes: Vec<Result<(), TaskFailure>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads.min(others.len()))
            .map(|_| {
                let thread = std::thread::Builder::new().name("aktis-alike".to_owned());
                thread.spawn_scoped(scope, work)
            })
            .collect();
        let panicked = |_| Err(internal(&"a thread that writes files anew panicked"));
        started
            .into_iter()
            .map(|thread| match thread {
                Ok(thread) => thread.join().unwrap_or_else(panicked),
                Err(error) => Err(internal(&error)),
            })
            .collect()
    });
    outcomes.into_iter().collect()
}

/// The columns of all files; `None`: they have the same.
fn unified(files: &[WrittenFile]) -> Result<Option<SchemaRef>, TaskFailure> {
    if files
        .windows(2)
        .all(|pair| pair[0].schema == pair[1].schema)
    {
        return Ok(None);
    }
    let mut known: HashSet<&[u8]> = HashSet::new();
    let mut kinds: Vec<(&WrittenFile, SchemaRef)> = Vec::new();
    for file in files {
        if known.insert(&file.schema) {
            let schema =
                block::decode_schema(file.schema.clone()).map_err(|error| internal(&error))?;
            kinds.push((file, schema));
        }
    }
    let Some(((_, first), rest)) = kinds.split_first() else {
        return Ok(None);
    };
    let mut schema = Arc::clone(first);
    for (index, (file, other)) in rest.iter().enumerate() {
        schema = unify(&schema, other).map_err(|misfit| {
            let before = &kinds[..=index];
            let direct = before
                .iter()
                .find_map(|(known, kind)| Some((*known, unify(kind, other).err()?)));
            let (known, direct) = match &direct {
                Some((known, direct)) => (*known, direct),
                None => (kinds[0].0, &misfit),
            };
            refused(direct, known, file)
        })?;
    }
    Ok((!rest.is_empty()).then_some(schema))
}

/// The file with other columns, in its own place. Returns its new length.
fn write_anew(
    file: &WrittenFile,
    schema: &SchemaRef,
    properties: &WriterProperties,
) -> Result<u64, TaskFailure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let what = format!("write_parquet(): write {} anew", file.path);
        os_error::failure(&what, error, ErrorCode::InvalidArgument)
    };
    let anew = format!("{}.anew", file.unfinished);
    let source = File::open(&file.unfinished).map_err(|error| failed(&error))?;
    let rows = ParquetRecordBatchReaderBuilder::try_new(source)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| failed(&error))?;
    let target = File::create(&anew).map_err(|error| failed(&error))?;
    let mut writer = ArrowWriter::try_new(target, Arc::clone(schema), Some(properties.clone()))
        .map_err(|error| failed(&error))?;
    for batch in rows {
        let batch = batch.map_err(|error| failed(&error))?;
        let batch = conform(&batch, schema).map_err(|misfit| lost(&misfit, file))?;
        writer.write(&batch).map_err(|error| failed(&error))?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(|error| failed(&error))?;
        }
    }
    writer.finish().map_err(|error| failed(&error))?;
    let written = writer.inner();
    let bytes = written.metadata().map_err(|error| failed(&error))?.len();
    fs::rename(&anew, &file.unfinished).map_err(|error| failed(&error))?;
    Ok(bytes)
}

fn refused(misfit: &Misfit, one: &WrittenFile, other: &WrittenFile) -> TaskFailure {
    let place = |file: &WrittenFile| format!("in {}", file.path);
    advised(&misfit.between(&place(one), &place(other)))
}

fn lost(misfit: &Misfit, file: &WrittenFile) -> TaskFailure {
    advised(&misfit.between("in other files", &format!("in {}", file.path)))
}

fn advised(between: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::InvalidArgument,
        format!(
            "write_parquet(): {between}; return the same columns with the same types from every call"
        ),
    )
}

fn encode(schema: &SchemaRef) -> Result<Bytes, TaskFailure> {
    block::encode_schema(schema).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, format!("write_parquet(): {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, NullArray, RecordBatch, StringArray};
    use arrow::datatypes::DataType;

    use super::*;
    use crate::sinks::parquet::writing::properties;

    fn part(folder: &Path, number: usize, column: ArrayRef) -> WrittenFile {
        let batch =
            RecordBatch::try_from_iter_with_nullable([("x", column, true)]).expect("one column");
        let unfinished = folder.join(format!("unfinished-{number}"));
        let file = File::create(&unfinished).expect("creates");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("begins");
        writer.write(&batch).expect("writes");
        writer.close().expect("ends");
        WrittenFile {
            path: folder
                .join(format!("{number}.parquet"))
                .display()
                .to_string(),
            rows: batch.num_rows() as u64,
            bytes: 0,
            unfinished: unfinished.display().to_string(),
            schema: encode(&batch.schema()).expect("encodes"),
            sequence: number as u64,
            output: 0,
        }
    }

    fn kinds(files: &[WrittenFile]) -> Vec<DataType> {
        let kind = |file: &WrittenFile| {
            let file = File::open(&file.unfinished).expect("is there");
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("is Parquet");
            reader.schema().field(0).data_type().clone()
        };
        files.iter().map(kind).collect()
    }

    #[test]
    fn parts_of_other_types_are_written_anew_with_the_type_of_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let columns: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(NullArray::new(2)),
            Arc::new(Float64Array::from(vec![0.5])),
        ];
        let parts = columns.into_iter().enumerate();
        let mut files: Vec<WrittenFile> = parts
            .map(|(number, column)| part(folder.path(), number, column))
            .collect();
        make_alike(&mut files, &properties(None).expect("are right")).expect("goes together");
        assert_eq!(kinds(&files), vec![DataType::Float64; 3]);
        assert!(files.iter().all(|file| file.schema == files[0].schema));
    }

    #[test]
    fn parts_with_nothing_in_common_and_values_without_a_place_name_column_and_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let number: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
        for other in [
            Arc::new(StringArray::from(vec!["t"])) as ArrayRef,
            Arc::new(Float64Array::from(vec![0.5])),
        ] {
            let mut files = vec![
                part(folder.path(), 0, Arc::clone(&number)),
                part(folder.path(), 1, other),
            ];
            let properties = properties(None).expect("are right");
            let failure = make_alike(&mut files, &properties).expect_err("does not go together");
            assert!(failure.message.contains("'x'"), "{failure}");
            assert!(failure.message.contains("0.parquet"), "{failure}");
        }
    }
}
