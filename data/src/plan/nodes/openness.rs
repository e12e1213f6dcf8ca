//! Whether a plan may have columns that only a run will show.

use datafusion_expr::LogicalPlan;

use crate::sources;

use super::expect::ExpectNode;
use super::late::LateNode;
use super::map::MapNode;
use super::part::PartNode;
use super::relation::RelationNode;

/// Whether `plan` may have columns that its schema does not know.
pub(crate) fn is_open(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(map) = node.downcast_ref::<MapNode>() {
                map.is_open
            } else if let Some(late) = node.downcast_ref::<LateNode>() {
                late.is_open()
            } else if let Some(relation) = node.downcast_ref::<RelationNode>() {
                relation.is_open
            } else if let Some(expect) = node.downcast_ref::<ExpectNode>() {
                is_open(expect.input())
            } else {
                node.is::<PartNode>()
            }
        }
        LogicalPlan::TableScan(scan) => {
            sources::of_table(scan.source.as_ref()).is_some_and(sources::Source::is_open)
        }
        LogicalPlan::Filter(filter) => is_open(&filter.input),
        LogicalPlan::Limit(limit) => is_open(&limit.input),
        // A projection lists all of its columns.
        _ => false,
    }
}
