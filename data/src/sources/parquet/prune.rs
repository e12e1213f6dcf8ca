//! Files that need not be opened, because the names of their folders tell that no row of them is wanted.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::and_kleene;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::DataFusionError;
use datafusion_expr::Expr;

use crate::plan::Expression;
use crate::storage::PathColumns;

/// Which files may have rows for which all filters are true: their folders' names are a batch of one row per file. `None`: no
/// filter is about these alone.
pub(super) fn kept<'a>(
    paths: impl Iterator<Item = &'a str>,
    told: PathColumns,
    partitions: &[String],
    filters: &[Expr],
) -> Result<Option<Vec<bool>>, DataFusionError> {
    let tells = |filter: &&Expr| {
        let columns = filter.column_refs();
        !columns.is_empty()
            && columns
                .iter()
                .all(|column| partitions.contains(&column.name))
    };
    let filters: Vec<&Expr> = filters.iter().filter(tells).collect();
    if filters.is_empty() {
        return Ok(None);
    }
    let values: Vec<_> = paths.map(|path| told.of(path)).collect();
    let column = |name: &String| -> ArrayRef {
        let of_file = |values: &Vec<(String, Option<String>)>| {
            let found = values.iter().find(|(known, _)| known == name);
            found.and_then(|(_, value)| value.clone())
        };
        Arc::new(values.iter().map(of_file).collect::<StringArray>())
    };
    let fields: Vec<Field> = partitions
        .iter()
        .map(|name| Field::new(name, DataType::Utf8, true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = partitions.iter().map(column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let mut mask = BooleanArray::from(vec![true; batch.num_rows()]);
    for filter in filters {
        let expression = Expression::planned(filter)?.bind(&schema)?;
        let matches = expression.evaluate(&batch)?.into_array(batch.num_rows())?;
        mask = and_kleene(&mask, matches.as_boolean())?;
    }
    // Where a filter is null, no row matches.
    let kept = mask.iter().map(|matches| matches == Some(true));
    Ok(Some(kept.collect()))
}
