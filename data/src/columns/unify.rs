//! The type that two columns both fit into.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aktis_inference::tensor_type::{METADATA, NAME, TensorType, item};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema,
    SchemaRef, TimeUnit,
};

use super::Misfit;

/// The columns of both, by name: those of `one` first, then those that only `other` has. Fails for a column that has no
/// type in common.
pub fn unify(one: &SchemaRef, other: &SchemaRef) -> Result<SchemaRef, Box<Misfit>> {
    if Arc::ptr_eq(one, other) || one == other {
        return Ok(Arc::clone(one));
    }
    let fields = unify_all("", one.fields(), other.fields())?;
    Ok(Arc::new(Schema::new(fields)))
}

/// COL-1 (by-name).
fn unify_all(path: &str, one: &Fields, other: &Fields) -> Result<Vec<FieldRef>, Box<Misfit>> {
    let others: HashMap<&str, &FieldRef> = other
        .iter()
        .map(|field| (field.name().as_str(), field))
        .collect();
    let known: HashSet<&str> = one.iter().map(|field| field.name().as_str()).collect();
    let mut fields = Vec::with_capacity(one.len());
    for field in one {
        let below = join(path, field.name());
        fields.push(match others.get(field.name().as_str()) {
            Some(found) => Arc::new(unify_field(&below, field, found)?),
            None => Arc::new(plain(field).with_nullable(true)),
        });
    }
    let rest = other
        .iter()
        .filter(|field| !known.contains(field.name().as_str()));
    fields.extend(rest.map(|field| Arc::new(plain(field).with_nullable(true))));
    Ok(fields)
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The field with no other metadata than that of an extension type: numbers of fields and the like say nothing about rows.
fn plain(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, _| key == NAME || key == METADATA);
    Field::new(
        field.name(),
        field.data_type().clone(),
        field.is_nullable() || *field.data_type() == DataType::Null,
    )
    .with_metadata(metadata)
}

/// The field that both fit into.
pub(super) fn unify_field(path: &str, one: &Field, other: &Field) -> Result<Field, Box<Misfit>> {
    let (one, other) = (plain(one), plain(other));
    let is_nullable = one.is_nullable() || other.is_nullable();
    if one.data_type() == other.data_type() && one.metadata() == other.metadata() {
        return Ok(one.with_nullable(is_nullable));
    }
    if *one.data_type() == DataType::Null {
        return Ok(other.with_name(one.name()).with_nullable(true));
    }
    if *other.data_type() == DataType::Null {
        return Ok(one.with_nullable(true));
    }
    let misfit = || Misfit::of_types(path, &one, &other);
    let tensors = (TensorType::of(&one), TensorType::of(&other));
    if let (Some(first), Some(second)) = tensors {
        let tensor = unify_tensors(first, second).ok_or_else(misfit)?;
        return Ok(tensor.to_field(one.name(), is_nullable));
    }
    let is_tensor = |field: &Field| TensorType::of(field).is_some_and(|tensor| tensor.rank != 1);
    if is_tensor(&one) || is_tensor(&other) {
        return Err(misfit());
    }
    let kind = unify_types(path, &one, &other)?.ok_or_else(misfit)?;
    let field = Field::new(one.name(), kind, is_nullable);
    // What the values mean, as long as both say the same.
    Ok(if one.metadata() == other.metadata() {
        field.with_metadata(one.metadata().clone())
    } else {
        field
    })
}

fn unify_tensors(one: TensorType, other: TensorType) -> Option<TensorType> {
    if one.rank != other.rank || one.is_permuted || other.is_permuted {
        return None;
    }
    Some(TensorType {
        values: unify_leaves(&one.values, &other.values)?,
        rank: one.rank,
        shape: one
            .shape
            .filter(|shape| other.shape.as_ref() == Some(shape)),
        is_permuted: false,
    })
}

/// The type that both fit into; `Ok(None)`: there is none.
fn unify_types(path: &str, one: &Field, other: &Field) -> Result<Option<DataType>, Box<Misfit>> {
    use DataType::{Dictionary, FixedSizeList, LargeList, LargeListView, List, Map, Struct};
    Ok(Some(match (one.data_type(), other.data_type()) {
        (Dictionary(_, value), kind) | (kind, Dictionary(_, value)) => {
            let value = Field::new(one.name(), value.as_ref().clone(), true);
            let kind = Field::new(one.name(), kind.clone(), true);
            return match kind.data_type() {
                Dictionary(..) => unify_types(path, &kind, &value),
                _ => unify_field(path, &value, &kind).map(|field| Some(field.data_type().clone())),
            };
        }
        (Struct(fields), Struct(others)) => Struct(Fields::from(unify_all(path, fields, others)?)),
        (Map(entries, is_sorted), Map(other_entries, is_other_sorted)) => {
            let Some(entries) = unify_entries(path, entries, other_entries)? else {
                return Ok(None);
            };
            Map(entries, *is_sorted && *is_other_sorted)
        }
        (first, second) => {
            let (Some(item_one), Some(item_two)) = (item(first), item(second)) else {
                return Ok(unify_leaves(first, second));
            };
            let unified = unify_field(&join(path, "[]"), item_one, item_two)?;
            let name = if item_one.name() == item_two.name() {
                item_one.name()
            } else {
                "item"
            };
            let unified = Arc::new(unified.with_name(name));
            let is_large = |kind: &DataType| matches!(kind, LargeList(_) | LargeListView(_));
            match (first, second) {
                (FixedSizeList(_, size), FixedSizeList(_, same)) if size == same => {
                    FixedSizeList(unified, *size)
                }
                _ if is_large(first) || is_large(second) => LargeList(unified),
                _ => List(unified),
            }
        }
    }))
}

