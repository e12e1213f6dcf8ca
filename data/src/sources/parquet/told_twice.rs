//! Columns that some files have and paths tell: `year=2024/part.parquet` with a column `year` in it.
//!
//! As in Ray, what a file has counts, whatever its path tells. Files that lack the column have what their path tells.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;

/// What the path of a file tells of columns that other files have.
pub(super) struct ToldTwice(Vec<PathValue>);

struct PathValue {
    /// Its place among the columns that are read.
    place: usize,
    name: String,
    value: Option<String>,
}

impl ToldTwice {
    /// `told`: all that the path tells. `names`: the columns that some file has. `own`: those of this file. `read`: those that are read.
    pub(super) fn new(
        told: &[(String, Option<String>)],
        names: &[String],
        own: &SchemaRef,
        read: &[FieldRef],
    ) -> Self {
        let is_lacking = |name: &str| own.field_with_name(name).is_err();
        let told = told
            .iter()
            .filter(|(name, _)| names.contains(name) && is_lacking(name));
        let told = told.filter_map(|(name, value)| {
            Some(PathValue {
                place: read.iter().position(|field| field.name() == name)?,
                name: name.clone(),
                value: value.clone(),
            })
        });
        Self(told.collect())
    }

    /// The rows, with what only the path tells.
    pub(super) fn filled(
        &self,
        mut batch: RecordBatch,
        paths: &impl Fn() -> String,
    ) -> Result<RecordBatch, TaskFailure> {
        for told in &self.0 {
            let column = batch.column(told.place);
            let filled = told.repeated(column.data_type(), column.len());
            let filled = filled.map_err(|why| told.refused(paths, &why))?;
            let mut columns = batch.columns().to_vec();
            columns[told.place] = filled;
            batch = RecordBatch::try_new(batch.schema(), columns)
                .map_err(|error| told.refused(paths, &error.to_string()))?;
        }
        Ok(batch)
    }
}

impl PathValue {
    /// The value as a column of one row; `None`: it is none of this type.
    fn one(&self, kind: &DataType) -> Result<Option<ArrayRef>, ArrowError> {
        let Some(value) = &self.value else {
            return Ok(Some(new_null_array(kind, 1)));
        };
        let one = cast(&StringArray::from(vec![value.as_str()]), kind)?;
        Ok(one.is_valid(0).then_some(one))
    }

    fn repeated(&self, kind: &DataType, rows: usize) -> Result<ArrayRef, String> {
        let said = self.said();
        let one = self.one(kind).map_err(|error| error.to_string())?;
        let one = one.ok_or_else(|| {
            format!("{said}, which is no {kind}, as the column is in other files")
        })?;
        let rows = UInt32Array::from_value(0, rows);
        take(&one, &rows, None).map_err(|error| error.to_string())
    }

    fn said(&self) -> String {
        let value = self.value.as_deref().unwrap_or("null");
        format!("its path says {value}")
    }

    fn refused(&self, paths: &impl Fn() -> String, why: &str) -> TaskFailure {
        let (name, paths) = (&self.name, paths());
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!(
                "read {paths}: of the column '{name}' {why}; read_parquet(..., partitioning=None) takes what files have"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;

    fn filled(
        path_says: Option<&str>,
        has: &ArrayRef,
        is_in_file: bool,
    ) -> Result<ArrayRef, String> {
        let field: FieldRef = Arc::new(Field::new("k", has.data_type().clone(), true));
        let own = match is_in_file {
            true => Schema::new(vec![Arc::clone(&field)]),
            false => Schema::empty(),
        };
        let told = [("k".to_owned(), path_says.map(str::to_owned))];
        let twice = ToldTwice::new(&told, &["k".to_owned()], &Arc::new(own), &[field]);
        let batch = RecordBatch::try_from_iter_with_nullable([("k", Arc::clone(has), true)]);
        let batch = batch.expect("one column");
        let filled = twice.filled(batch, &|| "/in/k=1/a.parquet".to_owned());
        filled
            .map(|batch| Arc::clone(batch.column(0)))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn what_a_file_has_counts_whatever_its_path_tells() {
        let has: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(8), None]));
        for path_says in [Some("7"), Some("x"), None] {
            assert_eq!(filled(path_says, &has, true).as_ref(), Ok(&has));
        }
    }

    #[test]
    fn file_without_the_column_has_what_its_path_tells() {
        let none: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
        let found = filled(Some("7"), &none, false).expect("is a number");
        assert_eq!(found.as_primitive::<Int64Type>().values(), &[7, 7]);
        assert_eq!(filled(None, &none, false).as_ref(), Ok(&none));
        let refused = filled(Some("x"), &none, false).expect_err("is none");
        assert!(
            refused.contains("path says x, which is no Int64"),
            "{refused}"
        );
    }
}
