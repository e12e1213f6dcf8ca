//! Whatever can be written as an expression arrives as it left.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::metadata::FieldMetadata;
use datafusion_common::{Column, DFSchema, ScalarValue};
use datafusion_expr::expr::{Alias, Between, BinaryExpr, Case, Cast, InList, Like, TryCast};
use datafusion_expr::{Expr, col, lit};
use proptest::prelude::*;
use prost::Message;

use super::symbols::OPERATORS;
use super::{ExpressionSpec, decode_expression, encode_expression};
use crate::plan::planner::planner;

fn there_and_back(expr: &Expr) -> Expr {
    let bytes = encode_expression(expr).expect("can travel").encode_to_vec();
    let spec = ExpressionSpec::decode(&*bytes).expect("was encoded just now");
    decode_expression(spec).expect("is whole")
}

fn types() -> impl Strategy<Value = DataType> {
    let plain = prop_oneof![
        Just(DataType::Boolean),
        Just(DataType::Int8),
        Just(DataType::UInt64),
        Just(DataType::Float32),
        Just(DataType::Float16),
        Just(DataType::Utf8),
        Just(DataType::LargeUtf8),
        Just(DataType::Utf8View),
        Just(DataType::Binary),
        Just(DataType::FixedSizeBinary(3)),
        Just(DataType::Date32),
        Just(DataType::Time64(TimeUnit::Nanosecond)),
        Just(DataType::Timestamp(TimeUnit::Second, None)),
        Just(DataType::Timestamp(
            TimeUnit::Nanosecond,
            Some("Europe/Berlin".into())
        )),
        Just(DataType::Duration(TimeUnit::Millisecond)),
        Just(DataType::Decimal128(20, -2)),
        Just(DataType::Decimal256(60, 30)),
    ];
    plain.prop_recursive(2, 6, 2, |inner| {
        let field = |inner: BoxedStrategy<DataType>| {
            ("[a-zß.]{0,4}", inner, any::<bool>())
                .prop_map(|(name, kind, is_nullable)| Arc::new(Field::new(name, kind, is_nullable)))
        };
        prop_oneof![
            field(inner.clone().boxed()).prop_map(DataType::List),
            field(inner.clone().boxed()).prop_map(|item| DataType::FixedSizeList(item, 2)),
            prop::collection::vec(field(inner.boxed()), 1..3)
                .prop_map(|fields| DataType::Struct(fields.into())),
        ]
    })
}

fn metadata() -> impl Strategy<Value = Option<FieldMetadata>> {
    let map = prop::collection::btree_map("[a-z]{1,3}", ".{0,3}", 0..2);
    prop::option::weighted(0.2, map.prop_map(FieldMetadata::new))
}

fn values() -> impl Strategy<Value = ScalarValue> {
    let texts = || prop::option::of(".{0,8}");
    let numbers = prop_oneof![
        any::<Option<i64>>().prop_map(ScalarValue::Int64),
        any::<Option<u8>>().prop_map(ScalarValue::UInt8),
        any::<Option<f64>>().prop_map(ScalarValue::Float64),
        any::<Option<bool>>().prop_map(ScalarValue::Boolean),
        any::<Option<i128>>().prop_map(|value| ScalarValue::Decimal128(value, 38, 7)),
    ];
    let times = prop_oneof![
        any::<Option<i32>>().prop_map(ScalarValue::Date32),
        any::<Option<i64>>()
            .prop_map(|value| ScalarValue::TimestampNanosecond(value, Some("+01:00".into()))),
        any::<Option<i64>>().prop_map(ScalarValue::DurationMicrosecond),
    ];
    let nested = prop::collection::vec(any::<Option<i32>>(), 0..3).prop_map(|items| {
        let items: Vec<ScalarValue> = items.into_iter().map(ScalarValue::Int32).collect();
        ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Int32))
    });
    prop_oneof![
        numbers,
        times,
        texts().prop_map(ScalarValue::Utf8),
        texts().prop_map(ScalarValue::Utf8View),
        any::<Option<Vec<u8>>>().prop_map(ScalarValue::LargeBinary),
        Just(ScalarValue::Null),
        nested,
        types().prop_map(|kind| ScalarValue::try_from(&kind).expect("has a null")),
    ]
}

fn leaves() -> impl Strategy<Value = Expr> {
    prop_oneof![
        ".{0,6}".prop_map(|name| Expr::Column(Column::new_unqualified(name))),
        (values(), metadata()).prop_map(|(value, marks)| Expr::Literal(value, marks)),
    ]
}

fn tests_of(inner: BoxedStrategy<Expr>) -> impl Strategy<Value = Expr> {
    (0..10, inner).prop_map(|(kind, expr)| {
        let expr = Box::new(expr);
        match kind {
            0 => Expr::Not(expr),
            1 => Expr::Negative(expr),
            2 => Expr::IsNull(expr),
            3 => Expr::IsNotNull(expr),
            4 => Expr::IsTrue(expr),
            5 => Expr::IsNotTrue(expr),
            6 => Expr::IsFalse(expr),
            7 => Expr::IsNotFalse(expr),
            8 => Expr::IsUnknown(expr),
            _ => Expr::IsNotUnknown(expr),
        }
    })
}