/// The entries of a map: a struct of a key and a value, whatever their names are.
fn unify_entries(
    path: &str,
    one: &FieldRef,
    other: &FieldRef,
) -> Result<Option<FieldRef>, Box<Misfit>> {
    let (DataType::Struct(pair), DataType::Struct(other_pair)) =
        (one.data_type(), other.data_type())
    else {
        return Ok(None);
    };
    let (2, 2) = (pair.len(), other_pair.len()) else {
        return Ok(None);
    };
    let key = unify_field(&join(path, "key"), &pair[0], &other_pair[0])?;
    let value = unify_field(&join(path, "value"), &pair[1], &other_pair[1])?;
    let entries = DataType::Struct(Fields::from(vec![key.with_nullable(false), value]));
    Ok(Some(Arc::new(Field::new(one.name(), entries, false))))
}

/// The type of plain values that both fit into. Whole numbers and floats make 64-bit floats: [`super::conform`] refuses
/// those values that have no exact place there.
pub(super) fn unify_leaves(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Duration, FixedSizeBinary, Float16, Float32, Float64,
        LargeBinary, LargeUtf8, Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    if one == other {
        return Some(one.clone());
    }
    Some(match (one, other) {
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => LargeUtf8,
        (FixedSizeBinary(_), FixedSizeBinary(_) | Binary) | (Binary, FixedSizeBinary(_)) => Binary,
        (
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
        ) => LargeBinary,
        (Float16, Float32) | (Float32, Float16) => Float32,
        (Float16 | Float32 | Float64, kind) | (kind, Float16 | Float32 | Float64)
            if kind.is_numeric() && decimal(kind).is_none_or(|_| kind.is_integer()) =>
        {
            Float64
        }
        (Date32, Date64) | (Date64, Date32) => Date64,
        (Timestamp(unit, zone), Timestamp(other_unit, other_zone)) => Timestamp(
            finer(unit, other_unit),
            unify_zones(zone.as_ref(), other_zone.as_ref())?,
        ),
        (Time32(unit) | Time64(unit), Time32(other_unit) | Time64(other_unit)) => {
            match finer(unit, other_unit) {
                coarse @ (TimeUnit::Second | TimeUnit::Millisecond) => Time32(coarse),
                fine => Time64(fine),
            }
        }
        (Duration(unit), Duration(other_unit)) => Duration(finer(unit, other_unit)),
        (first, second) if first.is_integer() && second.is_integer() => integer(first, second),
        (first, second) => return unify_decimals(first, second),
    })
}

/// The smallest whole number for both. Only [`DataType::UInt64`] beside signed numbers has none: there values decide.
fn integer(one: &DataType, other: &DataType) -> DataType {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    let bits = |kind: &DataType| 8 * kind.primitive_width().unwrap_or(8);
    // An unsigned number needs one bit more among signed ones.
    let signed_bits = |kind: &DataType| bits(kind) * if kind.is_signed_integer() { 1 } else { 2 };
    if one.is_signed_integer() || other.is_signed_integer() {
        return match signed_bits(one).max(signed_bits(other)) {
            8 => Int8,
            16 => Int16,
            32 => Int32,
            _ => Int64,
        };
    }
    match bits(one).max(bits(other)) {
        8 => UInt8,
        16 => UInt16,
        32 => UInt32,
        _ => UInt64,
    }
}

/// Digits before and behind the point that every value of the type has room in.
///
/// Integers of all widths count alike: which width two of them unify to depends on both, and the result must not depend on
/// which parts come first (COL-3).
fn decimal(kind: &DataType) -> Option<(i16, i16)> {
    use DataType::{
        Decimal32, Decimal64, Decimal128, Decimal256, Int8, Int16, Int32, Int64, UInt8, UInt16,
        UInt32, UInt64,
    };
    Some(match kind {
        Decimal32(precision, scale)
        | Decimal64(precision, scale)
        | Decimal128(precision, scale)
        | Decimal256(precision, scale) => {
            let (precision, scale) = (i16::from(*precision), i16::from(*scale));
            (precision - scale, scale)
        }
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => (20, 0),
        _ => return None,
    })
}

fn unify_decimals(one: &DataType, other: &DataType) -> Option<DataType> {
    let (before, behind) = decimal(one)?;
    let (other_before, other_behind) = decimal(other)?;
    let scale = behind.max(other_behind);
    let precision = u8::try_from(scale + before.max(other_before)).ok()?;
    let scale = i8::try_from(scale).ok()?;
    if precision <= DECIMAL128_MAX_PRECISION {
        Some(DataType::Decimal128(precision, scale))
    } else {
        (precision <= DECIMAL256_MAX_PRECISION).then_some(DataType::Decimal256(precision, scale))
    }
}

fn finer(one: &TimeUnit, other: &TimeUnit) -> TimeUnit {
    // Units are ordered from seconds to nanoseconds.
    *one.max(other)
}

/// A moment in a zone and a time on some wall are two things. Names of UTC are one zone; others stay apart, because a
/// column has only one.
fn unify_zones(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> Option<Option<Arc<str>>> {
    let is_utc = |zone: &Arc<str>| {
        let zone: &str = zone;
        matches!(zone, "UTC" | "Z" | "+00:00" | "-00:00" | "Etc/UTC" | "GMT")
    };
    match (one, other) {
        (one, other) if one == other => Some(one.cloned()),
        (Some(one), Some(other)) if is_utc(one) && is_utc(other) => Some(Some("UTC".into())),
        _ => None,
    }
}
