//! How large the rows of a plan are at most, as far as that is known before it runs.

use arrow::datatypes::{DataType, Schema};
use datafusion_expr::{FetchType, LogicalPlan};

use super::job::SourcePlan;
use crate::plan::{Relation, RelationNode};
use crate::sources::{self, BlocksTable};
use crate::stats::bytes_text;

/// What a value is taken for that has no size of its own: a text, a list.
const BYTES_OF_ANY_VALUE: u64 = 64;

/// Bytes of the rows; `None`: nobody knows.
pub(super) fn bytes_of(plan: &LogicalPlan) -> Option<u64> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            if let Some(table) = scan.source.downcast_ref::<BlocksTable>() {
                return Some(table.blocks.iter().map(|block| block.bytes).sum());
            }
            let rows = sources::of_table(scan.source.as_ref())?.rows()?;
            Some(rows.saturating_mul(row_bytes(scan.projected_schema.as_arrow())))
        }
        LogicalPlan::EmptyRelation(_) => Some(0),
        LogicalPlan::Limit(limit) => {
            let of_input = bytes_of(&limit.input);
            let Ok(FetchType::Literal(Some(rows))) = limit.get_fetch_type() else {
                return of_input;
            };
            let of_rows = (rows as u64).saturating_mul(row_bytes(plan.schema().as_arrow()));
            Some(of_input.map_or(of_rows, |bytes| bytes.min(of_rows)))
        }
        LogicalPlan::Filter(filter) => bytes_of(&filter.input),
        LogicalPlan::Projection(projection) => bytes_of(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => bytes_of(&alias.input),
        LogicalPlan::Sort(sort) => bytes_of(&sort.input),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any().downcast_ref::<RelationNode>()?;
            let mut sizes = node.sources().iter().map(bytes_of);
            match node.relation {
                Relation::Join(_) | Relation::Group(_) => None,
                _ => sizes.try_fold(0u64, |all, one| Some(all.saturating_add(one?))),
            }
        }
        _ => None,
    }
}

/// Bytes of the rows that are read at most; `None`: nobody knows.
pub(super) fn bytes_of_source(plan: &SourcePlan) -> Option<u64> {
    let Some(table) = plan.table.as_deref() else {
        return Some(0);
    };
    if let Some(table) = table.downcast_ref::<BlocksTable>() {
        return Some(table.blocks.iter().map(|block| block.bytes).sum());
    }
    let rows = sources::of_table(table)?.rows()?;
    let columns = table.schema().project(&plan.columns).ok()?;
    Some(rows.saturating_mul(row_bytes(&columns)))
}

/// How much is read at most, for people; `None`: nobody knows.
pub(super) fn estimate(plan: &SourcePlan) -> Option<String> {
    let table = plan.table.as_deref()?;
    let rows = sources::of_table(table)?.rows()?;
    let rows = plan.row_limit.map_or(rows, |limit| rows.min(limit));
    let bytes = bytes_text(bytes_of_source(plan)?);
    Some(format!("at most {rows} rows, about {bytes}"))
}

fn row_bytes(schema: &Schema) -> u64 {
    let value = |kind: &DataType| match kind {
        DataType::Boolean | DataType::Null => 1,
        other => other
            .primitive_width()
            .map_or(BYTES_OF_ANY_VALUE, |bytes| bytes as u64),
    };
    schema
        .fields()
        .iter()
        .map(|field| value(field.data_type()))
        .sum()
}
