//! Columns that belong together, and values that have a place or have none.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::*;

fn field(kind: DataType) -> Field {
    Field::new("x", kind, true)
}

fn list(kind: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", kind, true)))
}

fn schema(kind: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![field(kind)]))
}

fn column(array: impl Array + 'static) -> RecordBatch {
    let array: ArrayRef = Arc::new(array);
    RecordBatch::try_new(schema(array.data_type().clone()), vec![array]).expect("one column")
}

/// Both ways round, because COL-3 (order-does-not-matter).
fn common(one: &DataType, other: &DataType) -> Option<DataType> {
    let of = |one: &DataType, other: &DataType| {
        let unified = unify(&schema(one.clone()), &schema(other.clone()));
        unified
            .ok()
            .map(|schema| schema.field(0).data_type().clone())
    };
    let unified = of(one, other);
    assert_eq!(unified, of(other, one), "{one} and {other}");
    unified
}

#[test]
fn types_that_differ_meet_where_both_have_room() {
    use DataType::{
        Binary, Date32, Decimal128, Dictionary, FixedSizeBinary, Float32, Float64, Int8, Int32,
        Int64, LargeUtf8, Null, Timestamp, UInt8, UInt64, Utf8,
    };
    let micros = Timestamp(TimeUnit::Microsecond, None);
    let nanos = Timestamp(TimeUnit::Nanosecond, None);
    let words = Dictionary(Box::new(Int32), Box::new(Utf8));
    for (one, other, wanted) in [
        (Null, Utf8, Some(Utf8)),
        (Int32, Int64, Some(Int64)),
        (UInt8, Int8, Some(DataType::Int16)),
        (UInt64, Int8, Some(Int64)),
        (Int64, Float64, Some(Float64)),
        (Int64, Float32, Some(Float64)),
        (Utf8, LargeUtf8, Some(LargeUtf8)),
        (words.clone(), Utf8, Some(Utf8)),
        (
            words,
            Null,
            Some(Dictionary(Box::new(Int32), Box::new(Utf8))),
        ),
        (list(Null), list(Float64), Some(list(Float64))),
        (list(Int32), list(Int64), Some(list(Int64))),
        (FixedSizeBinary(2), FixedSizeBinary(3), Some(Binary)),
        (Decimal128(5, 1), Decimal128(6, 3), Some(Decimal128(7, 3))),
        (Decimal128(5, 1), Int64, Some(Decimal128(21, 1))),
        (micros.clone(), nanos.clone(), Some(nanos)),
        (
            micros.clone(),
            Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            None,
        ),
        (micros, Date32, None),
        (Int64, Utf8, None),
        (Float64, Decimal128(5, 1), None),
        (DataType::Boolean, Int8, None),
        (list(Int64), Int64, None),
    ] {
        assert_eq!(common(&one, &other), wanted, "{one} and {other}");
    }
}

/// COL-1 (by-name).
#[test]
fn fields_of_structs_belong_together_by_name() {
    let number = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
    let pair = |one: &str, first: i64, other: &str, second: i64| {
        StructArray::from(vec![
            (
                number(one),
                Arc::new(Int64Array::from(vec![first])) as ArrayRef,
            ),
            (
                number(other),
                Arc::new(Int64Array::from(vec![second])) as ArrayRef,
            ),
        ])
    };
    let first = column(pair("price", 1, "amount", 20));
    let second = column(pair("amount", 21, "tax", 3));
    let both = unify(&first.schema(), &second.schema()).expect("one struct");
    let values = |batch: &RecordBatch| -> Vec<Option<i64>> {
        let batch = conform(batch, &both).expect("fits");
        let columns = batch.column(0).as_struct().columns().to_vec();
        let value = |array: &ArrayRef| {
            array
                .is_valid(0)
                .then(|| array.as_primitive::<Int64Type>().value(0))
        };
        columns.iter().map(value).collect()
    };
    assert_eq!(values(&first), [Some(1), Some(20), None]);
    assert_eq!(values(&second), [None, Some(21), Some(3)]);
}

/// COL-2 (nothing-lost).
#[test]
fn value_without_an_exact_place_is_an_error_that_names_the_column() {
    let decimal = Decimal128Array::from(vec![1234])
        .with_precision_and_scale(10, 3)
        .expect("fits");
    for (batch, kind) in [
        (
            column(Int64Array::from(vec![(1 << 53) + 1])),
            DataType::Float64,
        ),
        (column(Int64Array::from(vec![300])), DataType::Int8),
        (column(UInt64Array::from(vec![u64::MAX])), DataType::Int64),
        (column(Float64Array::from(vec![1e300])), DataType::Float32),
        (column(Float64Array::from(vec![0.5])), DataType::Int64),
        (column(decimal), DataType::Decimal128(10, 1)),
        (column(StringArray::from(vec!["1"])), DataType::Int64),
    ] {
        let misfit = conform(&batch, &schema(kind.clone())).expect_err("loses something");
        assert_eq!(misfit.column, "x", "{misfit}");
        assert!(misfit.to_string().contains(&kind.to_string()), "{misfit}");
    }
}

