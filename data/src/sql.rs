//! Expressions: text to logical to physical and back.
//!
//! Between processes an expression travels as SQL text. The worker binds it to the columns that a block really has, so
//! that the same path serves expressions over columns whose types nobody knows before a function has returned them.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::Expr;
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionConfig;
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::CustomDialectBuilder;

/// The planner's state: functions, type coercion and the rules we run. Made once; it is a few hundred functions.
static SESSION: LazyLock<SessionState> = LazyLock::new(|| {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    // Column names mean what they say, capitals included.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_optimizer_rules(rules())
        .build()
});

/// The relational rules that make sense for a chain of maps. Joins and aggregates will bring theirs.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateLimit::new()),
        // Filters cannot pass limits, so limits go first.
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

/// The planner's state.
pub(crate) fn session() -> &'static SessionState {
    &SESSION
}

/// Reads `text` as an expression over `schema`.
pub(crate) fn parse(text: &str, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let expr = session().create_logical_expr(text, schema)?;
    // Binding proves that the types fit together.
    session().create_physical_expr(expr.clone(), schema)?;
    Ok(expr)
}

/// Fails if `text` is not an expression at all, whatever the columns are.
pub(crate) fn check_syntax(text: &str) -> Result<(), DataFusionError> {
    let dialect = session().config().options().sql_parser.dialect;
    session().sql_to_expr(text, &dialect).map(|_| ())
}

/// The text from which [`bind`] makes the same expression again.
pub(crate) fn unparse(expr: &Expr) -> Result<String, DataFusionError> {
    let unqualified = expr
        .clone()
        .transform(|node| {
            Ok(match node {
                Expr::Column(column) if column.relation.is_some() => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
                }
                Expr::Alias(alias) => Transformed::yes(*alias.expr),
                other => Transformed::no(other),
            })
        })?
        .data;
    let dialect = CustomDialectBuilder::new()
        .with_identifier_quote_style('"')
        .build();
    Ok(Unparser::new(&dialect)
        .expr_to_sql(&unqualified)?
        .to_string())
}

/// Makes `text` executable over batches of `schema`.
pub(crate) fn bind(text: &str, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let schema = DFSchema::try_from(schema.clone())?;
    let expr = session().create_logical_expr(text, &schema)?;
    session().create_physical_expr(expr, &schema)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;

    fn schema() -> DFSchema {
        let fields = vec![
            Field::new("Id", DataType::Int32, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("a.b", DataType::Float64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ];
        DFSchema::try_from(Schema::new(fields)).expect("names are distinct")
    }

    #[test]
    fn expressions_survive_the_way_through_text() {
        for text in [
            "Id > 3",
            "Id == 3 AND text <> 'it''s'",
            "\"a.b\" / 2 >= 0.25 OR text IS NULL",
            "text LIKE 'a%' AND length(text) < 10",
            "Id IN (1, 2, 3)",
            "at >= '2026-01-01T00:00:00'",
            "CAST(Id AS VARCHAR) = '7'",
            "NOT (Id BETWEEN 1 AND 5)",
        ] {
            let expr = parse(text, &schema()).expect(text);
            let again = unparse(&expr).expect(text);
            let reparsed = parse(&again, &schema()).expect(&again);
            assert_eq!(unparse(&reparsed).expect(text), again);
        }
    }

    #[test]
    fn capitals_in_names_are_kept() {
        assert!(parse("id > 3", &schema()).is_err());
        assert!(parse("Id > 3", &schema()).is_ok());
    }
}
