//! Lists whose elements become rows: `explode()` of a dataset, and `UNNEST` in a `FROM`, which gets names there that people write.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{Column, DFSchema, NullHandling, Result, UnnestOptions, plan_err};
use datafusion_expr::planner::{RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion_sql::sqlparser::ast::{
    Expr as SqlExpr, Ident, TableAlias, TableAliasColumnDef, TableFactor,
};
use datafusion_sql::utils::UNNEST_PLACEHOLDER;

use super::dataset::{Dataset, check_distinct};
use super::expressions::Expression;
use super::nodes::late::LateStep;
use super::planner::planner;
use crate::error::PlanError;
use crate::graph::Unnest;
use crate::operators::unnest::element_of;

const EXPLODE: &str = "explode()";
/// What the table and the column are called that nobody gives a name.
const UNNAMED: &str = "unnest";
/// The column of numbers that nobody gives a name.
const UNNAMED_NUMBERS: [&str; 2] = ["ordinality", "offset"];

impl Dataset {
    /// A row for each element of these lists; the other columns are the same in all of them. `index`: the column with the place of an
    /// element in its list, if one is wanted.
    pub fn explode(&self, unnest: Unnest, index: Option<&str>) -> Result<Self, PlanError> {
        let names: Vec<&String> = unnest.columns.iter().collect();
        if names.is_empty() {
            return Err(PlanError::InvalidArgument(
                "explode() needs the name of a column with lists".to_owned(),
            ));
        }
        check_distinct(EXPLODE, unnest.columns.iter())?;
        self.check_columns(EXPLODE, &names)?;
        let schema = self.plan().schema();
        for &name in &names {
            if let Ok(field) = schema.field_with_unqualified_name(name) {
                element_of(field).map_err(PlanError::InvalidArgument)?;
            }
        }
        let Some(index) = index else {
            return self.unnested(unnest);
        };
        if self.known_columns().iter().any(|known| known == index) {
            return Err(PlanError::InvalidArgument(format!(
                "explode(index_column='{index}'): there is a column of that name already"
            )));
        }
        let lists = names
            .iter()
            .map(|name| Expr::Column(Column::new_unqualified(*name)));
        let places = places_of(lists);
        let numbered = if self.is_open() {
            let places = Expression::planned(&places).map_err(PlanError::planner)?;
            self.late(LateStep::Compute(vec![(index.to_owned(), places)]))?
        } else {
            let all: Result<Vec<Expr>, PlanError> = self
                .known_columns()
                .iter()
                .map(|name| self.column(name))
                .collect();
            let all = all?.into_iter().chain([places.alias(index)]);
            Self::build(self.builder().project(all))?
        };
        let mut unnest = unnest;
        unnest.columns.push(index.to_owned());
        numbered.unnested(unnest)
    }

    fn unnested(&self, unnest: Unnest) -> Result<Self, PlanError> {
        if self.is_open() {
            return self.late(LateStep::Unnest(unnest));
        }
        let handling = match unnest.keeps_empty {
            true => NullHandling::PreserveAndExpandEmpty,
            false => NullHandling::Drop,
        };
        let columns: Result<Vec<Column>, PlanError> = unnest
            .columns
            .iter()
            .map(|name| match self.column(name)? {
                Expr::Column(column) => Ok(column),
                other => Ok(Column::new_unqualified(other.to_string())),
            })
            .collect();
        let options = UnnestOptions::new().with_null_handling(handling);
        let builder = self.builder();
        Self::build(builder.unnest_columns_with_options(columns?, options))
    }
}

/// The plan with the fields of structs by their own names, where `UNNEST` has made columns of them, which the engine calls
/// `docs.place.x`.
pub(super) fn with_names_of_fields(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut fields = HashMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Projection(projection) = node {
            fields.extend(projection.expr.iter().filter_map(named_field));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let own = plan.schema().columns();
    if own.iter().all(|column| !fields.contains_key(&column.name)) {
        return Ok(plan);
    }
    let columns = own.into_iter().map(|column| {
        let field = fields.get(&column.name).cloned();
        let column = Expr::Column(column);
        match field {
            Some(field) => column.alias(field),
            None => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// The name that the engine has given to a field, and its own.
fn named_field(expr: &Expr) -> Option<(String, String)> {
    let Expr::Alias(alias) = expr else {
        return None;
    };
    let Expr::Column(column) = alias.expr.as_ref() else {
        return None;
    };
    let (_, field) = column
        .name
        .strip_prefix(UNNEST_PLACEHOLDER)?
        .rsplit_once(").")?;
    Some((alias.name.clone(), field.to_owned()))
}

/// For each row the numbers of the elements of its longest list, from 0.
fn places_of(lists: impl Iterator<Item = Expr>) -> Expr {
    let function = |name: &str, args: Vec<Expr>| {
        let function = planner().scalar(name);
        function.expect("it is a function of the engine").call(args)
    };
    let length = |list: Expr| {
        let length = function("array_length", vec![list]);
        function("coalesce", vec![cast(length, DataType::Int64), lit(0_i64)])
    };
    let mut lengths: Vec<Expr> = lists.map(length).collect();
    let longest = match lengths.len() {
        1 => lengths.remove(0),
        _ => function("greatest", lengths),
    };
    function("range", vec![lit(0_i64), longest])
}

/// Gives `UNNEST` in a `FROM` its names, and numbers of its elements where they are asked for.
#[derive(Debug)]
pub(super) struct UnnestPlanner;

impl RelationPlanner for UnnestPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::UNNEST {
            alias,
            mut array_exprs,
            with_offset,
            with_offset_alias,
            with_ordinality,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let mut alias = match alias {
            Some(alias) if !alias.columns.is_empty() => alias,
            named => named_by_table(named, &array_exprs, context)?,
        };
        if with_ordinality || with_offset {
            if alias.columns.is_empty() {
                return plan_err!(
                    "UNNEST with numbers of its elements needs names: UNNEST(a, b) WITH ORDINALITY AS t(x, y, n)"
                );
            }
            let first = u8::from(with_ordinality);
            if alias.columns.len() == array_exprs.len() {
                let unnamed = UNNAMED_NUMBERS[usize::from(with_offset)];
                let name = with_offset_alias.unwrap_or_else(|| Ident::new(unnamed));
                alias.columns.push(column_called(name));
            }
            array_exprs.push(numbers(&array_exprs, first)?);
        }
        Ok(RelationPlanning::Original(Box::new(TableFactor::UNNEST {
            alias: Some(alias),
            array_exprs,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        })))
    }
}

/// The name of the table, and of its column if there is one.
fn named_by_table(
    alias: Option<TableAlias>,
    lists: &[SqlExpr],
    context: &mut dyn RelationPlannerContext,
) -> Result<TableAlias> {
    let mut alias = alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new(UNNAMED),
        columns: Vec::new(),
        at: None,
    });
    if let [list] = lists {
        let schema = DFSchema::empty();
        let kind = context
            .sql_to_expr(list.clone(), &schema)?
            .get_type(&schema)?;
        // A struct becomes a column for each of its fields.
        if !matches!(kind, DataType::Struct(_)) {
            alias.columns = vec![column_called(alias.name.clone())];
        }
    }
    Ok(alias)
}

fn column_called(name: Ident) -> TableAliasColumnDef {
    TableAliasColumnDef {
        name,
        data_type: None,
    }
}

/// The numbers of the elements of the longest of these lists.
fn numbers(lists: &[SqlExpr], first: u8) -> Result<SqlExpr> {
    let length = |list: &SqlExpr| format!("coalesce(cast(array_length({list}) AS BIGINT), 0)");
    let lengths: Vec<String> = lists.iter().map(length).collect();
    let longest = match lengths.as_slice() {
        [only] => only.clone(),
        all => format!("greatest({})", all.join(", ")),
    };
    let numbers = planner().syntax(&format!("range({first}, {first} + {longest})"))?;
    Ok(numbers.expr)
}
