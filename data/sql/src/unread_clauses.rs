//! Clauses of a query that the parser knows and the engine's planner passes over, so that rows would be other ones than were asked for.

use std::ops::ControlFlow;

use datafusion_common::{Result, plan_err};
use datafusion_sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArguments, LimitClause, ObjectNamePart, Query, Select, SelectFlavor,
    SetExpr, SetOperator, SetQuantifier, TableFactor, Visit, Visitor,
};

/// Fails for a clause that nobody would read, with what to write instead. `is_own`: whether a function is one that the engine does not
/// have, by its name.
pub(crate) fn refuse_unread_clauses(query: &Query, is_own: &dyn Fn(&str) -> bool) -> Result<()> {
    match query.visit(&mut Unread { is_own }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break((clause, instead)) => {
            plan_err!("{clause} is not there yet: {instead}")
        }
    }
}

struct Unread<'a> {
    is_own: &'a dyn Fn(&str) -> bool,
}

type Found = ControlFlow<(&'static str, &'static str)>;

impl Visitor for Unread<'_> {
    type Break = (&'static str, &'static str);

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        let has_limit_by = matches!(
            &query.limit_clause,
            Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty()
        );
        first_of([
            (
                has_counted_sets(&query.body),
                "INTERSECT ALL or EXCEPT ALL",
                "number equal rows on both sides, row_number() OVER (PARTITION BY a, b ORDER BY a) AS n, and write INTERSECT or EXCEPT",
            ),
            (
                has_limit_by,
                "LIMIT ... BY",
                "QUALIFY row_number() OVER (PARTITION BY key ORDER BY ...) <= n chooses rows of each key",
            ),
            (query.fetch.is_some(), "FETCH", "write LIMIT n"),
            (
                !query.locks.is_empty(),
                "FOR UPDATE or FOR SHARE",
                "leave it out: a query locks nothing",
            ),
            (
                query.for_clause.is_some(),
                "FOR XML, JSON or BROWSE",
                "write_json() the result",
            ),
            (
                query.settings.is_some(),
                "SETTINGS",
                "see aktis.data.DataContext",
            ),
            (
                query.format_clause.is_some(),
                "FORMAT",
                "the result is a dataset: write_csv(), write_json() and others write it",
            ),
        ])
    }

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> Found {
        let SqlExpr::Function(call) = expr else {
            return ControlFlow::Continue(());
        };
        let name = call.name.0.last().and_then(ObjectNamePart::as_ident);
        if !name.is_some_and(|name| (self.is_own)(&name.value)) {
            return ControlFlow::Continue(());
        }
        let has_clauses = match &call.args {
            FunctionArguments::List(args) => {
                args.duplicate_treatment.is_some() || !args.clauses.is_empty()
            }
            FunctionArguments::None | FunctionArguments::Subquery(_) => false,
        };
        first_of([
            (
                call.over.is_some() || call.null_treatment.is_some(),
                "OVER behind a function of your own",
                "it gets each row by itself, so leave it out; groupby(key).map_groups(f) gives a function whole groups",
            ),
            (
                has_clauses || call.filter.is_some() || !call.within_group.is_empty(),
                "DISTINCT, ORDER BY or FILTER of a function of your own",
                "it gets each row by itself: write SELECT DISTINCT, or a condition into WHERE",
            ),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        let has_no_select = matches!(select.flavor, SelectFlavor::FromFirstNoSelect);
        first_of([
            (
                select.into.is_some(),
                "INTO",
                "the result is a dataset: write_parquet() and others write it",
            ),
            (
                select.top.is_some(),
                "TOP",
                "write LIMIT n behind the query",
            ),
            (
                select.prewhere.is_some(),
                "PREWHERE",
                "write WHERE: filters go into the readers of files by themselves",
            ),
            (
                !select.connect_by.is_empty(),
                "CONNECT BY",
                "join level by level, a query for each",
            ),
            (
                select.exclude.is_some(),
                "EXCLUDE behind the columns",
                "write SELECT * EXCLUDE (a, b)",
            ),
            (
                select.value_table_mode.is_some(),
                "SELECT AS STRUCT or VALUE",
                "write SELECT struct(a, b)",
            ),
            (
                has_no_select,
                "FROM without SELECT",
                "write SELECT * FROM ...",
            ),
        ])
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> Found {
        let is_sampled = matches!(
            table,
            TableFactor::Table {
                sample: Some(_),
                ..
            } | TableFactor::Derived {
                sample: Some(_),
                ..
            }
        );
        let (is_of_a_version, is_a_part, is_numbered) = match table {
            TableFactor::Table {
                version,
                partitions,
                json_path,
                with_ordinality,
                ..
            } => (
                version.is_some(),
                !partitions.is_empty() || json_path.is_some(),
                *with_ordinality,
            ),
            _ => (false, false, false),
        };
        first_of([
            (
                is_sampled,
                "TABLESAMPLE",
                "give the query ds.random_sample(0.1, seed=...)",
            ),
            (
                is_of_a_version,
                "the version of a table",
                "read it: read_delta(path, version=3), read_iceberg(..., snapshot_id=7)",
            ),
            (
                is_a_part,
                "a part of a table",
                "write it into WHERE, or give ds.filter(...)",
            ),
            (
                is_numbered,
                "WITH ORDINALITY",
                "write row_number() OVER (ORDER BY ...)",
            ),
        ])
    }
}

/// Whether rows would be counted: the planner makes a semi or anti join of it, which asks only whether there is an equal one.
fn has_counted_sets(body: &SetExpr) -> bool {
    match body {
        SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } => {
            let is_counted = matches!(
                set_quantifier,
                SetQuantifier::All | SetQuantifier::AllByName
            );
            (is_counted && !matches!(op, SetOperator::Union))
                || has_counted_sets(left)
                || has_counted_sets(right)
        }
        _ => false,
    }
}

fn first_of<const N: usize>(clauses: [(bool, &'static str, &'static str); N]) -> Found {
    for (is_there, clause, instead) in clauses {
        if is_there {
            return ControlFlow::Break((clause, instead));
        }
    }
    ControlFlow::Continue(())
}
