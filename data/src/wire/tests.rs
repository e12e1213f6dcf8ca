//! What was encoded is decoded again.

use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::ScalarValue;
use datafusion_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits, col, lit};
use proptest::prelude::*;
use prost::Message;

use super::spec::StageSpec;
use super::{decode_task, encode_task};
use crate::graph::{
    Aggregate, AggregateCall, AggregateFunction, AggregatePhase, Bounds, Fold, FoldCall, Fragment,
    Function, Join, JoinKind, JoinNaming, MapCall, NamedExpression, Operator, PartitionBy,
    Partitioner, RangeKey, Sort, StageTask, Window, WindowCall,
};
use crate::plan::{
    Batching, CacheSpec, Expectation, Expression, FailurePolicy, Kept, MostViolations, OnError,
};
use crate::registered::Registered;

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-zA-Z. ]{0,6}", 0..3)
}

fn calls() -> impl Strategy<Value = Operator> {
    let kept = prop_oneof![
        Just(Kept::Nothing),
        names().prop_map(Kept::Named),
        names().prop_map(Kept::AllExcept),
    ];
    let numbers = (
        prop::option::of(any::<u64>()),
        prop::option::of(any::<u32>()),
    );
    let kinds = [OnError::Raise, OnError::Skip, OnError::DeadLetter];
    let failures =
        (0..3usize, prop::option::of(1..u64::MAX)).prop_map(move |(kind, nanos)| FailurePolicy {
            on_error: Some(kinds[kind]),
            timeout: nanos.map(std::time::Duration::from_nanos),
            ..FailurePolicy::default()
        });
    let budget = || prop::option::of(any::<u64>());
    let batching = (
        any::<(bool, u64)>(),
        budget(),
        budget(),
        prop::option::of(".*"),
        names(),
    )
        .prop_map(
            |((is_auto, sorted_rows), token_budget, byte_budget, token_column, group_keys)| {
                Batching {
                    is_auto,
                    token_budget,
                    token_column,
                    byte_budget,
                    sorted_rows,
                    group_keys,
                }
            },
        );
    let flags = (any::<bool>(), any::<bool>(), failures, batching);
    (
        ".*",
        any::<Vec<u8>>(),
        prop::option::of(names()),
        kept,
        numbers,
        flags,
    )
        .prop_map(
            |(
                name,
                definition,
                reads,
                keeps,
                (batch_rows, captured),
                (is_mask, keeps_rows, failures, batching),
            )| {
                Operator::Map(MapCall {
                    name,
                    function: Function::Python(Bytes::from(definition)),
                    reads,
                    keeps,
                    is_mask,
                    keeps_rows,
                    batch_rows,
                    captured,
                    failures,
                    cache: keeps_rows.then(|| CacheSpec {
                        folder: "/somewhere".to_owned(),
                        sign: "a".to_owned(),
                    }),
                    batching,
                })
            },
        )
}

fn operators() -> impl Strategy<Value = Operator> {
    let text = || "[a-z]{1,4}".prop_map(Expression::Text);
    let column =
        || (".*", text()).prop_map(|(name, expression)| NamedExpression { name, expression });
    prop_oneof![
        text().prop_map(Operator::Filter),
        prop::collection::vec(column(), 0..3).prop_map(Operator::Project),
        prop::collection::vec(column(), 0..3).prop_map(Operator::Compute),
        names().prop_map(Operator::Select),
        names().prop_map(Operator::Drop),
        prop::collection::vec(("[a-z]*", "[a-z]*"), 0..3).prop_map(Operator::Rename),
        calls(),
        fragments().prop_map(Operator::Relational),
        any::<(u64, u64)>().prop_map(|(share, seed)| Operator::Sample { share, seed }),
        any::<NonZeroU64>().prop_map(Operator::BlockRows),
        names().prop_map(|names| Operator::Conform(columns_of(names))),
        names().prop_map(|names| Operator::Declare(columns_of(names))),
        (".*", text(), any::<u64>(), any::<[bool; 2]>()).prop_map(
            |(name, expression, most, [is_share, only_warns])| Operator::Expect(Expectation {
                name,
                expression,
                most: if is_share {
                    MostViolations::Share(most)
                } else {
                    MostViolations::Rows(most)
                },
                only_warns,
            })
        ),
    ]
}

fn registered() -> impl Strategy<Value = Registered> {
    ("[a-z]*", any::<Vec<u8>>()).prop_map(|(kind, settings)| Registered {
        kind,
        settings: Bytes::from(settings),
    })
}

