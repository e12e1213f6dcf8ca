//! Keys of a join: where they are, and the type in which they meet.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::columns;
use crate::error::quoted;

/// Where the key is, or which columns there are instead.
pub(super) fn place_of(
    key: &str,
    schema: &Schema,
    side: &str,
) -> std::result::Result<usize, String> {
    schema.index_of(key).map_err(|_| {
        let names = schema.fields().iter().map(|field| field.name().clone());
        let names: Vec<String> = names.collect();
        format!(
            "there is no column '{key}' on the {side}; its columns are {}",
            quoted(&names)
        )
    })
}

/// The type in which values of both keys are compared. Whole numbers of any width are equal to each other, texts of any kind
/// are; a float is never taken for a whole number.
pub(super) fn key_type(left: &Field, right: &Field) -> std::result::Result<DataType, String> {
    let alone = |field: &Field| Arc::new(Schema::new(vec![field.clone().with_name("key")]));
    let unified = columns::unify(&alone(left), &alone(right)).ok();
    let unified = unified.map(|unified| unified.field(0).data_type().clone());
    let float = |field: &Field| field.data_type().is_floating();
    let is_null = |field: &Field| *field.data_type() == DataType::Null;
    let may_meet = float(left) == float(right) || is_null(left) || is_null(right);
    unified.filter(|_| may_meet).ok_or_else(|| {
        format!(
            "the key '{}' of the left is {} and the key '{}' of the right is {}: their values are never equal; bring one of \
             them to the type of the other with with_column(name, col(name).cast(type))",
            left.name(),
            left.data_type(),
            right.name(),
            right.data_type()
        )
    })
}

/// A side of which nobody knows a column, because it has no rows: just its keys, of the types of the other side.
pub(super) fn keys_like<'a>(
    other: &SchemaRef,
    keys: impl Iterator<Item = (&'a String, &'a String)>,
) -> SchemaRef {
    let field = |(there, here): (&String, &String)| {
        let kind = other.field_with_name(there);
        let kind = kind.map_or(DataType::Null, |field| field.data_type().clone());
        Field::new(here, kind, true)
    };
    Arc::new(Schema::new(keys.map(field).collect::<Vec<_>>()))
}
