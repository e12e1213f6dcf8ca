//! Queries that name themselves, `WITH RECURSIVE`, taken apart into texts: the rows that one begins with, and the step that makes rows of
//! the last ones again and again. Whoever runs them does so in rounds.

use std::ops::ControlFlow;

use datafusion_common::config::SqlParserOptions;
use datafusion_common::{Result, plan_err};
use datafusion_sql::parser::Statement;
use datafusion_sql::sqlparser::ast::{
    Cte, Ident, ObjectNamePart, Query, SetExpr, SetOperator, SetQuantifier,
    Statement as SqlStatement, Visit, With, visit_relations,
};

/// A query that names itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Recursion {
    /// What it is known by, to itself and to what comes behind it.
    pub name: String,
    /// Its columns; empty: those of `start`.
    pub columns: Vec<String>,
    /// The rows that it begins with.
    pub start: String,
    /// The rows that come of those of the last round, which have its name.
    pub step: String,
    /// Whether a row comes once.
    pub is_distinct: bool,
}

/// What of a query goes in rounds.
#[derive(Debug, PartialEq, Eq)]
pub struct InRounds {
    /// Each may name those before it.
    pub recursions: Vec<Recursion>,
    /// The query that is left, which names them.
    pub rest: String,
}

/// What of the query goes in rounds; `None`: it is not `WITH RECURSIVE`.
pub fn in_rounds(text: &str, options: &SqlParserOptions) -> Result<Option<InRounds>> {
    if !text.to_ascii_lowercase().contains("recursive") {
        return Ok(None);
    }
    let mut statements = super::parser(text, options)?.parse_statements()?;
    let Some(Statement::Statement(statement)) = statements.pop_front() else {
        return Ok(None);
    };
    let SqlStatement::Query(mut query) = *statement else {
        return Ok(None);
    };
    let Some(with) = query.with.take_if(|with| with.recursive) else {
        return Ok(None);
    };
    if !statements.is_empty() {
        return plan_err!("it takes one query");
    }
    let (mut plain, mut recursions) = (Vec::new(), Vec::new());
    for cte in with.cte_tables {
        if does_name(cte.query.as_ref(), &cte.alias.name) {
            recursions.push(recursion(cte, &plain)?);
        } else {
            plain.push(cte);
        }
    }
    query.with = (!plain.is_empty()).then_some(With {
        recursive: false,
        cte_tables: plain,
        ..with
    });
    Ok(Some(InRounds {
        recursions,
        rest: query.to_string(),
    }))
}

/// `plain`: what stands before it, and it may name.
fn recursion(cte: Cte, plain: &[Cte]) -> Result<Recursion> {
    let name = cte.alias.name;
    let Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        ..
    } = *cte.query
    else {
        return plan_err!(
            "WITH, ORDER BY and LIMIT of a query that names itself are not there yet: write WITH before '{name}', and the others in the query \
             behind it"
        );
    };
    let (mut terms, mut quantifier) = (Vec::new(), None);
    flatten(*body, &mut terms, &mut quantifier);
    let is_distinct = match quantifier {
        Some(SetQuantifier::All) => false,
        Some(SetQuantifier::None | SetQuantifier::Distinct) => true,
        _ => return not_in_halves(&name),
    };
    let (steps, starts): (Vec<SetExpr>, Vec<SetExpr>) =
        terms.into_iter().partition(|term| does_name(term, &name));
    if starts.is_empty() {
        return not_in_halves(&name);
    }
    if steps.iter().any(|step| times_named(step, &name) > 1) {
        return plan_err!(
            "the query '{name}' names itself twice in one step, and both would be the rows of the last round alone: name it once, beside the \
             table that these come of"
        );
    }
    let columns = cte.alias.columns.into_iter();
    Ok(Recursion {
        columns: columns.map(|column| column.name.value).collect(),
        start: behind(plain, &starts),
        step: behind(plain, &steps),
        is_distinct,
        name: name.value,
    })
}

