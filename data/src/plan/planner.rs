//! The planner: functions, type coercion and the rules we run, put together from DataFusion's parts.
//!
//! DataFusion's own `SessionState` would bring catalogues and file formats along, which were a seventh of the build
//! (docs/building.md).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::BinaryExpr;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, Operator, ScalarUDF,
    TableSource, Volatility, WindowUDF,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_functions_aggregate::planner::AggregateFunctionPlanner;
use datafusion_functions_nested::planner::{FieldAccessPlanner, NestedFunctionPlanner};
use datafusion_functions_window::planner::WindowFunctionPlanner;
use datafusion_optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion_optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion_optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion_optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion_optimizer::eliminate_filter::EliminateFilter;
use datafusion_optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion_optimizer::eliminate_join::EliminateJoin;
use datafusion_optimizer::eliminate_limit::EliminateLimit;
use datafusion_optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion_optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::push_down_filter::PushDownFilter;
use datafusion_optimizer::push_down_limit::PushDownLimit;
use datafusion_optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion_optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion_optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion_optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::sqlparser::ast::ExprWithAlias;

use super::below_joins::PushFilterBelowJoin;
use super::first_rows::PushFirstRowsBelowMap;
use super::semi_joins::PushSemiJoinBelowJoin;
use super::{aggregates, functions, windows};

static PLANNER: LazyLock<Planner> = LazyLock::new(Planner::new);

/// The one planner of this process, made when it is first used; it is a few hundred functions.
pub(crate) fn planner() -> &'static Planner {
    &PLANNER
}

/// Text to expressions, expressions to what runs, plans to better plans.
pub(crate) struct Planner {
    options: Arc<ConfigOptions>,
    scalars: HashMap<String, Arc<ScalarUDF>>,
    higher_orders: HashMap<String, Arc<HigherOrderUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    windows: HashMap<String, Arc<WindowUDF>>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    analyzer: Analyzer,
    optimizer: Optimizer,
}

impl Planner {
    fn new() -> Self {
        let mut options = ConfigOptions::new();
        // Column names mean what they say, capitals included.
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        // There is no operator that runs a subquery by itself: all become joins.
        let optimizer = &mut options.optimizer;
        optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let mut scalars = HashMap::new();
        let nested = datafusion_functions_nested::all_default_nested_functions();
        for function in datafusion_functions::all_default_functions()
            .into_iter()
            .chain(nested)
            .chain(functions::all())
        {
            let names = names(function.name(), function.aliases());
            scalars.extend(names.map(|name| (name, Arc::clone(&function))));
        }
        let mut higher_orders = HashMap::new();
        for function in datafusion_functions_nested::all_default_higher_order_functions() {
            let names = names(function.name(), function.aliases());
            higher_orders.extend(names.map(|name| (name, Arc::clone(&function))));
        }
        let mut aggregates = HashMap::new();
        for function in aggregates::all() {
            let names = names(function.name(), function.aliases());
            aggregates.extend(names.map(|name| (name, Arc::clone(&function))));
        }
        let mut windows = HashMap::new();
        for function in windows::all() {
            let names = names(function.name(), function.aliases());
            windows.extend(names.map(|name| (name, Arc::clone(&function))));
        }
        Self {
            options: Arc::new(options),
            scalars,
            higher_orders,
            aggregates,
            windows,
            expr_planners: vec![
                Arc::new(AggregateFunctionPlanner),
                Arc::new(WindowFunctionPlanner),
                Arc::new(CoreFunctionPlanner::default()),
                Arc::new(NestedFunctionPlanner),
                Arc::new(FieldAccessPlanner),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
            ],
            analyzer: Analyzer::new(),
            optimizer: Optimizer::with_rules(rules()),
        }
    }

    /// The function of this name.
    pub(crate) fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    /// The function of this name that takes lambdas.
    pub(crate) fn higher_order(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher_orders.get(name).cloned()
    }

