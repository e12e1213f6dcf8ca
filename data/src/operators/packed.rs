//! Columns in another form while their rows are moved: lists of a fixed size as plain bytes, views of texts as texts.
//!
//! Arrow's `take`, by which sorts and joins move rows, makes a place for each number of such a list and looks each of them up: a vector of
//! 384 numbers is 384 look-ups, where its bytes could be copied at once. Bytes of a fixed size it does copy at once, and lists of numbers
//! are such bytes already: nothing is copied to make the one of the other.
//!
//! ```text
//!  FixedSizeList<f32, 384> ── packed ──► FixedSizeBinary<1536>                       if no number may be missing
//!                                   └──► Struct<FixedSizeBinary<1536>, holes: Binary> if some may; a row without holes has a null there
//! ```
//! Views are cheap to move, but hold on to all texts that any of them lies among: of rows that were sorted, each batch to those of all
//! batches before. What a sort counts, and plans to read back from its files, is then many times what there is, and more than it may have.
//! So texts are sorted as such. To make views of them again copies none.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, BooleanBufferBuilder, FixedSizeBinaryArray,
    FixedSizeListArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StructArray, make_array,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr::{LexOrdering, PhysicalExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::sorts::sort::SortExec;

use super::node::{each_batch, each_batch_in_order};
use crate::columns::lists::numbers_of;

const BYTES: &str = "bytes";
const HOLES: &str = "holes";

/// All rows of every partition in an order.
pub(super) fn sorted(order: &LexOrdering, rows: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let plain = rows.schema();
    let places = |is_looked_for: fn(&Arc<dyn PhysicalExpr>) -> bool| -> HashSet<usize> {
        let keys = order.iter().map(|key| &key.expr);
        let columns = keys
            .filter(|key| is_looked_for(key))
            .flat_map(collect_columns);
        columns.map(|column| column.index()).collect()
    };
    // As bytes, lists would come in another order. Texts come in the same, but who computes with them was told of views.
    let (keys, computed) = (places(|_| true), places(|key| !key.is::<Column>()));
    let rows = packed_as(rows, |place, field| match text_packing(field) {
        None => packing(field).filter(|_| !keys.contains(&place)),
        text => text.filter(|_| !computed.contains(&place)),
    });
    let sorted = SortExec::new(order.clone(), rows).with_preserve_partitioning(true);
    unpacked(Arc::new(sorted), &plain)
}

/// The same rows with their lists packed, but for columns that `stays` names by their places.
pub(super) fn packed(
    rows: Arc<dyn ExecutionPlan>,
    stays: impl Fn(usize) -> bool,
) -> Arc<dyn ExecutionPlan> {
    packed_as(rows, |place, field| {
        packing(field).filter(|_| !stays(place))
    })
}

/// The same rows with columns of other types, where `as_what` gives one.
fn packed_as(
    rows: Arc<dyn ExecutionPlan>,
    as_what: impl Fn(usize, &Field) -> Option<DataType>,
) -> Arc<dyn ExecutionPlan> {
    let plain = rows.schema();
    let fields = plain.fields().iter().enumerate();
    let types = fields.map(|(place, field)| as_what(place, field));
    let types: Vec<Option<DataType>> = types.collect();
    if types.iter().all(Option::is_none) {
        return rows;
    }
    let fields = plain.fields().iter().zip(types);
    let fields = fields.map(|(field, kind)| match kind {
        Some(kind) => with_type(field, kind),
        None => Arc::clone(field),
    });
    let schema = Arc::new(Schema::new_with_metadata(
        fields.collect::<Fields>(),
        plain.metadata().clone(),
    ));
    each_batch("Pack", rows, &schema, changed(&schema, pack))
}

/// The rows with lists and views where `plain` has them: it has the same columns.
pub(super) fn unpacked(rows: Arc<dyn ExecutionPlan>, plain: &SchemaRef) -> Arc<dyn ExecutionPlan> {
    let own = rows.schema();
    let pairs = own.fields().iter().zip(plain.fields());
    let fields = pairs.map(|(field, plain)| match plain.data_type() {
        kind @ (DataType::FixedSizeList(..) | DataType::Utf8View | DataType::BinaryView)
            if kind != field.data_type() =>
        {
            with_type(field, kind.clone())
        }
        _ => Arc::clone(field),
    });
    let fields = fields.collect::<Fields>();
    if fields == *own.fields() {
        return rows;
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, own.metadata().clone()));
    each_batch_in_order("Unpack", rows, &schema, changed(&schema, unpack))
}

