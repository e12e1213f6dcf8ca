//! Plain values as other types. COL-2 (nothing-lost).

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};

use crate::error::reason_of_arrow;

/// The same values as another type. Fails if one of them has no exact place there.
///
/// NaN becomes null among whole numbers: numpy has no other word for a whole number that is missing.
pub(super) fn convert(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    let from = array.data_type();
    if !is_related(from, kind) {
        return Err(format!("{from} is never {kind}"));
    }
    let known = if from.is_floating() && kind.is_integer() {
        without_nan(array)?
    } else {
        array.clone()
    };
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let converted =
        cast_with_options(&known, kind, &options).map_err(|error| reason_of_arrow(&error))?;
    if is_text(from) || is_bytes(from) || matches!(from, DataType::Dictionary(..)) {
        return Ok(converted);
    }
    let back =
        cast_with_options(&converted, from, &options).map_err(|error| reason_of_arrow(&error))?;
    if back.as_ref() == known.as_ref() {
        Ok(converted)
    } else {
        Err(format!("a value has no exact place in {kind}"))
    }
}

/// Whether values of one type may be values of the other.
fn is_related(from: &DataType, kind: &DataType) -> bool {
    use DataType::{Date32, Date64, Dictionary, Duration, Time32, Time64, Timestamp};
    match (from, kind) {
        (Dictionary(_, value), kind) => value.as_ref() == kind || is_related(value, kind),
        (from, Dictionary(_, value)) => from == value.as_ref() || is_related(from, value),
        (Timestamp(_, zone), Timestamp(_, other)) => zone.is_some() == other.is_some(),
        (Date32 | Date64, Date32 | Date64)
        | (Time32(_) | Time64(_), Time32(_) | Time64(_))
        | (Duration(_), Duration(_)) => true,
        (from, kind) => {
            (from.is_numeric() && kind.is_numeric() && !(from.is_floating() && is_decimal(kind)))
                || (is_text(from) && is_text(kind))
                || (is_bytes(from) && is_bytes(kind))
        }
    }
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

fn without_nan(array: &ArrayRef) -> Result<ArrayRef, String> {
    let is_nan = match array.data_type() {
        DataType::Float16 => nan_mask::<Float16Type>(array, |value| value.is_nan()),
        DataType::Float32 => nan_mask::<Float32Type>(array, |value| value.is_nan()),
        _ => nan_mask::<Float64Type>(array, |value| value.is_nan()),
    };
    nullif(array, &is_nan).map_err(|error| reason_of_arrow(&error))
}

fn nan_mask<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    is_nan: fn(T::Native) -> bool,
) -> BooleanArray {
    let values: &PrimitiveArray<T> = array.as_primitive();
    let values = values.iter();
    values
        .map(|value| value.map(is_nan))
        .collect::<BooleanArray>()
}
