//! An expectation as a node of the logical plan: the same rows come out of it.
//!
//! It judges the rows of the place where it was written. So a filter above stays above, because rows that it leaves out are judged
//! too; columns that neither it nor anybody above reads are not read; and of a limit above only the rows that it takes are judged,
//! because the others do not come to anybody.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use datafusion_common::{DFSchemaRef, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::plan::Expectation;

/// [`Expectation`] over an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExpectNode {
    /// What is expected.
    pub expectation: Expectation,
    input: LogicalPlan,
}

impl ExpectNode {
    /// The node that judges the rows of `input`.
    pub(crate) fn new(expectation: Expectation, input: LogicalPlan) -> Self {
        Self { expectation, input }
    }

    /// What the node reads from.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }
}

impl PartialOrd for ExpectNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for ExpectNode {
    fn name(&self) -> &str {
        "Expect"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let fields = self.schema().fields().iter();
        fields.map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Expect: {}", self.expectation.expression)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self::new(self.expectation.clone(), inputs.swap_remove(0)))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let read: HashSet<&str> = self.expectation.expression.columns()?.into_iter().collect();
        let fields = self.schema().fields().iter().enumerate();
        let needed = fields.filter(|(index, field)| {
            output_columns.contains(index) || read.contains(field.name().as_str())
        });
        Some(vec![needed.map(|(index, _)| index).collect()])
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }
}
