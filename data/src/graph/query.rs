//! Cutting what a query in SQL has and no method of a dataset makes: the engine's own nodes for joins, groups, orders, unions, windows.
//!
//! They stay in the plan until it has been optimised, because the rules of the engine know them: filters go below joins, columns
//! that nobody wants are not read, subqueries become joins. Here they become the same fragments that methods become.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{JoinType, NullEquality, ScalarValue};
use datafusion_expr::expr::{AggregateFunction, GroupingSet, NullTreatment};
use datafusion_expr::utils::grouping_set_to_exprlist;
use datafusion_expr::{Aggregate, Expr, ExprSchemable, Join, LogicalPlan, Sort, SortExpr, Union};

use super::cut::{End, StageCutter};
use super::edge::EdgeKind;
use super::exchange::PARTITIONS;
use super::fold::{Fold, FoldCall};
use super::fragment::{AggregatePhase, Fragment};
use super::join::{self, JoinKind, JoinNaming};
use super::names::{column_of, names_of, over, over_names};
use super::operator::{NamedExpression, Operator};
use super::partition::{PartitionBy, RangeKey};
use crate::error::PlanError;
use crate::plan::{Expression, Joining, LATERAL};

/// A cube groups by every set of its keys, which are many soon.
const MOST_KEYS_OF_CUBE: usize = 12;

/// What SQL does for which there is no fragment; `clause`: as it is written.
fn refused(clause: &str, instead: &str) -> PlanError {
    PlanError::InvalidArgument(format!("sql(): {clause} is not there yet: {instead}"))
}

fn named(name: impl Into<String>, expression: Expression) -> NamedExpression {
    let name = name.into();
    NamedExpression { name, expression }
}

impl StageCutter {
    pub(super) fn query_node(&mut self, plan: &LogicalPlan) -> Result<(), PlanError> {
        match plan {
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => self.join_tables(join),
            LogicalPlan::Sort(sort) => self.order_by(sort),
            LogicalPlan::Union(union) => self.union_all(union),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Subquery(_) => {
                Err(PlanError::InvalidArgument(format!("sql(): {LATERAL}")))
            }
            other => Err(PlanError::InvalidArgument(format!(
                "sql(): {} cannot be run",
                other.display()
            ))),
        }
    }

