//! The Arrow form of embeddings: a fixed-size list of `f32` per row.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::error::EmbedError;
use crate::text_column::find_text_field;

/// The type of an embedding column.
pub fn embedding_type(dim: usize) -> DataType {
    DataType::FixedSizeList(element_field(), list_size(dim))
}

fn element_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

fn list_size(dim: usize) -> i32 {
    i32::try_from(dim).expect("embeddings have far fewer than 2^31 numbers")
}

/// `values` as rows of `dim` numbers; rows that `validity` leaves out are null.
pub(crate) fn embedding_array(
    values: Vec<f32>,
    dim: usize,
    validity: Option<NullBuffer>,
) -> Result<FixedSizeListArray, EmbedError> {
    let values: ArrayRef = Arc::new(Float32Array::from(values));
    FixedSizeListArray::try_new(element_field(), list_size(dim), values, validity).map_err(
        |source| EmbedError::Assemble {
            source: Arc::new(source),
        },
    )
}

/// `input` with the embedding column added at the end; checks that there are text columns and a free name.
pub(crate) fn schema_with_embeddings<'columns>(
    input: &Schema,
    text_columns: impl Iterator<Item = &'columns str>,
    output_column: &str,
    dim: usize,
) -> Result<SchemaRef, EmbedError> {
    let mut is_nullable = false;
    for column in text_columns {
        is_nullable |= find_text_field(input, column)?.is_nullable();
    }
    if input
        .fields()
        .iter()
        .any(|field| field.name() == output_column)
    {
        return Err(EmbedError::ColumnTaken {
            column: output_column.to_owned(),
        });
    }
    let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(
        output_column,
        embedding_type(dim),
        is_nullable,
    )));
    Ok(Arc::new(Schema::new_with_metadata(
        fields,
        input.metadata().clone(),
    )))
}

/// `batch` with the embedding column added at the end.
pub(crate) fn with_embeddings(
    batch: &RecordBatch,
    schema: SchemaRef,
    embeddings: FixedSizeListArray,
) -> Result<RecordBatch, EmbedError> {
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(embeddings));
    RecordBatch::try_new(schema, columns).map_err(|source| EmbedError::Assemble {
        source: Arc::new(source),
    })
}