fn columns_of(names: Vec<String>) -> SchemaRef {
    let field = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(
        names.into_iter().map(field).collect::<Vec<_>>(),
    ))
}

fn functions() -> impl Strategy<Value = AggregateFunction> {
    prop_oneof![
        Just(AggregateFunction::Count),
        Just(AggregateFunction::CountDistinct),
        Just(AggregateFunction::Sum),
        Just(AggregateFunction::SumOfFloats),
        Just(AggregateFunction::Min),
        Just(AggregateFunction::Max),
        Just(AggregateFunction::Variance),
        any::<u64>().prop_map(AggregateFunction::Quantile),
        Just(AggregateFunction::List),
        Just(AggregateFunction::ListOfValues),
        Just(AggregateFunction::Distinct),
        Just(AggregateFunction::DistinctValues),
    ]
}

fn fragments() -> impl Strategy<Value = Fragment> {
    let call =
        (functions(), prop::option::of("[a-z]*"), "[a-z]*").prop_map(|(function, column, name)| {
            AggregateCall {
                function,
                column,
                name,
            }
        });
    let aggregate = (any::<bool>(), names(), prop::collection::vec(call, 0..3));
    prop_oneof![
        sorts().prop_map(Fragment::Sort),
        sorts().prop_map(Fragment::First),
        prop::collection::vec(keys(), 0..3).prop_map(Fragment::Sample),
        (
            prop::collection::vec(keys(), 0..3),
            any::<u32>(),
            any::<u32>()
        )
            .prop_map(|(keys, least, most)| Fragment::Bounds(Bounds { keys, least, most })),
        joins().prop_map(Fragment::Join),
        Just(Fragment::Zip),
        folds().prop_map(Fragment::Fold),
        windows().prop_map(Fragment::Window),
        any::<u64>().prop_map(Fragment::Skip),
        any::<u64>().prop_map(Fragment::Shuffle),
        aggregate.prop_map(|(is_final, keys, calls)| {
            let phase = if is_final {
                AggregatePhase::Final
            } else {
                AggregatePhase::Partial
            };
            Fragment::Aggregate(Aggregate { phase, keys, calls })
        }),
    ]
}

fn sorts() -> impl Strategy<Value = Sort> {
    let keys = prop::collection::vec(keys(), 0..3);
    (keys, prop::option::of(any::<u64>())).prop_map(|(keys, limit)| Sort { keys, limit })
}

fn folds() -> impl Strategy<Value = Fold> {
    let arguments = prop::collection::vec(Just(Expression::Planned(col("a"))), 0..3);
    let flags = (any::<bool>(), any::<bool>());
    let order = prop::collection::vec(keys(), 0..3);
    let call = (".*", arguments, order, prop::option::of(".*"), flags, ".*").prop_map(
        |(function, arguments, order, filter, (is_distinct, ignores_nulls), name)| FoldCall {
            function,
            arguments,
            filter,
            order,
            is_distinct,
            ignores_nulls,
            name,
        },
    );
    let calls = prop::collection::vec(call, 0..3);
    let set = prop::collection::vec(any::<bool>(), 0..3);
    let sets = prop::collection::vec(set, 0..3);
    (any::<bool>(), names(), sets, calls).prop_map(|(is_final, keys, sets, calls)| Fold {
        phase: if is_final {
            AggregatePhase::Final
        } else {
            AggregatePhase::Partial
        },
        rows: Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)])),
        keys,
        sets,
        calls,
    })
}

fn windows() -> impl Strategy<Value = Window> {
    let frame = (0..3usize, bounds(), bounds()).prop_map(|(units, start, end)| {
        use WindowFrameUnits::{Groups, Range, Rows};
        WindowFrame::new_bounds([Rows, Range, Groups][units], start, end)
    });
    let arguments = prop::collection::vec(Just(Expression::Planned(col("a"))), 0..3);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let order = prop::collection::vec(keys(), 0..3);
    let call = (".*", arguments, order, frame, prop::option::of(".*"), flags).prop_map(
        |(function, arguments, order, frame, filter, flags)| WindowCall {
            name: format!("of {function}"),
            function,
            is_aggregate: flags.0,
            arguments,
            order,
            frame,
            filter,
            is_distinct: flags.1,
            ignores_nulls: flags.2,
        },
    );
    let calls = prop::collection::vec(call, 0..3);
    (names(), calls).prop_map(|(partition, calls)| Window {
        rows: Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)])),
        partition,
        calls,
    })
}