fn not_in_halves<T>(name: &Ident) -> Result<T> {
    plan_err!(
        "the query '{name}' names itself and is none that can be run: it is SELECT of the rows that it begins with, UNION or UNION ALL, \
         and SELECT ... FROM {name} of the rows that come of the last ones"
    )
}

/// What unions of one kind put together, in order.
fn flatten(body: SetExpr, terms: &mut Vec<SetExpr>, quantifier: &mut Option<SetQuantifier>) {
    match body {
        SetExpr::SetOperation {
            op: SetOperator::Union,
            left,
            right,
            set_quantifier,
        } if quantifier.is_none_or(|known| known == set_quantifier) => {
            *quantifier = Some(set_quantifier);
            flatten(*left, terms, quantifier);
            terms.push(*right);
        }
        other => terms.push(other),
    }
}

/// All rows of the terms, as a query that may name `plain`.
fn behind(plain: &[Cte], terms: &[SetExpr]) -> String {
    let texts = |all: &mut dyn Iterator<Item = String>, between: &str| {
        all.collect::<Vec<String>>().join(between)
    };
    let body = texts(&mut terms.iter().map(SetExpr::to_string), " UNION ALL ");
    if plain.is_empty() {
        return body;
    }
    let before = texts(&mut plain.iter().map(Cte::to_string), ", ");
    format!("WITH {before} {body}")
}

/// Whether it reads what has this name.
fn does_name(part: &impl Visit, name: &Ident) -> bool {
    times_named(part, name) > 0
}

fn times_named(part: &impl Visit, name: &Ident) -> usize {
    let mut times = 0;
    let _ = visit_relations(part, |relation| {
        if let [ObjectNamePart::Identifier(one)] = relation.0.as_slice() {
            times += usize::from(one.value == name.value);
        }
        ControlFlow::<()>::Continue(())
    });
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> Result<Option<InRounds>> {
        in_rounds(text, &SqlParserOptions::default())
    }

    #[test]
    fn query_that_names_itself_has_a_start_and_a_step() {
        let text = "WITH RECURSIVE few AS (SELECT 1 AS x), t(n) AS (SELECT x FROM few UNION ALL SELECT n + 1 FROM t WHERE n < 3 \
                    UNION ALL SELECT 7) SELECT sum(n) FROM t, few";
        let found = taken_apart(text).expect("is read").expect("has rounds");
        let recursion = Recursion {
            name: "t".to_owned(),
            columns: vec!["n".to_owned()],
            start: "WITH few AS (SELECT 1 AS x) SELECT x FROM few UNION ALL SELECT 7".to_owned(),
            step: "WITH few AS (SELECT 1 AS x) SELECT n + 1 FROM t WHERE n < 3".to_owned(),
            is_distinct: false,
        };
        assert_eq!(found.recursions, [recursion]);
        assert_eq!(
            found.rest,
            "WITH few AS (SELECT 1 AS x) SELECT sum(n) FROM t, few"
        );
    }

    #[test]
    fn others_have_no_rounds() {
        assert_eq!(taken_apart("SELECT 'recursive'").expect("is read"), None);
        let plain = "WITH RECURSIVE t AS (SELECT 1 UNION SELECT 2) SELECT * FROM t";
        let found = taken_apart(plain)
            .expect("is read")
            .expect("says that it has");
        assert_eq!(found.recursions, []);
        assert!(!found.rest.contains("RECURSIVE"), "{}", found.rest);
    }

    #[test]
    fn forms_that_cannot_be_run_are_told() {
        for (query, said) in [
            ("SELECT n + 1 FROM t", "is SELECT of the rows"),
            (
                "SELECT n + 1 FROM t UNION ALL SELECT n FROM t",
                "is SELECT of the rows",
            ),
            ("SELECT 1 EXCEPT SELECT n FROM t", "is SELECT of the rows"),
            (
                "SELECT 1 AS n UNION SELECT t.n FROM t, t AS u",
                "names itself twice",
            ),
            ("SELECT 1 AS n UNION SELECT n FROM t ORDER BY n", "ORDER BY"),
        ] {
            let text = format!("WITH RECURSIVE t AS ({query}) SELECT * FROM t");
            let error = taken_apart(&text).expect_err(query).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
