//! A text column of any of Arrow's three string layouts, read in place.

use arrow::array::{Array, ArrayRef, LargeStringArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};

use crate::error::EmbedError;

/// A column of texts. Cloning shares the buffers.
#[derive(Debug, Clone)]
pub struct TextColumn(Layout);

#[derive(Debug, Clone)]
enum Layout {
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
}

impl TextColumn {
    /// Takes `array` as texts; `column` is its name in error messages.
    pub fn from_array(column: &str, array: &dyn Array) -> Result<Self, EmbedError> {
        let any = array.as_any();
        let layout = if let Some(texts) = any.downcast_ref::<StringArray>() {
            Layout::Utf8(texts.clone())
        } else if let Some(texts) = any.downcast_ref::<LargeStringArray>() {
            Layout::LargeUtf8(texts.clone())
        } else if let Some(texts) = any.downcast_ref::<StringViewArray>() {
            Layout::Utf8View(texts.clone())
        } else {
            return Err(EmbedError::ColumnType {
                column: column.to_owned(),
                found: array.data_type().clone(),
            });
        };
        Ok(Self(layout))
    }

    /// The column `column` of `batch`.
    pub fn from_batch(batch: &RecordBatch, column: &str) -> Result<Self, EmbedError> {
        find_field(batch.schema_ref(), column)?;
        let array: &ArrayRef = batch.column_by_name(column).expect("its field was found");
        Self::from_array(column, array.as_ref())
    }

    /// Number of rows, nulls included.
    pub fn len(&self) -> usize {
        match &self.0 {
            Layout::Utf8(texts) => texts.len(),
            Layout::LargeUtf8(texts) => texts.len(),
            Layout::Utf8View(texts) => texts.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a row; `None` where it is null.
    pub fn text(&self, row: usize) -> Option<&str> {
        match &self.0 {
            Layout::Utf8(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Layout::LargeUtf8(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Layout::Utf8View(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }

    /// Which rows are not null; `None` if all are.
    pub fn validity(&self) -> Option<arrow::buffer::NullBuffer> {
        match &self.0 {
            Layout::Utf8(texts) => texts.nulls().cloned(),
            Layout::LargeUtf8(texts) => texts.nulls().cloned(),
            Layout::Utf8View(texts) => texts.nulls().cloned(),
        }
    }
}

/// The field of a text column, or the error that names what is wrong with it.
pub fn find_text_field<'schema>(
    schema: &'schema Schema,
    column: &str,
) -> Result<&'schema Field, EmbedError> {
    let field = find_field(schema, column)?;
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(field),
        found => Err(EmbedError::ColumnType {
            column: column.to_owned(),
            found: found.clone(),
        }),
    }
}

fn find_field<'schema>(
    schema: &'schema Schema,
    column: &str,
) -> Result<&'schema Field, EmbedError> {
    schema
        .fields()
        .iter()
        .find(|field| field.name() == column)
        .map(AsRef::as_ref)
        .ok_or_else(|| EmbedError::ColumnMissing {
            column: column.to_owned(),
            available: schema
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect(),
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn all_three_string_layouts_read_alike() {
        let texts = vec![Some("a"), None, Some("longer than twelve bytes")];
        let layouts: [ArrayRef; 3] = [
            Arc::new(StringArray::from(texts.clone())),
            Arc::new(LargeStringArray::from(texts.clone())),
            Arc::new(StringViewArray::from(texts.clone())),
        ];
        for array in layouts {
            let column = TextColumn::from_array("text", &array).unwrap();
            let read: Vec<Option<&str>> = (0..column.len()).map(|row| column.text(row)).collect();
            assert_eq!(read, texts, "{:?}", array.data_type());
            assert_eq!(column.validity().unwrap().null_count(), 1);
        }
    }

    #[test]
    fn sliced_column_starts_at_its_own_first_row() {
        let texts = StringArray::from(vec!["a", "b", "c"]).slice(1, 2);
        let column = TextColumn::from_array("text", &texts).unwrap();
        assert_eq!((column.text(0), column.len()), (Some("b"), 2));
    }

    #[test]
    fn column_of_numbers_is_refused_with_its_name_and_type() {
        let error = TextColumn::from_array("age", &Int64Array::from(vec![1]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`age`") && error.contains("Int64") && error.contains("cast it"),
            "{error}"
        );
    }
}