    /// Every worker folds what it has; then what it has made of a group comes together.
    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<(), PlanError> {
        self.visit(&aggregate.input)?;
        let input = aggregate.input.schema();
        let mut columns: Vec<(NamedExpression, Field)> = Vec::new();
        let mut computed: HashMap<Expr, String> = HashMap::new();
        let mut column = |name: String, expr: &Expr| -> Result<String, PlanError> {
            // What several functions see is computed once: the conditions of a pivot are those of all its functions.
            if let Some(same) = computed.get(expr) {
                return Ok(same.clone());
            }
            if !expr.is_volatile() {
                computed.insert(expr.clone(), name.clone());
            }
            let (_, field) = expr.to_field(input).map_err(PlanError::planner)?;
            let field = Field::clone(&field).with_name(&name).with_nullable(true);
            columns.push((named(name.clone(), over(expr, input)?), field));
            Ok(name)
        };
        let grouped =
            grouping_set_to_exprlist(&aggregate.group_expr).map_err(PlanError::planner)?;
        let sets = sets_of(&aggregate.group_expr, &grouped)?;
        let mut keys = Vec::with_capacity(grouped.len());
        for (index, expr) in grouped.into_iter().enumerate() {
            keys.push(column(format!("key {index}"), expr)?);
        }
        let mut calls = Vec::with_capacity(aggregate.aggr_expr.len());
        for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
            let Expr::AggregateFunction(call) = expr.clone().unalias() else {
                return Err(refused(
                    &expr.human_display().to_string(),
                    "use other functions",
                ));
            };
            calls.push(call_of(index, &call, &mut column)?);
        }
        if columns.is_empty() {
            // Rows are counted, and a batch without columns is none for every operator.
            let one = Expr::Literal(ScalarValue::Boolean(Some(true)), None);
            let field = Field::new("row", DataType::Boolean, true);
            columns.push((named("row", Expression::Planned(one)), field));
        }
        let (columns, fields): (Vec<NamedExpression>, Vec<Field>) = columns.into_iter().unzip();
        self.step("Project", Operator::Project(columns));
        let fold = |phase| Fold {
            phase,
            rows: Arc::new(Schema::new(fields.clone())),
            keys: keys.clone(),
            sets: sets.clone(),
            calls: calls.clone(),
        };
        let groups = fold(AggregatePhase::Final).group_columns();
        self.known_rows = groups.is_empty().then_some(1);
        self.fragment(Fragment::Fold(fold(AggregatePhase::Partial)));
        if groups.is_empty() {
            self.gather();
        } else {
            let keys = groups.clone();
            self.exchange_into(PARTITIONS, PartitionBy::Hash { keys });
        }
        self.fragment(Fragment::Fold(fold(AggregatePhase::Final)));
        let results = calls.iter().map(|call| &call.name);
        let made: Vec<&String> = groups.iter().chain(results).collect();
        self.call_them(&made, names_of(&aggregate.schema));
        Ok(())
    }

    fn order_by(&mut self, sort: &Sort) -> Result<(), PlanError> {
        self.visit(&sort.input)?;
        let input = sort.input.schema();
        let mut computed = Vec::new();
        let mut keys = Vec::with_capacity(sort.expr.len());
        for (
            index,
            SortExpr {
                expr,
                asc,
                nulls_first,
            },
        ) in sort.expr.iter().enumerate()
        {
            let expression = over(expr, input)?;
            let column = match column_of(&expression) {
                Some(name) => name.to_owned(),
                None => {
                    let name = format!("order {index}");
                    computed.push(named(name.clone(), expression));
                    name
                }
            };
            keys.push(RangeKey {
                column,
                is_descending: !asc,
                has_nulls_first: *nulls_first,
            });
        }
        let has_computed = !computed.is_empty();
        if has_computed {
            self.step("Compute", Operator::Compute(computed));
        }
        self.sort(keys);
        let fetch = sort.fetch.map(|rows| rows as u64);
        if let Some(rows) = fetch {
            self.sort_only_first(rows);
        }
        if has_computed {
            self.step("Select", Operator::Select(names_of(input)));
        }
        if let Some(rows) = fetch {
            self.limit(rows);
        }
        Ok(())
    }

    /// Columns go together by their place.
    fn union_all(&mut self, union: &Union) -> Result<(), PlanError> {
        let names = names_of(&union.schema);
        let fields = union.schema.fields().iter().zip(&names);
        let fields =
            fields.map(|(field, name)| Field::clone(field).with_name(name).with_nullable(true));
        let own = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut edges = Vec::with_capacity(union.inputs.len());
        let mut known_rows = Some(0);
        for input in &union.inputs {
            self.visit(input)?;
            let made = names_of(input.schema());
            self.call_them(&made.iter().collect::<Vec<_>>(), names.clone());
            self.step("Conform", Operator::Conform(Arc::clone(&own)));
            edges.push((self.giver(), EdgeKind::Forward));
            let rows = self.known_rows.take();
            known_rows = known_rows.zip(rows).map(|(all, more)| all + more);
        }
        self.known_rows = known_rows;
        self.end = End::Edges(edges);
        Ok(())
    }

    fn join_tables(&mut self, join: &Join) -> Result<(), PlanError> {
        let kind = kind_of(join.join_type)?;
        let schemas = [join.left.schema(), join.right.schema()];
        let left_names = names_of(schemas[0]);
        let apart = |name: String| match left_names.contains(&name) {
            true => format!("{name} of the right"),
            false => name,
        };
        let right_names: Vec<String> = names_of(schemas[1]).into_iter().map(apart).collect();
        let mut keys = Vec::with_capacity(join.on.len());
        let mut computed = [Vec::new(), Vec::new()];
        for (index, (one, other)) in join.on.iter().enumerate() {
            let mut key = |side: usize, expr: &Expr| -> Result<String, PlanError> {
                let all = [&left_names, &right_names][side];
                let expression = over_names(expr, schemas[side], all)?;
                if let Some(name) = column_of(&expression) {
                    return Ok(name.to_owned());
                }
                let name = format!("{} key {index}", ["left", "right"][side]);
                computed[side].push(named(name.clone(), expression));
                Ok(name)
            };
            keys.push((key(0, one)?, key(1, other)?));
        }
        let condition = join.filter.as_ref().map(|filter| {
            let all = schemas[0].join(schemas[1]).map_err(PlanError::planner)?;
            let names: Vec<String> = left_names.iter().chain(&right_names).cloned().collect();
            over_names(filter, &all, &names)
        });
        let joining = Joining {
            join: join::Join {
                kind,
                keys,
                has_equal_nulls: join.null_equality == NullEquality::NullEqualsNull,
                condition: condition.transpose()?,
                is_not_in: join.null_aware,
                naming: JoinNaming::Apart,
            },
            partitions: PARTITIONS,
            hint: None,
        };
        self.join(&joining, [&join.left, &join.right], |cutter, side| {
            let names = [&left_names, &right_names][side];
            let pairs = names_of(schemas[side]).into_iter().zip(names.clone());
            let pairs: Vec<(String, String)> = pairs.filter(|(own, name)| own != name).collect();
            if !pairs.is_empty() {
                cutter.step("Rename", Operator::Rename(pairs));
            }
            let keys = std::mem::take(&mut computed[side]);
            if !keys.is_empty() {
                cutter.step("Compute", Operator::Compute(keys));
            }
        })?;
        let (has_left, has_right) = kind.gives();
        let mark = JoinKind::MARK.to_owned();
        let made = left_names.iter().filter(|_| has_left);
        let made = made.chain(right_names.iter().filter(|_| has_right));
        let made = made.chain(Some(&mark).filter(|_| kind == JoinKind::LeftMark));
        self.call_them(&made.collect::<Vec<_>>(), names_of(&join.schema));
        Ok(())
    }

    /// Keeps these columns, and gives them these names.
    pub(super) fn call_them(&mut self, made: &[&String], names: Vec<String>) {
        let columns = made.iter().zip(names);
        let columns = columns.map(|(made, name)| named(name, Expression::column(made)));
        self.step("Project", Operator::Project(columns.collect()));
    }

    /// Leaves out the first rows, which one worker must see all of.
    pub(super) fn skip(&mut self, rows: u64) {
        let known_rows = self.known_rows.map(|known| known.saturating_sub(rows));
        let from = self.giver();
        self.keep_order_up_to(from);
        self.gather();
        self.fragment(Fragment::Skip(rows));
        self.is_ordered();
        self.known_rows = known_rows;
    }
}

