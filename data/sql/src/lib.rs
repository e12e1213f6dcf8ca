//! Texts of SQL to DataFusion's plans and expressions, over names that others look up.
//!
//! ```text
//!  text ─► tree of SQL ─► what Ray writes and SQL does not ─► expression
//!                    ├──► clauses that nobody would read    ─► plan
//!                    └──► queries that name themselves      ─► texts of their halves
//! ```
//! A crate of its own, for the time that it takes to compile: it has the generic half of DataFusion's reader in it, needs nothing of the
//! datasets, and is done long before they are.

mod dialect;
mod names;
mod ray_text;
mod rounds;
mod unread_clauses;

use datafusion_common::config::SqlParserOptions;
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{ExprWithAlias, Query, Statement as SqlStatement};

use dialect::SqlDialect;
use names::Names;
pub use rounds::{InRounds, Recursion, in_rounds};

/// `text` as a tree of SQL, whatever its columns are.
pub fn syntax(text: &str, options: &SqlParserOptions) -> Result<ExprWithAlias> {
    parser(text, options)?.parse_into_expr()
}

/// `text` as an expression over the columns of `schema`. Names of functions are looked up in `names`.
pub fn expression(text: &str, schema: &DFSchema, names: &dyn ContextProvider) -> Result<Expr> {
    let options = &names.options().sql_parser;
    let written = ray_text::to_sql(syntax(text, options)?, schema);
    let names = Names(names);
    SqlToRel::new_with_options(&names, parser_options(options)).sql_to_expr_with_alias(
        written,
        schema,
        &mut PlannerContext::new(),
    )
}

/// The one query that `text` is. Names of tables and functions are looked up in `names`. `is_own`: whether a function is one that
/// the engine does not have, by its name.
pub fn query(
    text: &str,
    names: &dyn ContextProvider,
    is_own: &dyn Fn(&str) -> bool,
) -> Result<LogicalPlan> {
    let options = &names.options().sql_parser;
    let mut statements = parser(text, options)?.parse_statements()?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return plan_err!("it takes one query");
    };
    let Some(selection) = query_of(&statement) else {
        let verb = text.split_whitespace().next().unwrap_or_default();
        return plan_err!(
            "it takes a query, SELECT ..., and not {}",
            verb.to_ascii_uppercase()
        );
    };
    unread_clauses::refuse_unread_clauses(selection, is_own)?;
    let names = Names(names);
    SqlToRel::new_with_options(&names, parser_options(options)).statement_to_plan(statement)
}

fn parser<'a>(text: &'a str, options: &SqlParserOptions) -> Result<DFParser<'a>> {
    DFParserBuilder::new(text)
        .with_dialect(&SqlDialect)
        .with_recursion_limit(options.recursion_limit.get())
        .build()
}

fn parser_options(options: &SqlParserOptions) -> ParserOptions {
    ParserOptions {
        enable_ident_normalization: options.enable_ident_normalization,
        map_string_types_to_utf8view: options.map_string_types_to_utf8view,
        ..ParserOptions::default()
    }
}

fn query_of(statement: &Statement) -> Option<&Query> {
    match statement {
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}
