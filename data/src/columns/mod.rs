//! One schema per dataset: what two sets of columns have in common, and columns as other types without loss.
//!
//! Batches and files of one dataset may differ: one has only nulls where another has text, or whole numbers where another
//! has floats, or fewer fields in a struct. Owns: the type that both fit into ([`unify`]), the conversion into it
//! ([`conform`]), and which types a consumer that has seen rows already may still get ([`settle`]). Does not own: where the
//! parts are; callers name them in messages.
//!
//! - COL-1 (by-name): columns and the fields of structs belong together by name, never by position; one that is missing is
//!   null.
//! - COL-2 (nothing-lost): a value is the same after a conversion, or there is an error that names the column.
//! - COL-3 (order-does-not-matter): which types a set of parts unifies to does not depend on their order.

mod conform;
mod leaf;
pub(crate) mod lists;
mod settle;
mod unify;

use std::fmt;

use aktis_inference::tensor_type::TensorType;
use arrow::datatypes::{DataType, Field};

pub use conform::conform;
pub use settle::settle;
pub use unify::unify;

/// Why two columns have no type in common, or a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The column; a field of a struct is `column.field`.
    pub column: String,
    /// The type that is wanted, or that came first.
    pub wanted: String,
    /// The type that does not fit it.
    pub found: String,
    /// What is wrong with the values, where the types alone would do.
    pub detail: Option<String>,
}

impl Misfit {
    fn of_types(column: &str, wanted: &Field, found: &Field) -> Box<Self> {
        Box::new(Self {
            column: column.to_owned(),
            wanted: type_name(wanted),
            found: type_name(found),
            detail: None,
        })
    }

    /// The message, where the two types have been found in these two places.
    pub fn between(&self, wanted_at: &str, found_at: &str) -> String {
        let Self {
            column,
            wanted,
            found,
            detail,
        } = self;
        let detail = detail
            .as_ref()
            .map(|detail| format!(" ({detail})"))
            .unwrap_or_default();
        format!("the column '{column}' is {wanted} {wanted_at} and {found} {found_at}{detail}")
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.between("in one part", "in another"))
    }
}

impl std::error::Error for Misfit {}

/// The type for people: extension types by their names.
fn type_name(field: &Field) -> String {
    match TensorType::of(field) {
        Some(tensor) => tensor.to_string(),
        None => simple_name(field.data_type()),
    }
}

/// The type without the nullability and the metadata of what is in it.
fn simple_name(kind: &DataType) -> String {
    match kind {
        DataType::List(item) | DataType::LargeList(item) => format!("List({})", type_name(item)),
        DataType::FixedSizeList(item, size) => format!("List({} x {})", size, type_name(item)),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name(), type_name(field)))
                .collect();
            format!("Struct({})", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
