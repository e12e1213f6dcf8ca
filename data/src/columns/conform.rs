//! Batches as other columns, without loss.

use std::sync::Arc;

use aktis_inference::tensor_type::{TensorType, item};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, MapArray, RecordBatch,
    RecordBatchOptions, StructArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};

use super::Misfit;
use super::leaf;
use super::lists::{self, Runs};
use super::unify::join;

/// The rows of `batch` with the columns of `schema`. COL-1 (by-name), COL-2 (nothing-lost).
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Box<Misfit>> {
    let own = batch.schema();
    if own == *schema {
        return Ok(batch.clone());
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match own.index_of(field.name()) {
            Ok(index) => convert(field.name(), batch.column(index), own.field(index), field)?,
            Err(_) => new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| {
        // The types are right by construction, so it is a null that has no place.
        let mixed = schema.fields().iter().find(|field| {
            !field.is_nullable()
                && batch
                    .column_by_name(field.name())
                    .is_none_or(|column| column.null_count() > 0)
        });
        Box::new(Misfit {
            column: mixed.map_or_else(String::new, |field| field.name().clone()),
            wanted: "required".to_owned(),
            found: "null in some rows".to_owned(),
            detail: mixed.is_none().then(|| error.to_string()),
        })
    })
}

/// The column as the type of `to`.
pub(super) fn convert(
    path: &str,
    array: &ArrayRef,
    from: &Field,
    to: &Field,
) -> Result<ArrayRef, Box<Misfit>> {
    let tensors = (TensorType::of(from), TensorType::of(to));
    if let (Some(one), Some(other)) = &tensors
        && one.shape.is_some()
        && other.shape.is_none()
    {
        return vary(path, array, one, from, to);
    }
    if from.data_type() == to.data_type() {
        let is_same = match &tensors {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        return if is_same {
            Ok(Arc::clone(array))
        } else {
            Err(Misfit::of_types(path, to, from))
        };
    }
    let failed = |detail: String| {
        Box::new(Misfit {
            detail: Some(detail),
            ..*Misfit::of_types(path, to, from)
        })
    };
    match (from.data_type(), to.data_type()) {
        (DataType::Null, kind) => Ok(new_null_array(kind, array.len())),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            structs(path, array.as_struct(), fields).map(|array| Arc::new(array) as ArrayRef)
        }
        (DataType::Map(..), DataType::Map(entries, is_sorted)) => {
            map(path, array.as_map(), entries, *is_sorted)
        }
        (own, kind) => {
            let (Some(item_from), Some(item_to)) = (item(own), item(kind)) else {
                if own.is_nested() || kind.is_nested() {
                    return Err(Misfit::of_types(path, to, from));
                }
                return leaf::convert(array, kind).map_err(failed);
            };
            let runs = Runs::of(array).map_err(|error| failed(error.to_string()))?;
            let values = convert(&join(path, "[]"), &runs.values, item_from, item_to)?;
            lists::rebuild(&runs.with_values(values), item_to, kind).map_err(failed)
        }
    }
}

/// COL-1 (by-name).
fn structs(path: &str, array: &StructArray, fields: &Fields) -> Result<StructArray, Box<Misfit>> {
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let found = array
            .fields()
            .iter()
            .position(|own| own.name() == field.name());
        columns.push(match found {
            Some(index) => {
                let own = &array.fields()[index];
                convert(&join(path, field.name()), array.column(index), own, field)?
            }
            None => new_null_array(field.data_type(), array.len()),
        });
    }
    StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())
        .map_err(|error| broken(path, &error))
}

fn map(
    path: &str,
    array: &MapArray,
    entries: &Arc<Field>,
    is_sorted: bool,
) -> Result<ArrayRef, Box<Misfit>> {
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(broken(path, &"a map without entries"));
    };
    let own = array.entries();
    let mut columns = Vec::with_capacity(pair.len());
    // A key and a value, whatever their names are.
    for (index, (name, field)) in ["key", "value"].iter().zip(pair).enumerate() {
        let from = &own.fields()[index];
        columns.push(convert(&join(path, name), own.column(index), from, field)?);
    }
    let rebuilt = StructArray::try_new(pair.clone(), columns, own.nulls().cloned())
        .map_err(|error| broken(path, &error))?;
    let offsets = array.offsets().clone();
    let map = MapArray::try_new(
        Arc::clone(entries),
        offsets,
        rebuilt,
        array.nulls().cloned(),
        is_sorted,
    );
    map.map(|map| Arc::new(map) as ArrayRef)
        .map_err(|error| broken(path, &error))
}

/// Tensors of one shape as tensors whose shapes may differ.
fn vary(
    path: &str,
    array: &ArrayRef,
    tensor: &TensorType,
    from: &Field,
    to: &Field,
) -> Result<ArrayRef, Box<Misfit>> {
    let DataType::Struct(fields) = to.data_type() else {
        return Err(Misfit::of_types(path, to, from));
    };
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        columns.push(if field.name() == "data" {
            let values = Field::new("data", from.data_type().clone(), true);
            convert(path, array, &values, field)?
        } else {
            shapes(tensor, array.len(), field).ok_or_else(|| Misfit::of_types(path, to, from))?
        });
    }
    StructArray::try_new(fields.clone(), columns, array.nulls().cloned())
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| broken(path, &error))
}

/// The same shape for all rows.
fn shapes(tensor: &TensorType, rows: usize, field: &Field) -> Option<ArrayRef> {
    let DataType::FixedSizeList(axis, rank) = field.data_type() else {
        return None;
    };
    let shape = tensor.shape.as_ref()?;
    let axes = Int32Array::from_iter_values((0..rows).flat_map(|_| shape.iter().copied()));
    FixedSizeListArray::try_new(Arc::clone(axis), *rank, Arc::new(axes), None)
        .ok()
        .map(|array| Arc::new(array) as ArrayRef)
}

fn broken(path: &str, error: &dyn std::fmt::Display) -> Box<Misfit> {
    Box::new(Misfit {
        column: path.to_owned(),
        wanted: "required".to_owned(),
        found: "null in some rows".to_owned(),
        detail: Some(error.to_string()),
    })
}