/// These rows of the batch, in this order.
pub(crate) fn take_rows<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    rows: &PrimitiveArray<T>,
) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| match packing(field) {
        Some(kind) => unpack(&take(&pack(column, &kind)?, rows, None)?, field.data_type()),
        None => take(column, rows, None),
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// What a column of lists is packed as; `None`: it is moved as well as it is.
fn packing(field: &Field) -> Option<DataType> {
    let DataType::FixedSizeList(item, size) = field.data_type() else {
        return None;
    };
    let width = i32::try_from(item.data_type().primitive_width()?).ok()?;
    let bytes = size.checked_mul(width).filter(|bytes| *bytes > 0)?;
    let bytes = DataType::FixedSizeBinary(bytes);
    Some(match item.is_nullable() {
        false => bytes,
        true => DataType::Struct(Fields::from(vec![
            Field::new(BYTES, bytes, true),
            Field::new(HOLES, DataType::Binary, true),
        ])),
    })
}

/// What a column of views is sorted as.
fn text_packing(field: &Field) -> Option<DataType> {
    match field.data_type() {
        DataType::Utf8View => Some(DataType::LargeUtf8),
        DataType::BinaryView => Some(DataType::LargeBinary),
        _ => None,
    }
}

fn with_type(field: &FieldRef, kind: DataType) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(kind))
}

/// Changes the columns whose types are others in `schema`.
fn changed(
    schema: &SchemaRef,
    change: fn(&ArrayRef, &DataType) -> Result<ArrayRef, ArrowError>,
) -> impl Fn(RecordBatch) -> datafusion_common::Result<RecordBatch> + Send + Sync + 'static {
    let own = Arc::clone(schema);
    move |batch| {
        let columns = batch.columns().iter().zip(own.fields());
        let columns = columns.map(|(column, field)| match field.data_type() {
            kind if kind == column.data_type() => Ok(Arc::clone(column)),
            kind => change(column, kind),
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&own), columns)?)
    }
}

fn pack(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    if !matches!(column.data_type(), DataType::FixedSizeList(..)) {
        return cast(column, kind);
    }
    let lists = column.as_fixed_size_list();
    let (items, bytes) = numbers_of(lists);
    let width = items.data_type().primitive_width().unwrap_or(1);
    let size = lists.value_length() * i32::try_from(width).unwrap_or(1);
    let nulls = lists.nulls().cloned();
    let bytes = FixedSizeBinaryArray::try_new(size, bytes, nulls.clone())?;
    match kind {
        DataType::Struct(fields) => {
            let columns: Vec<ArrayRef> = vec![Arc::new(bytes), holes_of(lists, &items)];
            let packed = StructArray::try_new(fields.clone(), columns, nulls)?;
            Ok(Arc::new(packed))
        }
        _ => Ok(Arc::new(bytes)),
    }
}

/// Of each list that misses numbers, which it has.
fn holes_of(lists: &FixedSizeListArray, items: &ArrayRef) -> ArrayRef {
    let Some(has) = items.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return new_null_array(&DataType::Binary, lists.len());
    };
    let size = usize::try_from(lists.value_length()).unwrap_or(0);
    let of_row = |row: usize| {
        let has = has.slice(row * size, size);
        (has.null_count() > 0).then(|| has.inner().sliced().to_vec())
    };
    Arc::new(BinaryArray::from_iter((0..lists.len()).map(of_row)))
}

