//! `//` and `%` as Python, numpy and pandas have them: the quotient is rounded down, and the rest has the sign of the divisor.
//! SQL's are cut off towards zero.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum, Float64Array};
use arrow::compute::kernels::cmp::{lt, neq};
use arrow::compute::kernels::numeric::{add, div, rem, sub};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{and, binary, cast};
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `a // b`.
pub(super) fn floor_divide() -> ScalarUDF {
    ScalarUDF::new_from_impl(Division::new("floor_divide", true))
}

/// `a % b`.
pub(super) fn floor_modulo() -> ScalarUDF {
    ScalarUDF::new_from_impl(Division::new("floor_modulo", false))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Division {
    name: &'static str,
    gives_quotient: bool,
    signature: Signature,
}

impl Division {
    fn new(name: &'static str, gives_quotient: bool) -> Self {
        Self {
            name,
            gives_quotient,
            signature: Signature::numeric(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Division {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(kind) if kind.is_integer() || kind.is_floating() => Ok(kind.clone()),
            kind => plan_err!(
                "{} takes whole numbers and floats, not {}; cast() it",
                self.name,
                kind.map_or_else(String::new, ToString::to_string)
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (left, right) = (&arrays[0], &arrays[1]);
        let result = if left.data_type().is_floating() {
            floats(left, right, self.gives_quotient)?
        } else {
            integers(left, right, self.gives_quotient)?
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn integers(left: &ArrayRef, right: &ArrayRef, gives_quotient: bool) -> Result<ArrayRef> {
    let scalar = |value: ScalarValue| value.to_scalar();
    let zero = scalar(ScalarValue::new_zero(left.data_type())?)?;
    let rest = rem(left, right)?;
    // Cut off towards zero, the rest has the sign of the dividend: wrong where that is not the divisor's.
    let signs_differ = neq(&lt(&rest, &zero)?, &lt(right, &zero)?)?;
    let is_wrong = and(&neq(&rest, &zero)?, &signs_differ)?;
    let (cut_off, rounded) = if gives_quotient {
        let quotient = div(left, right)?;
        let one = scalar(ScalarValue::new_one(left.data_type())?)?;
        (Arc::clone(&quotient), lower(&quotient, &one, &is_wrong)?)
    } else {
        (Arc::clone(&rest), add(&rest, right)?)
    };
    Ok(zip(&is_wrong, &rounded, &cut_off)?)
}

/// `quotient - 1` where it is needed; elsewhere it might not fit the type.
fn lower(
    quotient: &ArrayRef,
    one: &dyn Datum,
    is_wrong: &arrow::array::BooleanArray,
) -> Result<ArrayRef> {
    let kind = quotient.data_type();
    let zero = ScalarValue::new_zero(kind)?.to_array_of_size(quotient.len())?;
    let safe = zip(is_wrong, quotient, &zero)?;
    if kind.is_unsigned_integer() {
        // No sign ever differs.
        return Ok(safe);
    }
    Ok(sub(&safe, one)?)
}

fn floats(left: &ArrayRef, right: &ArrayRef, gives_quotient: bool) -> Result<ArrayRef> {
    let wide = |array: &ArrayRef| cast(array, &DataType::Float64);
    let (wide_left, wide_right) = (wide(left)?, wide(right)?);
    let operands = (
        wide_left.as_primitive::<Float64Type>(),
        wide_right.as_primitive::<Float64Type>(),
    );
    let result: Float64Array = if gives_quotient {
        binary(operands.0, operands.1, quotient)?
    } else {
        binary(operands.0, operands.1, modulo)?
    };
    let result: ArrayRef = Arc::new(result);
    Ok(cast(&result, left.data_type())?)
}

fn modulo(left: f64, right: f64) -> f64 {
    let rest = left % right;
    if rest == 0.0 {
        0.0_f64.copysign(right)
    } else if (rest < 0.0) == (right < 0.0) {
        rest
    } else {
        rest + right
    }
}

/// As CPython has it: `(left - left % right) / right` is a whole number but for the last bits.
fn quotient(left: f64, right: f64) -> f64 {
    if right == 0.0 {
        return left / right;
    }
    ((left - modulo(left, right)) / right).round()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int8Array, UInt8Array};
    use arrow::datatypes::{Int8Type, UInt8Type};

    use super::*;

    #[test]
    fn whole_numbers_are_divided_as_python_divides_them() {
        let pairs = [
            (7, 2),
            (-7, 2),
            (7, -2),
            (-7, -2),
            (6, 3),
            (-128, 3),
            (0, 5),
        ];
        let left: ArrayRef = Arc::new(Int8Array::from_iter_values(pairs.map(|pair| pair.0)));
        let right: ArrayRef = Arc::new(Int8Array::from_iter_values(pairs.map(|pair| pair.1)));
        let quotients = integers(&left, &right, true).expect("no divisor is zero");
        let rests = integers(&left, &right, false).expect("no divisor is zero");
        let values = |array: &ArrayRef| array.as_primitive::<Int8Type>().values().to_vec();
        assert_eq!(values(&quotients), [3, -4, -4, 3, 2, -43, 0]);
        assert_eq!(values(&rests), [1, 1, -1, -1, 0, 1, 0]);
    }

    #[test]
    fn numbers_without_a_sign_need_no_rounding() {
        let left: ArrayRef = Arc::new(UInt8Array::from(vec![Some(255), None, Some(0)]));
        let right: ArrayRef = Arc::new(UInt8Array::from(vec![Some(10), Some(1), Some(3)]));
        let quotients = integers(&left, &right, true).expect("no divisor is zero");
        let expected: ArrayRef = Arc::new(UInt8Array::from(vec![Some(25), None, Some(0)]));
        assert_eq!(
            quotients.as_primitive::<UInt8Type>(),
            expected.as_primitive::<UInt8Type>()
        );
    }

    #[test]
    fn floats_are_divided_as_python_divides_them() {
        assert_eq!(quotient(-7.5, 2.0), -4.0);
        assert_eq!(modulo(-7.5, 2.0), 0.5);
        assert_eq!(modulo(7.5, -2.0), -0.5);
        assert_eq!(quotient(1.0, 0.1), 9.0);
        assert!(quotient(1.0, 0.0).is_infinite());
    }
}
