//! What stands for a part that several plans share, where only a run will show all of its columns.

use std::cmp::Ordering;
use std::fmt;

use datafusion_common::{DFSchemaRef, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// A part, in the plans that use it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartNode {
    pub(crate) part: usize,
    /// The columns that are known.
    schema: DFSchemaRef,
}

impl PartNode {
    /// The part with this number.
    pub(crate) fn new(part: usize, schema: DFSchemaRef) -> Self {
        Self { part, schema }
    }
}

impl PartialOrd for PartNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for PartNode {
    fn name(&self) -> &str {
        "Part"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Part {}", self.part)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }

    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(Vec::new())
    }
}