    /// The function of this name over many rows.
    pub(crate) fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    /// The function of this name that goes with `OVER` alone.
    pub(crate) fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(name).cloned()
    }

    /// The names of those.
    pub(super) fn window_names(&self) -> Vec<String> {
        self.windows.keys().cloned().collect()
    }

    /// The names of all functions over many rows.
    pub(super) fn aggregate_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    /// `text` as a tree of SQL, whatever its columns are.
    pub(crate) fn syntax(&self, text: &str) -> Result<ExprWithAlias> {
        aktis_sql::syntax(text, &self.options.sql_parser)
    }

    /// `text` as an expression over the columns of `schema`.
    pub(crate) fn logical(&self, text: &str, schema: &DFSchema) -> Result<Expr> {
        aktis_sql::expression(text, schema, self)
    }

    /// `expr` with `+` between texts as what joins them. Of the operators that Python has, it alone means two things, and which
    /// of them only the types tell.
    pub(crate) fn joined(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        let is_text = |expr: &Expr| {
            let kind = match expr.get_type(schema) {
                Ok(DataType::Dictionary(_, values)) => Ok(*values),
                kind => kind,
            };
            matches!(
                kind,
                Ok(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            )
        };
        let joined = expr.transform_up(|node| {
            Ok(match node {
                Expr::BinaryExpr(BinaryExpr { left, op, right })
                    if op == Operator::Plus && is_text(&left) && is_text(&right) =>
                {
                    let op = Operator::StringConcat;
                    Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(joined.data)
    }

    /// The value of an expression that has the same for all rows, whenever it is asked.
    pub(super) fn constant(&self, expr: &Expr) -> Option<ScalarValue> {
        let differs = |part: &Expr| {
            Ok(match part {
                Expr::ScalarFunction(call) => {
                    call.func.signature().volatility != Volatility::Immutable
                }
                Expr::Literal(..)
                | Expr::Alias(_)
                | Expr::BinaryExpr(_)
                | Expr::Case(_)
                | Expr::Cast(_)
                | Expr::Negative(_)
                | Expr::TryCast(_) => false,
                _ => true,
            })
        };
        if expr.exists(differs).ok()? {
            return None;
        }
        let simplified = self.simplified(expr.clone(), &DFSchema::empty(), &ExecutionProps::new());
        match simplified.ok()? {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        }
    }

    /// What computes `expr` over batches of `schema`, with the types made to fit.
    pub(crate) fn physical(&self, expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let props = ExecutionProps::new();
        // Some functions are only another way to write an expression, and cannot be called.
        let expr = self.simplified(expr, schema, &props)?;
        create_physical_expr(&expr, schema, &props, &PhysicalPlanningContext::default())
    }

    fn simplified(&self, expr: Expr, schema: &DFSchema, props: &ExecutionProps) -> Result<Expr> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(&self.options))
            .with_query_execution_start_time(props.query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expr = expr.resolve_lambda_variables(schema)?.data;
        let mut expr = simplifier.coerce(self.joined(expr, schema)?, schema)?;
        for rewrite in self.analyzer.function_rewrites() {
            expr = expr
                .transform_up(|expr| rewrite.rewrite(expr, schema, &self.options))?
                .data;
        }
        simplifier.simplify(expr)
    }

    /// The plan after the rules.
    pub(crate) fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let analyzed = self
            .analyzer
            .execute_and_check(plan.clone(), &self.options, |_, _| {})?;
        let context = OptimizerContext::new_with_config_options(Arc::clone(&self.options));
        self.optimizer.optimize(analyzed, &context, |_, _| {})
    }
}

fn names(name: &str, aliases: &[String]) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain(aliases.to_vec())
}

/// The rules that make better plans of those that methods and queries make, in DataFusion's order.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(EliminateJoin::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(EliminateOuterJoin::new()),
        // Filters cannot pass limits, so limits go first.
        Arc::new(PushDownLimit::new()),
        Arc::new(PushFirstRowsBelowMap),
        Arc::new(PushFilterBelowJoin),
        Arc::new(PushDownFilter::new()),
        Arc::new(PushSemiJoinBelowJoin),
        Arc::new(SingleDistinctToGroupBy::new()),
        Arc::new(EliminateGroupByConstant::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

/// What SQL text may name: functions of one value, and nothing that needs a table.
impl ContextProvider for Planner {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("an expression cannot read the table '{name}'")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar(name)
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher_order(name)
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.higher_orders.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion_expr::{col, lit};

    use super::*;

    fn read(text: &str) -> Option<Expr> {
        let fields = vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("a", DataType::Utf8, true),
            Field::new("sepal.length", DataType::Float64, true),
        ];
        let schema = DFSchema::try_from(Schema::new(fields)).expect("names are distinct");
        planner().logical(text, &schema).ok()
    }

    #[test]
    fn text_in_double_quotes_beside_a_column_is_text() {
        let expected = col("name").eq(lit("x"));
        assert_eq!(read("name == \"x\""), Some(expected));
        let expected = col("name").in_list(vec![lit("x"), col("a")], false);
        assert_eq!(read("name in (\"x\", \"a\")"), Some(expected));
    }

    #[test]
    fn misspelt_column_in_double_quotes_is_no_text() {
        assert_eq!(read("\"nmae\" = 'x'"), None);
        assert_eq!(read("upper(\"nmae\") = 'X'"), None);
        let expected = col("name").eq(col("a"));
        assert_eq!(read("name = \"a\""), Some(expected));
    }

    #[test]
    fn name_with_dots_needs_no_quotes() {
        let column = Expr::Column(datafusion_common::Column::new_unqualified("sepal.length"));
        assert_eq!(
            read("sepal.length > 5.0"),
            Some(column.clone().gt(lit(5.0)))
        );
        assert_eq!(read("\"sepal.length\" > 5.0"), Some(column.gt(lit(5.0))));
        assert_eq!(read("petal.length > 5.0"), None);
    }
}