fn unpack(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let DataType::FixedSizeList(item, size) = kind else {
        return cast(column, kind);
    };
    let (bytes, holes) = match column.as_struct_opt() {
        Some(both) => (both.column(0), Some(both.column(1).as_binary::<i32>())),
        None => (column, None),
    };
    let bytes = bytes.as_fixed_size_binary();
    let length = column.len() * usize::try_from(*size).unwrap_or(0);
    let items = ArrayData::builder(item.data_type().clone())
        .len(length)
        .add_buffer(bytes.values().clone())
        .nulls(holes.and_then(|holes| items_that_are_there(holes, length)))
        // Where they lie at another place than such numbers may.
        .align_buffers(true)
        .build()?;
    let nulls = column.nulls().cloned();
    let lists = FixedSizeListArray::try_new(Arc::clone(item), *size, make_array(items), nulls)?;
    Ok(Arc::new(lists))
}

fn items_that_are_there(holes: &BinaryArray, length: usize) -> Option<NullBuffer> {
    if holes.null_count() == holes.len() {
        return None;
    }
    let size = length / holes.len();
    let mut has = BooleanBufferBuilder::new(length);
    for of_row in holes {
        match of_row {
            Some(bits) => has.append_packed_range(0..size, bits),
            None => has.append_n(size, true),
        }
    }
    Some(NullBuffer::new(has.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringViewArray, UInt32Array};
    use arrow::compute::take_record_batch;
    use arrow::datatypes::{Float32Type, Int32Type, Int64Type};

    use super::*;
    use crate::graph::{Fragment, RangeKey, Sort};
    use crate::operators::fragment::{Environment, open};
    use crate::operators::stream::{BatchStream, Batches};

    fn column(lists: impl Array + 'static) -> ArrayRef {
        Arc::new(lists)
    }

    /// Lists with missing numbers and missing lists, and such without.
    fn batch() -> RecordBatch {
        let number = |row: i32, place: i32| Some(row * 10 + place).filter(|n| n % 7 != 0);
        let with_holes = (0..30).map(|row| {
            (row % 5 != 0).then(|| (0..3).map(|place| number(row, place)).collect::<Vec<_>>())
        });
        let whole = (0..30u16).map(|row| {
            Some(
                (0..9)
                    .map(|place| Some(f32::from(row * 9 + place % 3)))
                    .collect::<Vec<_>>(),
            )
        });
        let strict = FixedSizeListArray::try_new(
            Arc::new(Field::new("item", DataType::Int32, false)),
            2,
            Arc::new(Int32Array::from_iter_values(0..60)),
            Some(
                (0..30)
                    .map(|row| row % 4 != 0)
                    .collect::<Vec<bool>>()
                    .into(),
            ),
        );
        RecordBatch::try_from_iter_with_nullable([
            (
                "holes",
                column(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                    with_holes, 3,
                )),
                true,
            ),
            (
                "whole",
                column(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(whole, 9)),
                true,
            ),
            (
                "strict",
                column(strict.expect("as long as each other")),
                true,
            ),
            (
                "id",
                column(arrow::array::Int64Array::from_iter_values(0..30)),
                true,
            ),
        ])
        .expect("as long as each other")
    }

    #[test]
    fn lists_that_were_packed_are_the_same_again() {
        for batch in [batch(), batch().slice(7, 11), batch().slice(3, 0)] {
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                let Some(kind) = packing(field) else {
                    assert_eq!(field.name(), "id");
                    continue;
                };
                let packed = pack(column, &kind).expect("packs");
                assert_eq!(packed.data_type(), &kind);
                let again = unpack(&packed, field.data_type()).expect("unpacks");
                assert_eq!(&again, column, "{}", field.name());
            }
        }
    }

    #[test]
    fn packing_copies_no_number() {
        let batch = batch().slice(2, 20);
        let lists = batch.column(1).as_fixed_size_list();
        let kind = packing(batch.schema().field(1)).expect("is a list");
        let packed = pack(batch.column(1), &kind).expect("packs");
        let bytes = packed.as_struct().column(0).as_fixed_size_binary();
        let numbers = lists.values().as_primitive::<Float32Type>().values();
        assert_eq!(bytes.values().as_ptr(), numbers.inner().as_ptr());
        let again = unpack(&packed, lists.data_type()).expect("unpacks");
        let again = again
            .as_fixed_size_list()
            .values()
            .as_primitive::<Float32Type>();
        assert_eq!(again.values().inner().as_ptr(), numbers.inner().as_ptr());
    }

    #[test]
    fn lists_that_were_sorted_are_those_of_their_rows() {
        let key = RangeKey {
            column: "id".to_owned(),
            is_descending: true,
            has_nulls_first: false,
        };
        let sort = Fragment::Sort(Sort {
            keys: vec![key],
            limit: None,
        });
        let batches = vec![batch().slice(0, 13), batch().slice(13, 17)];
        let rows = Box::new(Batches(batches.into_iter()));
        let mut sorted = open(&sort, vec![rows], Environment::of_memory(64 << 20));
        let rows = std::iter::from_fn(|| sorted.next().expect("sorts"));
        let rows: Vec<RecordBatch> = rows.collect();
        let sorted = arrow::compute::concat_batches(&rows[0].schema(), &rows).expect("are alike");
        let backwards = UInt32Array::from_iter_values((0..30).rev());
        assert_eq!(
            sorted,
            take_record_batch(&batch(), &backwards).expect("takes")
        );
    }

    #[test]
    fn views_that_were_sorted_hold_no_texts_of_other_batches() {
        let text = |row: u32| {
            format!(
                "{:06} is longer than what lies in a view",
                row * 7919 % 5000
            )
        };
        let batch = |number: u32| {
            let texts = (number * 100..(number + 1) * 100).map(text);
            let texts = column(StringViewArray::from_iter_values(texts));
            RecordBatch::try_from_iter([("key", Arc::clone(&texts)), ("text", texts)])
        };
        let batches: Result<Vec<RecordBatch>, _> = (0..50).map(batch).collect();
        let rows = Batches(batches.expect("as long as each other").into_iter());
        let key = RangeKey {
            column: "key".to_owned(),
            is_descending: false,
            has_nulls_first: false,
        };
        let sort = Fragment::Sort(Sort {
            keys: vec![key],
            limit: None,
        });
        let environment = Environment::of_memory(64 << 20);
        let mut sorted = open(&sort, vec![Box::new(rows)], environment);
        let mut seen = Vec::new();
        while let Some(batch) = sorted.next().expect("sorts") {
            let own = batch.num_rows() * 45;
            for column in batch.columns() {
                let texts = column.as_string_view();
                let held: usize = texts.data_buffers().iter().map(|texts| texts.len()).sum();
                assert!(held <= own, "{held} bytes where {own} are its own");
            }
            assert_eq!(batch.column(0), batch.column(1));
            let texts = batch.column(0).as_string_view().iter();
            seen.extend(texts.map(|text| text.expect("has one").to_owned()));
        }
        let mut wanted: Vec<String> = (0..5000).map(text).collect();
        wanted.sort();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn rows_that_are_taken_are_those_that_arrow_takes() {
        let batch = batch().slice(1, 28);
        let rows = UInt32Array::from(vec![Some(3), Some(27), None, Some(0), Some(3)]);
        let taken = take_rows(&batch, &rows).expect("takes");
        assert_eq!(taken, take_record_batch(&batch, &rows).expect("takes"));
        assert_eq!(taken.column(3).as_primitive::<Int64Type>().value(1), 28);
    }
}
