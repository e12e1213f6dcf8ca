//! Tests of the push-down through maps, on the plan alone.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;

use super::*;
use crate::sources::ParquetTable;
use crate::storage::{DataFile, FileFooter, ReadOptions, StoreSpec};

fn source() -> Dataset {
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("note", DataType::Utf8, true),
    ];
    let file = FileFooter {
        file: DataFile {
            path: "/data/a.parquet".to_owned(),
            size_bytes: 1,
            version: 0,
        },
        schema: Arc::new(Schema::new(fields)),
        row_groups: Vec::new(),
    };
    let table = ParquetTable::new(
        StoreSpec::default(),
        vec![file],
        ReadOptions::default().told,
    )
    .expect("one schema");
    Dataset::scan(Arc::new(table)).expect("plans")
}

fn map(name: &str) -> MapSpec {
    MapSpec {
        name: name.to_owned(),
        function: MapFunction::Python(PythonFunction {
            definition: Bytes::new(),
            captured: None,
        }),
        reads: None,
        keeps: Kept::Nothing,
        produces: Produces::Unknown,
        keeps_rows: false,
        batch_rows: None,
        window_rows: 0,
        compute: Compute::tasks(),
        failures: FailurePolicy::default(),
        cache: None,
        batching: Batching::default(),
    }
}

/// Like the text embedder: reads one column, adds one, keeps the rest.
fn embed() -> MapSpec {
    MapSpec {
        reads: Some(vec!["text".to_owned()]),
        keeps: Kept::AllExcept(vec!["embedding".to_owned()]),
        produces: Produces::Fields(vec![embedding_field("embedding", 4)]),
        keeps_rows: true,
        ..map("Embed")
    }
}

