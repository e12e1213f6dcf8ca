//! Windows of SQL: what is told of each row by the rows around it (`OVER`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::expr::{NullTreatment, WindowFunction};
use datafusion_expr::{
    Expr, ExprSchemable, Window as WindowPlan, WindowFrame, WindowFunctionDefinition, lit,
};

use super::cut::StageCutter;
use super::exchange::PARTITIONS;
use super::fragment::Fragment;
use super::names::{column_of, names_of, over};
use super::operator::{NamedExpression, Operator};
use super::partition::{PartitionBy, RangeKey};
use crate::error::PlanError;
use crate::operators::fragment::window_columns;
use crate::plan::Expression;

/// Results of functions, one for each row, beside its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The columns of the rows.
    pub rows: SchemaRef,
    /// Rows with equal values here are seen together. Nulls are equal to each other; with no column, all rows are seen together.
    pub partition: Vec<String>,
    /// What is told of each row, behind its columns.
    pub calls: Vec<WindowCall>,
}

/// One result per row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCall {
    /// The function, by its name in SQL.
    pub function: String,
    /// Whether it is one over many rows, that needs no window: `sum`.
    pub is_aggregate: bool,
    /// WindowColumns and values.
    pub arguments: Vec<Expression>,
    /// The order in which it sees the rows. Those of all calls of a window differ in columns of its partition alone.
    pub order: Vec<RangeKey>,
    /// Which rows around one it sees.
    pub frame: WindowFrame,
    /// The column that tells which rows count; `None`: all do.
    pub filter: Option<String>,
    /// Whether equal rows count once.
    pub is_distinct: bool,
    /// Whether nulls are left out by a function that would take them.
    pub ignores_nulls: bool,
    /// The column of the result.
    pub name: String,
}

/// The columns that a window reads, and those that pass by: computed before it, with types that the plan knows.
struct WindowColumns<'a> {
    plan: &'a WindowPlan,
    all: Vec<NamedExpression>,
    fields: Vec<Field>,
}

impl WindowColumns<'_> {
    /// The column of the expression: its own, or one that is computed for it.
    fn of(&mut self, what: &str, expr: &Expr) -> Result<String, PlanError> {
        let input = self.plan.input.schema();
        let expression = over(expr, input)?;
        if let Some(name) = column_of(&expression) {
            return Ok(name.to_owned());
        }
        let known = |one: &&NamedExpression| one.expression == expression;
        if let Some(known) = self.all.iter().find(known) {
            return Ok(known.name.clone());
        }
        let name = self.free(what);
        let (_, field) = expr.to_field(input).map_err(PlanError::planner)?;
        self.add(name.clone(), expression, &field);
        Ok(name)
    }

    /// The name, or one like it that no column has.
    fn free(&self, name: &str) -> String {
        let mut name = name.to_owned();
        while self.all.iter().any(|one| one.name == name) {
            name.push('\'');
        }
        name
    }

    fn add(&mut self, name: String, expression: Expression, field: &Field) {
        let field = field.clone().with_name(&name).with_nullable(true);
        self.fields.push(field);
        self.all.push(NamedExpression { name, expression });
    }
}

impl StageCutter {
    /// Rows that are seen together come together, and are put in order there.
    pub(super) fn window(&mut self, plan: &WindowPlan) -> Result<(), PlanError> {
        self.visit(&plan.input)?;
        let own = names_of(plan.input.schema());
        let mut columns = WindowColumns {
            plan,
            all: Vec::new(),
            fields: Vec::new(),
        };
        for (name, field) in own.iter().zip(plan.input.schema().fields()) {
            columns.add(name.clone(), Expression::column(name), field);
        }
        let mut partition: Option<Vec<String>> = None;
        let mut calls = Vec::with_capacity(plan.window_expr.len());
        for (index, expr) in plan.window_expr.iter().enumerate() {
            let Expr::WindowFunction(call) = expr.clone().unalias() else {
                let text = format!("sql(): {} is no window", expr.human_display());
                return Err(PlanError::InvalidArgument(text));
            };
            // The planner puts calls into one node that see the same rows.
            if partition.is_none() {
                partition = Some(partition_of(&call, &mut columns)?);
            }
            calls.push(call_of(index, &call, &mut columns)?);
        }
        let partition = partition.unwrap_or_default();
        if columns.all.is_empty() {
            // Rows are counted, and a batch without columns is none for every operator.
            let one = Expression::Planned(lit(true));
            columns.add(
                "row".to_owned(),
                one,
                &Field::new("row", DataType::Boolean, true),
            );
        }
        self.step("Project", Operator::Project(columns.all));
        let window = Window {
            rows: Arc::new(Schema::new(columns.fields)),
            partition,
            calls,
        };
        // What the engine cannot do is told now.
        window_columns(&window).map_err(PlanError::planner)?;
        let made: Vec<String> = window.calls.iter().map(|call| call.name.clone()).collect();
        if window.partition.is_empty() {
            self.gather();
        } else {
            let keys = window.partition.clone();
            self.exchange_into(PARTITIONS, PartitionBy::Hash { keys });
        }
        self.fragment(Fragment::Window(window));
        let made: Vec<&String> = own.iter().chain(&made).collect();
        self.call_them(&made, names_of(&plan.schema));
        Ok(())
    }
}

fn partition_of(
    call: &WindowFunction,
    columns: &mut WindowColumns<'_>,
) -> Result<Vec<String>, PlanError> {
    let mut partition = Vec::new();
    for (place, expr) in call.params.partition_by.iter().enumerate() {
        let name = columns.of(&format!("part {place}"), expr)?;
        if !partition.contains(&name) {
            partition.push(name);
        }
    }
    Ok(partition)
}

/// The call, over columns.
fn call_of(
    index: usize,
    call: &WindowFunction,
    columns: &mut WindowColumns<'_>,
) -> Result<WindowCall, PlanError> {
    let params = &call.params;
    let mut arguments = Vec::with_capacity(params.args.len());
    for (place, argument) in params.args.iter().enumerate() {
        arguments.push(match argument {
            Expr::Literal(..) => Expression::Planned(argument.clone()),
            other => Expression::column(&columns.of(&format!("value {index} {place}"), other)?),
        });
    }
    let mut order = Vec::with_capacity(params.order_by.len());
    for (place, sort) in params.order_by.iter().enumerate() {
        order.push(RangeKey {
            column: columns.of(&format!("order {index} {place}"), &sort.expr)?,
            is_descending: !sort.asc,
            has_nulls_first: sort.nulls_first,
        });
    }
    let filter = params.filter.as_ref();
    let filter = filter.map(|filter| columns.of(&format!("filter {index}"), filter));
    let ignores = NullTreatment::IgnoreNulls;
    Ok(WindowCall {
        function: call.fun.name().to_owned(),
        is_aggregate: matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_)),
        arguments,
        order,
        frame: params.window_frame.clone(),
        filter: filter.transpose()?,
        is_distinct: params.distinct,
        ignores_nulls: params.null_treatment == Some(ignores),
        name: columns.free(&format!("window {index}")),
    })
}
