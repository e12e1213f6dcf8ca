//! Files of rows that functions failed for.

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::part::{Part, PartPath};
use super::writing::properties;
use crate::ledger::{FileFormat, LettersPlace};
use crate::wire::spec::WrittenFile;

/// A folder for nothing else.
pub(crate) struct LettersFormat;

impl FileFormat for LettersFormat {
    fn operation(&self) -> &str {
        "dead_letters="
    }

    fn empty_files(&self, _schema: &SchemaRef) -> Result<Vec<WrittenFile>, TaskFailure> {
        Ok(Vec::new())
    }

    fn make_alike(&self, _files: &mut [WrittenFile]) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn makes_alike(&self) -> bool {
        false
    }
}

/// Writes a file of the batches of each of `files`, which have the same columns.
pub(crate) fn write_letters(
    place: &LettersPlace,
    files: &[Vec<RecordBatch>],
) -> Result<Vec<WrittenFile>, TaskFailure> {
    let properties = properties(None)?;
    let mut written = Vec::with_capacity(files.len());
    for (number, batches) in files.iter().enumerate() {
        let Some(first) = batches.first() else {
            continue;
        };
        let name = format!("{}_{number:06}.parquet", place.prefix);
        let path = PartPath::of_letters(place, &name);
        let mut part = Part::create(path, &first.schema(), &properties)?;
        batches.iter().try_for_each(|batch| part.write(batch))?;
        written.push(part.finish()?);
    }
    Ok(written)
}
