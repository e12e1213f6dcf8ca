use std::cell::Cell;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use crate::plan::query_functions::{Called, QueryArgument, QueryFunction};
use crate::plan::{Dataset, Kept, MapSpec, Produces};
use crate::testing::test_map;

/// Functions `f` and `g` from anything to numbers; `steps` counts what they made.
fn functions(steps: &Cell<usize>) -> Vec<QueryFunction<'_>> {
    let function = |name: &'static str| QueryFunction {
        name: name.to_owned(),
        returns: DataType::Int64,
        takes_values: true,
        step: Box::new(
            move |rows: &Dataset, arguments: &[QueryArgument], column: &str| {
                steps.set(steps.get() + 1);
                let reads = arguments.iter().filter_map(|argument| match argument {
                    QueryArgument::Column(name) => Some(name.clone()),
                    QueryArgument::Value(_) => None,
                });
                let made = Field::new(column, DataType::Int64, true);
                let dataset = rows.map(MapSpec {
                    reads: Some(reads.collect()),
                    keeps: Kept::AllExcept(vec![column.to_owned()]),
                    produces: Produces::Fields(vec![Arc::new(made)]),
                    keeps_rows: true,
                    ..test_map(name)
                })?;
                Ok(Called {
                    dataset,
                    columns: vec![column.to_owned()],
                })
            },
        ),
    };
    vec![function("f"), function("g")]
}

fn planned(query: &str) -> Result<(String, usize), String> {
    let steps = Cell::new(0);
    let numbers = |names: [&str; 2]| {
        let numbers = Dataset::range(10).expect("plans");
        let renamed = numbers.rename(&[("id".to_owned(), names[0].to_owned())]);
        let column = crate::plan::Expression::column(names[0]);
        let both = renamed.and_then(|one| one.with_columns(&[(names[1].to_owned(), column)]));
        both.expect("plans")
    };
    let tables = [
        ("t".to_owned(), numbers(["a", "b"])),
        ("u".to_owned(), numbers(["a", "c"])),
    ];
    let made = Dataset::sql_calling(query, &tables, &functions(&steps));
    let plan = made.and_then(|dataset| dataset.optimized());
    let plan = plan.map_err(|error| error.to_string())?;
    Ok((plan.display_indent().to_string(), steps.get()))
}

/// The nodes of the plan, from the top, without projections: maps by their names, and what else there is.
fn nodes(query: &str) -> Vec<String> {
    let (text, _) = planned(query).expect(query);
    let words = text.lines().map(|line| {
        let line = line.trim_start();
        let end = line.find([':', ' ']).unwrap_or(line.len());
        line[..end].to_owned()
    });
    words
        .filter(|word| !["Projection", "SubqueryAlias", "TableScan"].contains(&word.as_str()))
        .collect()
}

#[test]
fn conditions_without_calls_come_before_calls() {
    assert_eq!(nodes("SELECT f(b) FROM t"), ["f"]);
    let both = "SELECT g(b) FROM t WHERE f(b) > 3 AND a < 5 AND g(a) > 1";
    assert_eq!(nodes(both), ["g", "Filter", "g", "Filter", "f", "Filter"]);
    let outside = "SELECT y FROM (SELECT a, f(b) AS y FROM t) WHERE a < 5 AND y > 1";
    assert_eq!(nodes(outside), ["Filter", "f", "Filter"]);
}

#[test]
fn same_call_is_made_once() {
    for (query, steps) in [
        ("SELECT f(b), f(b) + 1 AS more FROM t", 1),
        ("SELECT f(b) FROM t WHERE f(b) > 3 ORDER BY f(b)", 1),
        (
            "SELECT a FROM t WHERE f(b) > 3 ORDER BY f(b) DESC LIMIT 2",
            1,
        ),
        ("SELECT a, f(b) AS y FROM t ORDER BY f(b) + f(a)", 2),
        ("SELECT f(b), f(a) FROM t", 2),
        ("SELECT f(g(b)), g(b) FROM t", 2),
        ("SELECT f(b) FROM t GROUP BY f(b) HAVING f(b) > 2", 1),
        ("SELECT f(b), f(b, 1), f(b, 2) FROM t", 3),
        ("SELECT f(random()), f(random()) AS other FROM t", 2),
    ] {
        assert_eq!(planned(query).expect(query).1, steps, "{query}");
    }
}

#[test]
fn calls_stand_where_rows_are_that_they_look_at() {
    let above = "SELECT f(b + c) FROM t JOIN u ON t.a = u.a AND u.c < 5";
    assert_eq!(nodes(above)[..2], ["f", "Inner"]);
    let below = "SELECT y FROM (SELECT a, f(b) AS y FROM t) AS l JOIN u ON l.a = u.a";
    assert_eq!(nodes(below)[..2], ["Inner", "f"]);
    let on = "SELECT b, c FROM t LEFT JOIN u ON t.a = u.a AND f(u.c) = t.b";
    assert_eq!(nodes(on)[..2], ["Left", "f"]);
    let comma = "SELECT f(b) FROM t, u WHERE t.a = u.a AND f(b) > c";
    assert_eq!(nodes(comma)[..3], ["Filter", "f", "Inner"]);
    let groups = "SELECT f(a), sum(g(b)) FROM t GROUP BY a";
    assert_eq!(nodes(groups), ["f", "Aggregate", "g"]);
    let inner = "SELECT a FROM t WHERE a IN (SELECT a FROM u WHERE f(c) > 3)";
    assert_eq!(nodes(inner), ["LeftSemi", "Filter", "f"]);
    let outer = "SELECT a FROM t WHERE b = (SELECT max(f(c)) FROM u WHERE u.a = t.a)";
    assert_eq!(nodes(outer), ["LeftSemi", "Aggregate", "f"]);
    let window = "SELECT row_number() OVER (PARTITION BY a ORDER BY f(b)) AS n FROM t";
    assert_eq!(nodes(window), ["WindowAggr", "f"]);
}

#[test]
fn call_that_is_the_same_for_all_rows_is_made_for_one() {
    let (text, steps) = planned("SELECT f(b) - g(7) AS d FROM t").expect("plans");
    assert_eq!(steps, 2);
    let call = text.lines().position(|line| line.contains("g reads"));
    let rest: Vec<&str> = text.lines().skip(call.expect("is called")).collect();
    assert!(
        rest.iter().any(|line| line.contains("EmptyRelation")),
        "{text}"
    );
    assert!(
        !rest.iter().any(|line| line.contains("TableScan")),
        "{text}"
    );
}

#[test]
fn places_without_rows_are_refused_with_a_way_out() {
    for (query, words) in [
        (
            "SELECT b FROM t JOIN u ON f(t.b, u.c) > 1",
            "columns of both sides",
        ),
        (
            "SELECT b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.c = f(t.b))",
            "a column of the query around it: call it there",
        ),
        ("SELECT h(b) FROM t", "functions={'h': ...}"),
        ("SELECT f() FROM t", "f"),
        ("SELECT f(*) FROM t", "name the columns"),
        ("SELECT f(DISTINCT b) FROM t", "write SELECT DISTINCT"),
        ("SELECT f(b) OVER () FROM t", "leave it out"),
    ] {
        let message = planned(query).expect_err(query);
        assert!(message.contains(words), "{message}");
    }
}
