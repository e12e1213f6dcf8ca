//! Cutting a list whose elements become rows, and a struct whose fields become columns.

use arrow::datatypes::{DataType, Field};
use datafusion_common::NullHandling;
use datafusion_expr::expr::Case;
use datafusion_expr::logical_plan::Unnest as UnnestPlan;
use datafusion_expr::{Expr, lit};

use super::cut::StageCutter;
use super::names::{names_of, over};
use super::operator::{NamedExpression, Operator, Unnest};
use crate::error::PlanError;
use crate::plan::planner::planner;

impl StageCutter {
    /// All lists of one depth are taken apart together, the deepest ones first.
    pub(super) fn unnest(&mut self, unnest: &UnnestPlan) -> Result<(), PlanError> {
        self.visit(&unnest.input)?;
        let (names, input) = (names_of(&unnest.schema), unnest.input.schema());
        let columns = input.columns();
        let mut lists = unnest.list_type_columns.iter();
        let mut depths = Vec::with_capacity(names.len());
        let mut prepared = Vec::with_capacity(names.len());
        let mut before = None;
        let mut field = 0;
        for (name, &index) in names.iter().zip(&unnest.dependency_indices) {
            field = if before == Some(index) { field + 1 } else { 0 };
            before = Some(index);
            let column = Expr::Column(columns[index].clone());
            let (expr, depth) = if unnest.struct_type_columns.contains(&index) {
                (field_of(column, input.field(index), field), 0)
            } else if unnest
                .list_type_columns
                .iter()
                .any(|(list, _)| *list == index)
            {
                let depth = lists.next().map_or(1, |(_, list)| list.depth);
                (column, depth)
            } else {
                (column, 0)
            };
            depths.push(depth);
            prepared.push(NamedExpression {
                name: name.clone(),
                expression: over(&expr, input)?,
            });
        }
        self.step("Project", Operator::Project(prepared));
        for level in (1..=depths.iter().copied().max().unwrap_or(0)).rev() {
            let deep = names
                .iter()
                .zip(&depths)
                .filter(|(_, depth)| **depth >= level);
            let step = Unnest {
                columns: deep.map(|(name, _)| name.clone()).collect(),
                keeps_empty: unnest.options.null_handling == NullHandling::PreserveAndExpandEmpty,
            };
            self.known_rows = None;
            self.step("Unnest", Operator::Unnest(step));
        }
        Ok(())
    }
}

/// The field at this place of a struct.
fn field_of(column: Expr, of: &Field, place: usize) -> Expr {
    let DataType::Struct(fields) = of.data_type() else {
        return column;
    };
    let get_field = planner().scalar("get_field");
    let get_field = get_field.expect("it is a function of the engine");
    let field = get_field.call(vec![column.clone(), lit(fields[place].name().as_str())]);
    // What lies under a null is anything.
    Expr::Case(Case::new(
        None,
        vec![(Box::new(column.is_not_null()), Box::new(field))],
        None,
    ))
}