fn optimized(dataset: &Dataset) -> String {
    dataset
        .optimized()
        .expect("optimises")
        .display_indent()
        .to_string()
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// What is planned once to be checked is not planned again to be run, unless the time is in it.
#[test]
fn rules_are_asked_once_unless_they_compute_what_time_it_is() {
    let tables = [("docs".to_owned(), Dataset::range(3).expect("plans"))];
    let planned = |query: &str| {
        let dataset = Dataset::sql(query, &tables).expect(query);
        let (one, other) = (optimized(&dataset), optimized(&dataset));
        assert_eq!(
            optimized(&dataset.clone()) == other,
            one == other,
            "{query}"
        );
        (dataset.has_optimized(), one == other)
    };
    assert_eq!(planned("SELECT id + 1 AS x FROM docs"), (true, true));
    let now = "SELECT id, now() AS at FROM docs";
    assert_eq!(planned(now), (false, false));
    let below = "SELECT id FROM docs WHERE id IN (SELECT id FROM docs WHERE now() > '2020-01-01')";
    assert!(!planned(below).0);
}

/// PLAN-1 (projection-prunes).
#[test]
fn projection_prunes_columns_that_neither_the_map_nor_anybody_above_reads() {
    let dataset = source().map(embed()).expect("maps");
    let dataset = dataset
        .select(&names(&["id", "embedding"]))
        .expect("selects");
    let plan = optimized(&dataset);
    assert!(
        plan.contains("TableScan: source projection=[id, text]"),
        "{plan}"
    );
}

/// PLAN-1 (projection-prunes).
#[test]
fn map_with_declared_columns_reads_only_these() {
    let spec = MapSpec {
        reads: Some(names(&["text"])),
        ..map("Length")
    };
    let plan = optimized(&source().map(spec).expect("maps"));
    assert!(plan.contains("projection=[text]"), "{plan}");
}

/// PLAN-2 (predicate-passes-untouched).
#[test]
fn predicate_on_kept_columns_reaches_the_scan() {
    let dataset = source()
        .map(embed())
        .expect("maps")
        .filter("id > 10")
        .expect("filters");
    let plan = optimized(&dataset);
    assert!(
        plan.contains("full_filters=[source.id > Int64(10)]"),
        "{plan}"
    );
    assert!(!plan.contains("Filter:"), "{plan}");
}

/// PLAN-2 (predicate-passes-untouched).
#[test]
fn predicate_on_produced_columns_stays_above_the_map() {
    let produces = Produces::Fields(vec![Arc::new(Field::new("id", DataType::Int64, false))]);
    let spec = MapSpec {
        produces,
        keeps: Kept::Named(names(&["text"])),
        ..embed()
    };
    let dataset = source()
        .map(spec)
        .expect("maps")
        .filter("id > 10")
        .expect("filters");
    let plan = optimized(&dataset);
    assert!(plan.starts_with("Filter:"), "{plan}");
    assert!(!plan.contains("full_filters"), "{plan}");
}

/// PLAN-3 (limit-passes-row-preserving).
#[test]
fn limit_passes_a_map_that_keeps_rows_and_no_other() {
    let kept = optimized(
        &source()
            .map(embed())
            .expect("maps")
            .limit(5)
            .expect("limits"),
    );
    assert!(
        kept.contains("fetch=5\n") || kept.ends_with("fetch=5"),
        "{kept}"
    );
    assert!(
        kept.contains("TableScan: source projection=[id, text, note], fetch=5"),
        "{kept}"
    );
    let other = optimized(
        &source()
            .map(map("Explode"))
            .expect("maps")
            .limit(5)
            .expect("limits"),
    );
    assert!(!other.contains("note], fetch=5"), "{other}");
}

#[test]
fn steps_after_an_unknown_function_are_bound_late() {
    let dataset = source().map(map("Unknown")).expect("maps");
    assert!(dataset.is_open() && dataset.schema().is_none());
    let dataset = dataset
        .filter("score > 0.5 AND label = 'x'")
        .expect("filters");
    let dataset = dataset
        .rename(&[("score".to_owned(), "s".to_owned())])
        .expect("renames");
    let dataset = dataset.select(&names(&["s"])).expect("selects");
    let plan = optimized(&dataset);
    assert_eq!(plan.matches("bound at run time").count(), 3, "{plan}");
    assert!(
        dataset.filter("score >").is_err(),
        "syntax is checked at once"
    );
}

#[test]
fn steps_bound_late_ask_for_no_column_that_is_not_read() {
    let made = MapSpec {
        reads: Some(names(&["text"])),
        keeps: Kept::AllExcept(names(&["made"])),
        keeps_rows: true,
        ..map("Udf")
    };
    let dataset = source().map(made).expect("maps");
    let dropped = dataset.drop(&names(&["note"])).expect("drops");
    assert!(
        !optimized(&dropped).contains("note"),
        "{}",
        optimized(&dropped)
    );
    let renamed = dataset.rename(&[("note".to_owned(), "n".to_owned())]);
    let renamed = renamed.and_then(|renamed| renamed.drop(&names(&["n"])));
    let plan = optimized(&renamed.expect("renames and drops"));
    assert!(!plan.contains("note"), "{plan}");
    // What the function may make stays in the step, which finds out.
    let unknown = dataset.drop(&names(&["note", "other"])).expect("drops");
    assert!(optimized(&unknown).contains("Drop (bound at run time): other"));
}

#[test]
fn mask_keeps_the_schema_and_lets_other_predicates_pass() {
    let spec = MapSpec {
        reads: Some(names(&["text"])),
        produces: Produces::Mask,
        ..map("Filter(fn)")
    };
    let dataset = source().map(spec).expect("maps");
    assert_eq!(dataset.schema(), source().schema());
    let dataset = dataset
        .filter("id = 3")
        .expect("filters")
        .select(&names(&["id"]))
        .expect("selects");
    let plan = optimized(&dataset);
    assert!(
        plan.contains("projection=[id, text], full_filters=[source.id = Int64(3)]"),
        "{plan}"
    );
}

#[test]
fn predicate_follows_a_renamed_column_to_the_scan() {
    let dataset = source()
        .rename(&[("id".to_owned(), "key".to_owned())])
        .expect("renames");
    let plan = optimized(&dataset.filter("key < 7").expect("filters"));
    assert!(
        plan.contains("full_filters=[source.id < Int64(7)]"),
        "{plan}"
    );
}

#[test]
fn wrong_column_is_named_with_the_columns_there_are() {
    let error = source()
        .select(&names(&["id", "nope"]))
        .expect_err("no such column");
    let text = error.to_string();
    assert!(
        text.contains("'nope'") && text.contains("'id', 'text', 'note'"),
        "{text}"
    );
    let error = source().filter("nope > 3").expect_err("no such column");
    assert!(
        error.to_string().contains("'id', 'text', 'note'"),
        "{error}"
    );
    let spec = MapSpec {
        reads: Some(names(&["nope"])),
        ..map("F")
    };
    assert!(source().map(spec).is_err());
}

#[test]
fn two_columns_of_one_name_are_refused() {
    assert!(source().select(&names(&["id", "id"])).is_err());
    assert!(
        source()
            .rename(&[("id".to_owned(), "text".to_owned())])
            .is_err()
    );
}

/// Rows that a filter leaves out are judged too, and columns that nobody reads are not read.
#[test]
fn expectation_holds_filters_back_and_lets_columns_and_limits_pass() {
    let dataset = source()
        .expect(Expectation {
            name: "text".to_owned(),
            expression: Expression::from("text is not null"),
            most: MostViolations::Rows(0),
            only_warns: false,
        })
        .expect("plans");
    let selected = dataset.select(&names(&["id"])).expect("selects");
    let plan = optimized(&selected.filter("id > 10").expect("filters"));
    assert!(plan.contains("projection=[id, text]"), "{plan}");
    assert!(!plan.contains("full_filters"), "{plan}");
    let plan = optimized(&dataset.limit(7).expect("limits"));
    assert!(plan.contains("fetch=7"), "{plan}");
}