#[test]
fn values_with_an_exact_place_are_kept() {
    let whole = Float64Array::from(vec![Some(2.0), None, Some(f64::NAN), Some(-3.0)]);
    let batch = conform(&column(whole), &schema(DataType::Int64)).expect("whole numbers");
    let wanted = Int64Array::from(vec![Some(2), None, None, Some(-3)]);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>(), &wanted);
    let empty: Vec<Option<Vec<Option<i64>>>> = vec![Some(vec![]), None, Some(vec![Some(7)])];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(empty);
    // A part of a larger column, whose other items are not its business.
    let sliced = column(lists.slice(1, 2));
    let floats = conform(&sliced, &schema(list(DataType::Float64))).expect("fits");
    assert_eq!(floats.column(0).len(), 2);
    assert!(floats.column(0).is_null(0));
}

#[test]
fn tensors_of_other_shapes_meet_as_tensors_whose_shapes_may_differ() {
    let of = |shape: &[i32]| {
        let tensor = TensorType {
            values: DataType::UInt8,
            rank: shape.len(),
            shape: Some(shape.to_vec()),
            is_permuted: false,
        };
        Arc::new(Schema::new(vec![tensor.to_field("image", true)]))
    };
    let both = unify(&of(&[2, 3]), &of(&[4, 3])).expect("of one rank");
    let rows = new_null_array(of(&[2, 3]).field(0).data_type(), 2);
    let batch = RecordBatch::try_new(of(&[2, 3]), vec![rows]).expect("one column");
    let varied = conform(&batch, &both).expect("fits");
    let shapes = varied.column(0).as_struct().column(1).as_fixed_size_list();
    assert_eq!(
        shapes
            .value(1)
            .as_primitive::<arrow::datatypes::Int32Type>()
            .values(),
        &[2, 3]
    );
    let misfit = unify(&of(&[2, 3]), &of(&[2, 3, 1])).expect_err("of other ranks");
    assert!(
        misfit.to_string().contains("Tensor(UInt8 of shape [2, 3])"),
        "{misfit}"
    );
}

#[test]
fn types_that_were_handed_out_stay_and_nulls_get_a_type() {
    let settled = |one: DataType, other: DataType| {
        let settled = settle(&schema(one), &schema(other));
        settled.map(|schema| schema.field(0).data_type().clone())
    };
    assert_eq!(
        settled(DataType::Int64, DataType::Float64),
        Ok(DataType::Int64)
    );
    assert_eq!(settled(DataType::Null, DataType::Utf8), Ok(DataType::Utf8));
    assert_eq!(
        settled(list(DataType::Null), list(DataType::Float64)),
        Ok(list(DataType::Float64))
    );
    settled(DataType::Int64, DataType::Utf8).expect_err("nothing in common");
}

fn any_leaf() -> impl Strategy<Value = DataType> {
    prop::sample::select(vec![
        DataType::Null,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::FixedSizeBinary(2),
        DataType::FixedSizeBinary(3),
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Second, Some("UTC".into())),
        DataType::Decimal128(5, 2),
        DataType::Decimal128(30, 0),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    ])
}

fn any_type() -> impl Strategy<Value = DataType> {
    any_leaf().prop_recursive(2, 8, 3, |inner| {
        let fields = prop::collection::btree_map("[abc]", inner.clone(), 0..3);
        prop_oneof![
            inner.clone().prop_map(list),
            inner.prop_map(|kind| {
                let item = Arc::new(Field::new("item", kind, true));
                DataType::FixedSizeList(item, 2)
            }),
            fields.prop_map(|fields| {
                let fields = fields.into_iter();
                DataType::Struct(
                    fields
                        .map(|(name, kind)| Field::new(name, kind, true))
                        .collect(),
                )
            }),
        ]
    })
}

/// The type with the fields of structs in the order of their names.
fn sorted(kind: &DataType) -> DataType {
    let item = |field: &Arc<Field>| {
        Arc::new(
            field
                .as_ref()
                .clone()
                .with_data_type(sorted(field.data_type())),
        )
    };
    match kind {
        DataType::Struct(fields) => {
            let mut fields: Vec<_> = fields.iter().map(item).collect();
            fields.sort_by(|one, other| one.name().cmp(other.name()));
            DataType::Struct(fields.into())
        }
        DataType::List(field) => DataType::List(item(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field), *size),
        other => other.clone(),
    }
}

proptest! {
    /// COL-3 (order-does-not-matter).
    #[test]
    fn parts_may_come_in_any_order(one in any_type(), two in any_type(), three in any_type()) {
        let both = |one: &SchemaRef, other: &SchemaRef| unify(one, other).ok();
        let [one, two, three] = [one, two, three].map(schema);
        let first = both(&one, &two).and_then(|found| both(&found, &three));
        let last = both(&three, &two).and_then(|found| both(&found, &one));
        let kind = |schema: Option<SchemaRef>| schema.map(|schema| sorted(schema.field(0).data_type()));
        prop_assert_eq!(kind(first), kind(last));
    }

    /// Nulls of every type fit wherever their type does.
    #[test]
    fn nulls_fit_what_their_type_unifies_to(one in any_type(), two in any_type()) {
        if let Ok(both) = unify(&schema(one.clone()), &schema(two)) {
            let rows = column_of_nulls(&one);
            let batch = conform(&rows, &both).expect("nulls are no values");
            prop_assert_eq!(batch.column(0).logical_null_count(), 3);
        }
    }
}

fn column_of_nulls(kind: &DataType) -> RecordBatch {
    RecordBatch::try_new(schema(kind.clone()), vec![new_null_array(kind, 3)]).expect("one column")
}
