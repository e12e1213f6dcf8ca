//! Columns that a file has and its path tells: `year=2024/part.parquet` with a column `year` in it.
//!
//! As in Ray, both must say the same: which of two values is meant nobody can tell. Files that lack the column have what their path tells.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch, Scalar, StringArray, UInt32Array, new_null_array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

/// What the path of a file tells of columns that files have.
pub(super) struct ToldTwice(Vec<PathValue>);

struct PathValue {
    /// Its place among the columns that are read.
    place: usize,
    name: String,
    value: Option<String>,
    /// Whether this file has it.
    is_in_file: bool,
}

impl ToldTwice {
    /// `told`: all that the path tells. `names`: the columns that some file has. `own`: those of this file. `read`: those that are read.
    pub(super) fn new(
        told: &[(String, Option<String>)],
        names: &[String],
        own: &SchemaRef,
        read: &[FieldRef],
    ) -> Self {
        let told = told.iter().filter(|(name, _)| names.contains(name));
        let told = told.filter_map(|(name, value)| {
            Some(PathValue {
                place: read.iter().position(|field| field.name() == name)?,
                name: name.clone(),
                value: value.clone(),
                is_in_file: own.field_with_name(name).is_ok(),
            })
        });
        Self(told.collect())
    }

    /// The rows, if what the file says is what its path tells; and what only the path tells.
    pub(super) fn agreed(
        &self,
        mut batch: RecordBatch,
        paths: &impl Fn() -> String,
    ) -> Result<RecordBatch, TaskFailure> {
        for told in &self.0 {
            let column = batch.column(told.place);
            if told.is_in_file {
                told.check(column, paths)?;
                continue;
            }
            let filled = told.filled(column.data_type(), column.len());
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

    fn filled(&self, kind: &DataType, rows: usize) -> Result<ArrayRef, String> {
        let said = self.said();
        let one = self.one(kind).map_err(|error| error.to_string())?;
        let one = one.ok_or_else(|| {
            format!("{said}, which is no {kind}, as the column is in other files")
        })?;
        let rows = UInt32Array::from_value(0, rows);
        take(&one, &rows, None).map_err(|error| error.to_string())
    }

    fn check(&self, column: &ArrayRef, paths: &impl Fn() -> String) -> Result<(), TaskFailure> {
        let kind = column.data_type();
        let compared = self.one(kind).and_then(|one| {
            one.map(|one| distinct(column, &Scalar::new(one)))
                .transpose()
        });
        let differs = match compared {
            Ok(Some(differs)) => differs.values().set_indices().next(),
            // It is no value of this type, so that none is the same.
            Ok(None) => (!column.is_empty()).then_some(0),
            Err(error) => return Err(self.refused(paths, &error.to_string())),
        };
        let Some(row) = differs else {
            return Ok(());
        };
        let value = match column.is_null(row) {
            true => "null".to_owned(),
            false => {
                array_value_to_string(column, row).unwrap_or_else(|_| "another value".to_owned())
            }
        };
        let why = format!("{} and the file has rows with {value}", self.said());
        Err(self.refused(paths, &why))
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

    use arrow::array::{AsArray, Date32Array, Int64Array};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;

    fn agreed(
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
        let agreed = twice.agreed(batch, &|| "/in/k=1/a.parquet".to_owned());
        agreed
            .map(|batch| Arc::clone(batch.column(0)))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn values_of_a_file_are_those_of_its_path_or_it_is_refused_with_both() {
        let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let same = numbers(vec![Some(7), Some(7)]);
        for path_says in ["7", "007"] {
            assert_eq!(agreed(Some(path_says), &same, true).as_ref(), Ok(&same));
        }
        let day: ArrayRef = Arc::new(Date32Array::from(vec![19_723]));
        assert!(agreed(Some("2024-01-01"), &day, true).is_ok());
        let none = numbers(vec![None]);
        assert!(agreed(None, &none, true).is_ok());
        for (path_says, has, value) in [
            (Some("7"), numbers(vec![Some(7), Some(8)]), "rows with 8"),
            (Some("7"), numbers(vec![Some(7), None]), "rows with null"),
            (Some("x"), same.clone(), "rows with 7"),
            (None, same.clone(), "path says null"),
        ] {
            let refused = agreed(path_says, &has, true).expect_err("differs");
            assert!(refused.contains(value), "{refused}");
            assert!(
                refused.contains("k=1/a.parquet: of the column 'k'"),
                "{refused}"
            );
        }
        assert!(agreed(Some("x"), &numbers(vec![]), true).is_ok());
    }

    #[test]
    fn file_without_the_column_has_what_its_path_tells() {
        let none: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
        let filled = agreed(Some("7"), &none, false).expect("is a number");
        assert_eq!(filled.as_primitive::<Int64Type>().values(), &[7, 7]);
        let refused = agreed(Some("x"), &none, false).expect_err("is none");
        assert!(
            refused.contains("path says x, which is no Int64"),
            "{refused}"
        );
    }
}