fn bounds() -> impl Strategy<Value = WindowFrameBound> {
    let distance = prop::option::of(any::<u64>()).prop_map(ScalarValue::UInt64);
    let days = prop::option::of(any::<i32>()).prop_map(ScalarValue::IntervalYearMonth);
    prop_oneof![
        distance.clone().prop_map(WindowFrameBound::Preceding),
        Just(WindowFrameBound::CurrentRow),
        distance.prop_map(WindowFrameBound::Following),
        days.prop_map(WindowFrameBound::Following),
    ]
}

fn joins() -> impl Strategy<Value = Join> {
    let kind = prop_oneof![
        Just(JoinKind::Inner),
        Just(JoinKind::FullOuter),
        Just(JoinKind::RightAnti),
        Just(JoinKind::LeftMark)
    ];
    let suffix = || prop::option::of("[a-z_]*");
    let naming = prop_oneof![
        Just(JoinNaming::Apart),
        (suffix(), suffix()).prop_map(|(left_suffix, right_suffix)| JoinNaming::KeysOnce {
            left_suffix,
            right_suffix
        }),
    ];
    let condition = prop::option::of(Just(Expression::Planned(col("a").gt(col("b")))));
    let keys = prop::collection::vec((".*", ".*"), 0..3);
    (kind, keys, any::<bool>(), condition, any::<bool>(), naming).prop_map(
        |(kind, keys, has_equal_nulls, condition, is_not_in, naming)| Join {
            kind,
            keys,
            has_equal_nulls,
            condition,
            is_not_in,
            naming,
        },
    )
}

fn keys() -> impl Strategy<Value = RangeKey> {
    (".*", any::<bool>(), any::<bool>()).prop_map(|(column, is_descending, has_nulls_first)| {
        RangeKey {
            column,
            is_descending,
            has_nulls_first,
        }
    })
}

fn partitioners() -> impl Strategy<Value = Partitioner> {
    let range = (prop::collection::vec(keys(), 0..3), any::<u32>());
    let by = prop_oneof![
        names().prop_map(|keys| PartitionBy::Hash { keys }),
        range.prop_map(|(keys, bounds_feed)| PartitionBy::Range { keys, bounds_feed }),
        any::<u64>().prop_map(|seed| PartitionBy::Random { seed }),
    ];
    (any::<u32>(), by).prop_map(|(partitions, by)| Partitioner { partitions, by })
}

fn tasks() -> impl Strategy<Value = StageTask> {
    let numbers = (
        any::<u64>(),
        prop::option::of(any::<u64>()),
        any::<u32>(),
        any::<u64>(),
    );
    let steps = prop::collection::vec(operators(), 0..5);
    (
        ".*",
        registered(),
        steps,
        prop::option::of(registered()),
        numbers,
        prop::option::of(partitioners()),
    )
        .prop_map(|(name, source, steps, sink, numbers, partitioner)| {
            let (block_bytes, row_limit, prefetch_batches, memory_bytes) = numbers;
            StageTask {
                even_rows: memory_bytes,
                name,
                source,
                steps,
                sink,
                block_bytes,
                growing_inputs: prefetch_batches.into(),
                row_limit,
                prefetch_batches,
                memory_bytes,
                partitioner,
                group: None,
            }
        })
}

proptest! {
    #[test]
    fn work_of_a_stage_survives_the_way_to_its_workers(task in tasks()) {
        let bytes = encode_task(&task).expect("text stays text").encode_to_vec();
        let spec = StageSpec::decode(&*bytes).expect("was encoded just now");
        prop_assert_eq!(decode_task(spec).expect("is whole"), task);
    }
}

#[test]
fn planned_expression_travels_without_the_name_of_its_table() {
    let filter = Expression::planned(&col("source.id").gt(lit(3))).expect("can be computed");
    let task = StageTask {
        name: String::new(),
        source: Registered {
            kind: String::new(),
            settings: Bytes::new(),
        },
        steps: vec![Operator::Filter(filter)],
        sink: None,
        block_bytes: 0,
        growing_inputs: 0,
        row_limit: None,
        prefetch_batches: 0,
        memory_bytes: 1 << 26,
        even_rows: 0,
        partitioner: None,
        group: None,
    };
    let decoded = decode_task(encode_task(&task).expect("was planned")).expect("is whole");
    let unqualified = Expression::Planned(col("id").gt(lit(3)));
    assert_eq!(decoded.steps, [Operator::Filter(unqualified)]);
}

#[test]
fn message_that_lacks_something_is_a_failure() {
    let failure = decode_task(StageSpec::default()).expect_err("has no source");
    assert!(failure.message.contains("has no source"), "{failure}");
}
