//! The types of numbers in tensors that columns have, too.

use std::fmt;

use arrow::datatypes::DataType;

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// `float`.
    Float32,
    /// `uint8`.
    UInt8,
    /// `int8`.
    Int8,
    /// `uint16`.
    UInt16,
    /// `int16`.
    Int16,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `bool`.
    Bool,
    /// `float16`.
    Float16,
    /// `double`.
    Float64,
    /// `uint32`.
    UInt32,
    /// `uint64`.
    UInt64,
}

impl Element {
    /// By the number that `TensorProto.DataType` of onnx.proto gives it; the name of the type, where no column has it.
    pub(super) fn of_code(code: u64) -> Result<Self, String> {
        Ok(match code {
            1 => Self::Float32,
            2 => Self::UInt8,
            3 => Self::Int8,
            4 => Self::UInt16,
            5 => Self::Int16,
            6 => Self::Int32,
            7 => Self::Int64,
            9 => Self::Bool,
            10 => Self::Float16,
            11 => Self::Float64,
            12 => Self::UInt32,
            13 => Self::UInt64,
            8 => return Err("strings".to_owned()),
            14 | 15 => return Err("complex numbers".to_owned()),
            16 => return Err("bfloat16".to_owned()),
            other => return Err(format!("ONNX type {other}")),
        })
    }

    /// The type of a column's values.
    pub(super) fn arrow(self) -> DataType {
        match self {
            Self::Float32 => DataType::Float32,
            Self::UInt8 => DataType::UInt8,
            Self::Int8 => DataType::Int8,
            Self::UInt16 => DataType::UInt16,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Bool => DataType::Boolean,
            Self::Float16 => DataType::Float16,
            Self::Float64 => DataType::Float64,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
        }
    }

    /// Whether every number of the type `from` is one of this type, too.
    pub(super) fn holds(self, from: &DataType) -> bool {
        if *from == self.arrow() {
            return true;
        }
        // Bits of an unsigned whole number, of a signed one's amount, and of a float's fraction.
        let bits = |kind: &DataType| {
            Some(match kind {
                DataType::UInt8 => (false, 8),
                DataType::UInt16 => (false, 16),
                DataType::UInt32 => (false, 32),
                DataType::Int8 => (true, 7),
                DataType::Int16 => (true, 15),
                DataType::Int32 => (true, 31),
                _ => return None,
            })
        };
        let float_bits = match self {
            Self::Float16 => Some(11),
            Self::Float32 => Some(24),
            Self::Float64 => Some(53),
            _ => None,
        };
        match (float_bits, bits(from)) {
            (Some(room), Some((_, needed))) => needed <= room,
            (Some(24), None) => *from == DataType::Float16,
            (Some(53), None) => matches!(from, DataType::Float16 | DataType::Float32),
            (None, Some((is_signed, needed))) => match self {
                Self::UInt16 => !is_signed && needed <= 16,
                Self::UInt32 => !is_signed && needed <= 32,
                Self::UInt64 => !is_signed,
                Self::Int16 => needed <= 15,
                Self::Int32 => needed <= 31,
                Self::Int64 => true,
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::UInt8 => "uint8",
            Self::Int8 => "int8",
            Self::UInt16 => "uint16",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Bool => "bool",
            Self::Float16 => "float16",
            Self::Float64 => "float64",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
        })
    }
}

/// Does the same with every type of numbers: `$kind` is Arrow's type of them. Truth values are none, and are left to `$bool`.
macro_rules! with_numbers {
    ($element:expr, $kind:ident => $numbers:expr, bool => $bool:expr) => {{
        use $crate::onnx_model::element::Element;
        match $element {
            Element::Float32 => {
                type $kind = arrow::datatypes::Float32Type;
                $numbers
            }
            Element::UInt8 => {
                type $kind = arrow::datatypes::UInt8Type;
                $numbers
            }
            Element::Int8 => {
                type $kind = arrow::datatypes::Int8Type;
                $numbers
            }
            Element::UInt16 => {
                type $kind = arrow::datatypes::UInt16Type;
                $numbers
            }
            Element::Int16 => {
                type $kind = arrow::datatypes::Int16Type;
                $numbers
            }
            Element::Int32 => {
                type $kind = arrow::datatypes::Int32Type;
                $numbers
            }
            Element::Int64 => {
                type $kind = arrow::datatypes::Int64Type;
                $numbers
            }
            Element::Float16 => {
                type $kind = arrow::datatypes::Float16Type;
                $numbers
            }
            Element::Float64 => {
                type $kind = arrow::datatypes::Float64Type;
                $numbers
            }
            Element::UInt32 => {
                type $kind = arrow::datatypes::UInt32Type;
                $numbers
            }
            Element::UInt64 => {
                type $kind = arrow::datatypes::UInt64Type;
                $numbers
            }
            Element::Bool => $bool,
        }
    }};
}
pub(super) use with_numbers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_lose_nothing_are_taken_for_each_other() {
        assert!(Element::Float32.holds(&DataType::UInt8));
        assert!(Element::Float32.holds(&DataType::Float16));
        assert!(Element::Int64.holds(&DataType::UInt32));
        assert!(Element::Float64.holds(&DataType::Int32));
        assert!(Element::Float16.holds(&DataType::UInt8));
        assert!(!Element::Float32.holds(&DataType::Float64));
        assert!(!Element::Float32.holds(&DataType::Int32));
        assert!(!Element::Float32.holds(&DataType::Int64));
        assert!(!Element::Int32.holds(&DataType::UInt32));
        assert!(!Element::UInt64.holds(&DataType::Int8));
        assert!(!Element::Int64.holds(&DataType::Float32));
        assert!(!Element::Bool.holds(&DataType::UInt8));
        assert!(!Element::UInt8.holds(&DataType::Boolean));
    }
}
