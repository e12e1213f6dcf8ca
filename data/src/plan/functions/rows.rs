//! The number of a row, and what is drawn by it.
//!
//! A row that is computed again after a loss must be the row it was (STG-2), so nothing is drawn from a generator that runs on:
//! numbers and identifiers are hashes of a seed, which stands in the plan, and of the row's number, which the stage worker knows
//! by the input and by counting. The number is a column that the worker adds for the expression alone.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, exec_err, internal_err};
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

const ROW_NUMBER: &str = "monotonically_increasing_id";
/// No column of a user's has it: a name with a NUL in it.
const COLUMN: &str = "row\0number";

/// The number of the row: rises, but not by one, from input to input.
pub(super) fn row_number() -> ScalarUDF {
    let signature = Signature::nullary(Volatility::Volatile);
    ScalarUDF::new_from_impl(RowFunction {
        name: ROW_NUMBER,
        gives: DataType::Int64,
        signature,
    })
}

/// A float of at least 0 and less than 1, of a row's number and a seed.
pub(super) fn random() -> ScalarUDF {
    drawn("random_of", DataType::Float64)
}

/// An identifier of 122 bits as text, of a row's number and a seed.
pub(super) fn uuid() -> ScalarUDF {
    drawn("uuid_of", DataType::Utf8)
}

fn drawn(name: &'static str, gives: DataType) -> ScalarUDF {
    let numbers = vec![DataType::Int64, DataType::Int64];
    ScalarUDF::new_from_impl(RowFunction {
        name,
        gives,
        signature: Signature::exact(numbers, Volatility::Immutable),
    })
}

/// Whether the number of the row is asked for.
pub(crate) fn asks_for_row_numbers(expr: &Expr) -> bool {
    let is_number =
        |node: &Expr| Ok(matches!(node, Expr::ScalarFunction(call) if call.name() == ROW_NUMBER));
    // The walk itself cannot fail.
    expr.exists(is_number).unwrap_or(true)
}

/// `expr` with the number of the row as a column, and the columns with that one; `None`: it does not ask for the number.
pub(crate) fn with_row_numbers(expr: &Expr, schema: &Schema) -> Result<Option<(Expr, Schema)>> {
    let replaced = expr.clone().transform(|node| {
        Ok(match node {
            Expr::ScalarFunction(call) if call.name() == ROW_NUMBER => {
                Transformed::yes(Expr::Column(Column::new_unqualified(COLUMN)))
            }
            other => Transformed::no(other),
        })
    })?;
    if !replaced.transformed {
        return Ok(None);
    }
    Ok(Some((replaced.data, with_row_field(schema))))
}

/// The columns, and the number of the row behind them.
pub(crate) fn with_row_field(schema: &Schema) -> Schema {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(COLUMN, DataType::Int64, false)));
    Schema::new(fields)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowFunction {
    name: &'static str,
    gives: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.name == ROW_NUMBER {
            return internal_err!("only a step of a stage knows the numbers of rows");
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [rows, seeds] = arrays.as_slice() else {
            return exec_err!("{} takes a number and a seed", self.name);
        };
        let rows = rows.as_primitive::<Int64Type>().values().iter();
        let seeds = seeds.as_primitive::<Int64Type>().values().iter();
        let hashes = rows.zip(seeds).map(|(row, seed)| hash(*row, *seed));
        let drawn: ArrayRef = if self.gives == DataType::Float64 {
            Arc::new(Float64Array::from_iter_values(hashes.map(fraction)))
        } else {
            Arc::new(StringArray::from_iter_values(hashes.map(identifier)))
        };
        Ok(ColumnarValue::Array(drawn))
    }
}

fn hash(row: i64, seed: i64) -> u64 {
    mix(mix(seed.cast_unsigned()).wrapping_add(row.cast_unsigned()))
}

/// One step of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// The upper 53 bits, which is what a float can tell apart.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn fraction(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// A UUID of version 4.
fn identifier(hash: u64) -> String {
    let bits = (u128::from(hash) << 64) | u128::from(mix(hash ^ 0x5851_F42D_4C95_7F2D));
    let version = (bits & !(0xF << 76)) | (0x4 << 76);
    let variant = (version & !(0x3 << 62)) | (0x2 << 62);
    let text = format!("{variant:032x}");
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_are_spread_evenly_and_are_the_same_when_asked_again() {
        let drawn: Vec<f64> = (0..10_000).map(|row| fraction(hash(row, 7))).collect();
        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        assert!(drawn.iter().all(|value| (0.0..1.0).contains(value)));
        assert_eq!(fraction(hash(3, 7)).to_bits(), drawn[3].to_bits());
        assert_ne!(hash(3, 8), hash(3, 7));
    }

    #[test]
    fn identifiers_are_of_version_4_and_differ() {
        let all: HashSet<String> = (0..10_000).map(|row| identifier(hash(row, 7))).collect();
        assert_eq!(all.len(), 10_000);
        for text in &all {
            assert_eq!((text.len(), &text[14..15]), (36, "4"), "{text}");
            assert!("89ab".contains(&text[19..20]), "{text}");
        }
    }
}