fn kind_of(kind: JoinType) -> Result<JoinKind, PlanError> {
    Ok(match kind {
        JoinType::Inner => JoinKind::Inner,
        JoinType::Left => JoinKind::LeftOuter,
        JoinType::Right => JoinKind::RightOuter,
        JoinType::Full => JoinKind::FullOuter,
        JoinType::LeftSemi => JoinKind::LeftSemi,
        JoinType::RightSemi => JoinKind::RightSemi,
        JoinType::LeftAnti => JoinKind::LeftAnti,
        JoinType::RightAnti => JoinKind::RightAnti,
        JoinType::LeftMark => JoinKind::LeftMark,
        JoinType::RightMark => return Err(refused("this subquery", "write it as a join")),
    })
}

/// Which keys are null in each of the sets that a query groups by, if it has several: `all` are the keys.
fn sets_of(group: &[Expr], all: &[&Expr]) -> Result<Vec<Vec<bool>>, PlanError> {
    let Some(Expr::GroupingSet(sets)) = group.first() else {
        return Ok(Vec::new());
    };
    let count = all.len();
    Ok(match sets {
        GroupingSet::Rollup(_) => {
            let set = |kept| (0..count).map(|key| key >= kept).collect();
            (0..=count).rev().map(set).collect()
        }
        GroupingSet::Cube(_) if count > MOST_KEYS_OF_CUBE => {
            let clause = format!("CUBE of more than {MOST_KEYS_OF_CUBE} keys");
            return Err(refused(
                &clause,
                "name the sets that you want, GROUPING SETS (...)",
            ));
        }
        GroupingSet::Cube(_) => {
            let set = |mask: u32| (0..count).map(|key| mask >> key & 1 == 1).collect();
            (0..1u32 << count).map(set).collect()
        }
        GroupingSet::GroupingSets(sets) => {
            let set = |set: &Vec<Expr>| all.iter().map(|key| !set.contains(key)).collect();
            sets.iter().map(set).collect()
        }
    })
}

/// The call, over columns that `column` makes of expressions.
fn call_of(
    index: usize,
    call: &AggregateFunction,
    column: &mut impl FnMut(String, &Expr) -> Result<String, PlanError>,
) -> Result<FoldCall, PlanError> {
    let params = &call.params;
    let function = call.func.name().to_owned();
    let mut arguments = Vec::with_capacity(params.args.len());
    for (place, argument) in params.args.iter().enumerate() {
        arguments.push(match argument {
            Expr::Literal(..) => Expression::Planned(argument.clone()),
            other => Expression::column(&column(format!("value {index} {place}"), other)?),
        });
    }
    let mut order = Vec::with_capacity(params.order_by.len());
    for (place, sort) in params.order_by.iter().enumerate() {
        order.push(RangeKey {
            column: column(format!("order {index} {place}"), &sort.expr)?,
            is_descending: !sort.asc,
            has_nulls_first: sort.nulls_first,
        });
    }
    let filter = params
        .filter
        .as_ref()
        .map(|filter| column(format!("filter {index}"), filter));
    let ignores = NullTreatment::IgnoreNulls;
    Ok(FoldCall {
        function,
        arguments,
        filter: filter.transpose()?,
        order,
        is_distinct: params.distinct,
        ignores_nulls: params.null_treatment == Some(ignores),
        name: format!("result {index}"),
    })
}