fn patterns(inner: BoxedStrategy<Expr>) -> impl Strategy<Value = Expr> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (inner.clone(), inner, flags, any::<Option<char>>()).prop_map(
        |(expr, pattern, (negated, case_insensitive, is_similar), escape_char)| {
            let like = Like {
                negated,
                expr: Box::new(expr),
                pattern: Box::new(pattern),
                escape_char,
                case_insensitive,
            };
            if is_similar {
                Expr::SimilarTo(like)
            } else {
                Expr::Like(like)
            }
        },
    )
}

fn cases(inner: BoxedStrategy<Expr>) -> impl Strategy<Value = Expr> {
    let some = || prop::option::of(inner.clone().prop_map(Box::new));
    let pair = (
        inner.clone().prop_map(Box::new),
        inner.clone().prop_map(Box::new),
    );
    (some(), prop::collection::vec(pair, 0..3), some()).prop_map(
        |(expr, when_then_expr, else_expr)| {
            Expr::Case(Case {
                expr,
                when_then_expr,
                else_expr,
            })
        },
    )
}

fn casts(inner: BoxedStrategy<Expr>) -> impl Strategy<Value = Expr> {
    let named = (inner.clone(), "[a-z]{0,3}", metadata()).prop_map(|(expr, name, metadata)| {
        Expr::Alias(Alias {
            expr: Box::new(expr),
            relation: None,
            name,
            metadata,
        })
    });
    let cast = (inner, types(), any::<bool>()).prop_map(|(expr, kind, is_nullable)| {
        let (expr, field) = (Box::new(expr), Arc::new(Field::new("", kind, is_nullable)));
        if is_nullable {
            Expr::Cast(Cast { expr, field })
        } else {
            Expr::TryCast(TryCast { expr, field })
        }
    });
    prop_oneof![named, cast]
}

fn expressions() -> impl Strategy<Value = Expr> {
    leaves().prop_recursive(5, 40, 4, |inner| {
        let inner = inner.boxed();
        let operator = prop::sample::select(&OPERATORS[..]);
        let three = (inner.clone(), inner.clone(), inner.clone(), any::<bool>());
        let list = prop::collection::vec(inner.clone(), 0..4);
        let function = prop::sample::select(vec![
            "upper",
            "concat",
            "coalesce",
            "array_sort",
            "get_field",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(left, op, right)| {
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
            }),
            tests_of(inner.clone()),
            patterns(inner.clone()),
            three.prop_map(|(expr, low, high, negated)| Expr::Between(Between {
                expr: Box::new(expr),
                negated,
                low: Box::new(low),
                high: Box::new(high),
            })),
            (inner.clone(), list.clone(), any::<bool>()).prop_map(|(expr, list, negated)| {
                Expr::InList(InList {
                    expr: Box::new(expr),
                    list,
                    negated,
                })
            }),
            cases(inner.clone()),
            casts(inner),
            (function, list).prop_map(|(name, args)| {
                planner().scalar(name).expect("is registered").call(args)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn expressions_arrive_as_they_left(expr in expressions()) {
        prop_assert_eq!(there_and_back(&expr), expr);
    }
}

#[test]
fn what_sql_can_say_arrives_as_it_left() {
    let fields = vec![
        Field::new("Id", DataType::Int32, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("a.b", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new_list("tags", Field::new_list_field(DataType::Utf8, true), true),
    ];
    let schema = DFSchema::from_unqualified_fields(fields.into(), Default::default());
    let schema = schema.expect("names are distinct");
    for text in [
        "Id > 3 AND text <> 'it''s' OR \"a.b\" / 2 >= 0.25",
        "text LIKE 'a%' AND length(text) < 10 AND text SIMILAR TO 'a|b'",
        "Id IN (1, 2, 3) AND NOT (Id BETWEEN 1 AND 5)",
        "at >= '2026-01-01T00:00:00' AND at < now() - INTERVAL '1 day'",
        "CAST(Id AS VARCHAR) = '7' OR TRY_CAST(text AS INT) = 7",
        "CASE WHEN Id > 1 THEN text ELSE upper(text) END IS NOT NULL",
        "tags[1] = 'x' AND array_length(tags) > 1 AND text ~ '^a' AND EXTRACT(YEAR FROM at) = 2026",
    ] {
        let expr = planner().logical(text, &schema).expect(text);
        let again = there_and_back(&expr);
        assert_eq!(again, expr, "{text}");
        planner().physical(again, &schema).expect(text);
    }
}

#[test]
fn tree_of_a_thousand_conditions_travels() {
    let conditions = (0..1000).map(|number| col("id").not_eq(lit(number)));
    let all = conditions.reduce(Expr::and).expect("there are some");
    let spec = encode_expression(&all).expect("can travel");
    assert_eq!(spec.literals.len(), 1, "all numbers lie in one stream");
    let bytes = spec.encode_to_vec();
    let again = ExpressionSpec::decode(&*bytes).expect("no message lies in a message");
    assert_eq!(decode_expression(again).expect("is whole"), all);
}

#[test]
fn damaged_message_is_an_error() {
    let spec =
        encode_expression(&col("a").gt(lit(1)).and(col("b").lt(lit(2)))).expect("can travel");
    for index in 0..spec.nodes.len() {
        let mut shorter = spec.clone();
        shorter.nodes.remove(index);
        assert!(decode_expression(shorter).is_err(), "without node {index}");
    }
    let mut without_values = spec;
    without_values.literals.clear();
    assert!(decode_expression(without_values).is_err());
}
