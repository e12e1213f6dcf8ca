//! Which types a consumer gets that has seen rows already.

use std::sync::Arc;

use aktis_inference::tensor_type::TensorType;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use super::Misfit;
use super::unify::{join, unify_field};

/// The columns from now on: those of `handed`, with the columns that only `next` has.
///
/// Types that were handed out stay: a column may only gain a type where it had none (nulls, empty lists), fields that a
/// struct did not have, and rows of other shapes where tensors had one. Whether the values of `next` fit is
/// [`super::conform`]'s to say. Fails for a column that has no type in common.
pub fn settle(handed: &SchemaRef, next: &SchemaRef) -> Result<SchemaRef, Box<Misfit>> {
    if Arc::ptr_eq(handed, next) || handed == next {
        return Ok(Arc::clone(handed));
    }
    let mut fields = Vec::with_capacity(handed.fields().len());
    for field in handed.fields() {
        fields.push(match next.field_with_name(field.name()) {
            Ok(found) => Arc::new(settle_field(field.name(), field, found)?),
            Err(_) => Arc::new(field.as_ref().clone().with_nullable(true)),
        });
    }
    let is_new = |field: &&Arc<Field>| handed.field_with_name(field.name()).is_err();
    let new = next.fields().iter().filter(is_new);
    fields.extend(new.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
    Ok(Arc::new(Schema::new(fields)))
}

fn settle_field(path: &str, handed: &Field, next: &Field) -> Result<Field, Box<Misfit>> {
    let unified = unify_field(path, handed, next)?;
    let is_nullable = handed.is_nullable() || next.is_nullable();
    if *handed.data_type() == DataType::Null
        || (TensorType::of(handed).is_some() && TensorType::of(next).is_some())
    {
        return Ok(unified);
    }
    let kind = match (handed.data_type(), next.data_type()) {
        (DataType::Struct(fields), DataType::Struct(found)) => {
            DataType::Struct(settle_all(path, fields, found)?)
        }
        (DataType::List(item), DataType::List(found)) => {
            DataType::List(Arc::new(settle_field(&join(path, "[]"), item, found)?))
        }
        (DataType::LargeList(item), DataType::LargeList(found)) => {
            DataType::LargeList(Arc::new(settle_field(&join(path, "[]"), item, found)?))
        }
        (kind, _) => kind.clone(),
    };
    Ok(Field::new(handed.name(), kind, is_nullable).with_metadata(handed.metadata().clone()))
}

fn settle_all(path: &str, handed: &Fields, next: &Fields) -> Result<Fields, Box<Misfit>> {
    let mut fields = Vec::with_capacity(handed.len());
    for field in handed {
        let found = next.iter().find(|found| found.name() == field.name());
        let settled = found.map(|found| settle_field(&join(path, field.name()), field, found));
        let missing = || Ok(field.as_ref().clone().with_nullable(true));
        fields.push(Arc::new(settled.unwrap_or_else(missing)?));
    }
    let is_new = |field: &&Arc<Field>| handed.iter().all(|known| known.name() != field.name());
    let new = next.iter().filter(is_new);
    fields.extend(new.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))));
    Ok(Fields::from(fields))
}
