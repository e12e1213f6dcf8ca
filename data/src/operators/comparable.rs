//! Values as they are told apart by groups, joins and partitions: there is one zero, and one that is no number. Bits and orders have two
//! zeros, and many that are no number: `0/0` is another one than that of numpy.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type, Schema,
};
use datafusion_common::Result;
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// The same values, with one zero and one that is no number.
pub(crate) fn comparable(values: &ArrayRef) -> ArrayRef {
    fn one<T: ArrowPrimitiveType>(
        values: &ArrayRef,
        is_nan: fn(T::Native) -> bool,
        nan: T::Native,
    ) -> ArrayRef {
        let zero = T::default_value();
        let one = |value: T::Native| match value {
            value if is_nan(value) => nan,
            value if value == zero => zero,
            value => value,
        };
        Arc::new(values.as_primitive::<T>().unary::<_, T>(one))
    }
    match values.data_type() {
        DataType::Float16 => one::<Float16Type>(values, Half::is_nan, Half::NAN),
        DataType::Float32 => one::<Float32Type>(values, f32::is_nan, f32::NAN),
        DataType::Float64 => one::<Float64Type>(values, f64::is_nan, f64::NAN),
        _ => Arc::clone(values),
    }
}

/// The same of a key of this type, for the engine's operators.
pub(crate) fn comparable_key(key: Arc<dyn PhysicalExpr>, kind: &DataType) -> Arc<dyn PhysicalExpr> {
    match kind.is_floating() {
        true => Arc::new(Comparable { key }),
        false => key,
    }
}

#[derive(Debug, Eq)]
struct Comparable {
    key: Arc<dyn PhysicalExpr>,
}

// Not derived: https://github.com/rust-lang/rust/issues/78808.
impl PartialEq for Comparable {
    fn eq(&self, other: &Self) -> bool {
        self.key.eq(&other.key)
    }
}

impl Hash for Comparable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for Comparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "comparable({})", self.key)
    }
}

impl PhysicalExpr for Comparable {
    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.key.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.key.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(comparable(&values)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.key]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let mut children = children.into_iter();
        let key = children.next().unwrap_or_else(|| Arc::clone(&self.key));
        Ok(Arc::new(Self { key }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "comparable(")?;
        self.key.fmt_sql(f)?;
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, StringArray};

    use super::*;

    #[test]
    fn there_is_one_zero_and_one_that_is_no_number() {
        let given = [
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::from_bits(f64::NAN.to_bits() | 7),
            1.5,
        ];
        let values: ArrayRef = Arc::new(Float64Array::from(given.to_vec()));
        let of = comparable(&values);
        let bits = of.as_primitive::<Float64Type>().values().iter();
        let bits: Vec<u64> = bits.map(|value| value.to_bits()).collect();
        let [zero, nan, other] = [0.0, f64::NAN, 1.5].map(f64::to_bits);
        assert_eq!(bits, [zero, zero, nan, nan, nan, other]);
        let nulls: ArrayRef = Arc::new(Float32Array::from(vec![None, Some(-0.0)]));
        let halves = arrow::compute::cast(&nulls, &DataType::Float16).expect("casts");
        for values in [nulls, halves] {
            let of = comparable(&values);
            assert!(of.is_null(0));
            let wide = arrow::compute::cast(&of, &DataType::Float64).expect("casts");
            assert_eq!(wide.as_primitive::<Float64Type>().value(1).to_bits(), 0);
        }
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["-0.0"]));
        assert_eq!(&comparable(&texts), &texts);
    }
}
