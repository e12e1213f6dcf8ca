//! Workers of several kinds do the same input, with calls of other numbers of rows.

use super::failing_tests::{evened_worker, failing, run_in};
use super::*;
use crate::graph::MapCall;
use crate::plan::MapSpec;
use crate::testing::test_map;
use crate::wire::failing::FailingSpec;

/// What a worker gives whose calls have so many rows.
fn given(spec: MapSpec, even_rows: u64, input: InputSpec) -> (Vec<Vec<i64>>, Vec<u64>) {
    let step = Operator::Map(MapCall::of(&spec));
    run_in(evened_worker(vec![step], even_rows), input).expect("goes on")
}

/// STG-2 (same-cut-every-time), where rows are left out, too.
#[test]
fn workers_with_other_calls_cut_the_same_blocks() {
    let given = |call_rows: usize, even_rows: u64| {
        let input = InputSpec {
            failing: Some(FailingSpec::default()),
            ..InputSpec::default()
        };
        given(failing("fail at 7", call_rows), even_rows, input)
    };
    assert_ne!(given(16, 0), given(5, 0), "where nothing is done about it");
    let first = given(16, 16);
    assert_eq!(first.1, [7]);
    for call_rows in [1, 5, 50] {
        assert_eq!(given(call_rows, 16), first, "{call_rows}");
    }
}

/// EXE-3 (every-split-once)
#[test]
fn worker_goes_on_with_what_one_of_another_kind_has_begun() {
    let given = |call_rows: usize, input: InputSpec| {
        let spec = MapSpec {
            batch_rows: Some(call_rows),
            ..test_map("pass")
        };
        given(spec, 16, input).0
    };
    let all = given(16, InputSpec::default());
    assert!(all.len() > 1);
    let rest = InputSpec {
        skip_blocks: 1,
        skip_rows: all[0].len() as u64,
        ..InputSpec::default()
    };
    assert_eq!(given(5, rest), all[1..]);
}
