//! Columns of tensors, by the metadata of their fields; see `aktis/data/_tensors.py` for the layouts.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};

/// The key of a field's metadata that names what its column is.
pub const NAME: &str = "ARROW:extension:name";
/// The key under which that says more of it.
pub const METADATA: &str = "ARROW:extension:metadata";
const FIXED: &str = "arrow.fixed_shape_tensor";
const VARIABLE: &str = "arrow.variable_shape_tensor";
const RAY_FIXED: [&str; 2] = ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2"];
const RAY_VARIABLE: &str = "ray.data.arrow_variable_shaped_tensor";

/// What a column's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// The type of the numbers.
    pub values: DataType,
    /// How many axes a row has.
    pub rank: usize,
    /// The shape of every row; `None`: it differs from row to row.
    pub shape: Option<Vec<i32>>,
    /// The axes are not in the order of memory: such a column is only ever passed on as it is.
    pub is_permuted: bool,
}

impl TensorType {
    /// The description of a tensor column; `None`: it is none, or in a layout that is passed on as it is.
    pub fn of(field: &Field) -> Option<Self> {
        let name = field.metadata().get(NAME)?.as_str();
        let metadata = field.metadata().get(METADATA).map_or("", String::as_str);
        if name == FIXED || RAY_FIXED.contains(&name) {
            let text = if name == FIXED {
                metadata.split_once("\"shape\"")?.1
            } else {
                metadata
            };
            let shape = numbers(text)?;
            return Some(Self {
                values: item(field.data_type())?.data_type().clone(),
                rank: shape.len(),
                shape: Some(shape),
                is_permuted: metadata.contains("\"permutation\""),
            });
        }
        if name != VARIABLE && name != RAY_VARIABLE {
            return None;
        }
        let DataType::Struct(fields) = field.data_type() else {
            return None;
        };
        let named = |name: &str| fields.iter().find(|field| field.name() == name);
        let rank = match named("shape")?.data_type() {
            DataType::FixedSizeList(_, rank) => usize::try_from(*rank).ok()?,
            _ => metadata.trim().parse().ok()?,
        };
        Some(Self {
            values: item(named("data")?.data_type())?.data_type().clone(),
            rank,
            shape: None,
            is_permuted: metadata.contains("\"permutation\""),
        })
    }

    /// The field of such a column in the layout that Aktis writes.
    pub fn to_field(&self, name: &str, is_nullable: bool) -> Field {
        let item = Arc::new(Field::new("item", self.values.clone(), true));
        let (kind, extension, metadata) = match &self.shape {
            Some(shape) => {
                let dimensions: Vec<String> = shape.iter().map(i32::to_string).collect();
                let kind = DataType::FixedSizeList(item, shape.iter().product());
                (
                    kind,
                    FIXED,
                    format!("{{\"shape\":[{}]}}", dimensions.join(",")),
                )
            }
            None => (variable_type(item, self.rank), VARIABLE, "{}".to_owned()),
        };
        let metadata = HashMap::from([
            (NAME.to_owned(), extension.to_owned()),
            (METADATA.to_owned(), metadata),
        ]);
        Field::new(name, kind, is_nullable).with_metadata(metadata)
    }
}

/// A struct of the values of each row and its shape.
fn variable_type(item: FieldRef, rank: usize) -> DataType {
    let axis = Arc::new(Field::new("item", DataType::Int32, true));
    let rank = i32::try_from(rank).expect("a tensor has few axes");
    let fields = vec![
        Field::new("data", DataType::List(item), true),
        Field::new("shape", DataType::FixedSizeList(axis, rank), true),
    ];
    DataType::Struct(fields.into())
}

/// The field of the items of a list.
pub fn item(kind: &DataType) -> Option<&FieldRef> {
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// The numbers of the first list in a text of JSON.
fn numbers(text: &str) -> Option<Vec<i32>> {
    let inside = text.split_once('[')?.1.split_once(']')?.0;
    let parts = inside.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect()
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Some(shape) => write!(f, "Tensor({} of shape {shape:?})", self.values),
            None => write!(f, "Tensor({} of {} dimensions)", self.values, self.rank),
        }
    }
}
