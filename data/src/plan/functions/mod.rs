//! Functions that DataFusion lacks: numbers of rows and what is drawn by them, and division as Python does it.

mod division;
mod rows;

use std::sync::Arc;

use datafusion_expr::ScalarUDF;

pub(crate) use rows::{asks_for_row_numbers, with_row_field, with_row_numbers};

/// All of them.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let functions = [
        division::floor_divide(),
        division::floor_modulo(),
        rows::row_number(),
        rows::random(),
        rows::uuid(),
    ];
    functions.into_iter().map(Arc::new).collect()
}
