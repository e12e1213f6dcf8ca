//! The stream of record batches: INF-7 to INF-10, on a tiny model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use aktis_inference::{BucketingEmbedder, EmbedError, StreamOptions, TextEmbedder, embedding_type};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::datatypes::{DataType, Float32Type};
use common::{cosine, tiny_config, tiny_model};

/// Far more than any of these tests needs; a test that reaches it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

fn embedder(window_rows: usize) -> BucketingEmbedder {
    let folder = tiny_model();
    let embedder = TextEmbedder::load(tiny_config(folder.path())).unwrap();
    BucketingEmbedder::start(
        embedder,
        StreamOptions {
            window_rows,
            ..StreamOptions::new("text")
        },
    )
    .unwrap()
}

fn batch(first: usize, texts: Vec<Option<String>>) -> RecordBatch {
    let ids = Int64Array::from_iter_values((first..first + texts.len()).map(|id| id as i64));
    let texts = StringArray::from(texts);
    RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("text", Arc::new(texts) as ArrayRef),
    ])
    .unwrap()
}

/// Texts of very different lengths, some of them null or empty.
fn text(row: usize) -> Option<String> {
    match row % 11 {
        3 => None,
        5 => Some(String::new()),
        _ => Some(
            (0..(row * 7) % 40)
                .map(|word| format!("{} ", (row + word) % 10))
                .collect(),
        ),
    }
}

fn vector(batch: &RecordBatch, row: usize) -> Option<Vec<f32>> {
    let column = batch
        .column_by_name("embedding")
        .unwrap()
        .as_fixed_size_list();
    column.is_valid(row).then(|| {
        column
            .value(row)
            .as_primitive::<Float32Type>()
            .values()
            .to_vec()
    })
}

/// INF-7 (rows-stay-put)
#[test]
fn every_row_gets_the_vector_of_its_own_text() {
    let stream = embedder(50);
    let sizes = [1, 0, 300, 7, 64, 2, 500];
    let mut first = 0;
    let input: Vec<RecordBatch> = sizes
        .iter()
        .map(|&rows| {
            first += rows;
            batch(first - rows, (first - rows..first).map(text).collect())
        })
        .collect();
    let output: Vec<RecordBatch> = stream
        .embed_all(input.clone())
        .map(Result::unwrap)
        .collect();

    let folder = tiny_model();
    let mut alone = TextEmbedder::load(tiny_config(folder.path())).unwrap();
    assert_eq!(output.len(), input.len());
    for (input, output) in input.iter().zip(&output) {
        assert_eq!(
            output.schema(),
            stream.output_schema(input.schema_ref()).unwrap()
        );
        assert_eq!(output.columns()[..2], input.columns()[..]);
        for row in 0..input.num_rows() {
            let text = input.column(1).as_string::<i32>();
            let Some(found) = vector(output, row) else {
                assert!(text.is_null(row), "a vector is null where the text is");
                continue;
            };
            let expected = alone
                .embed(&StringArray::from(vec![text.value(row)]))
                .unwrap()
                .value(0);
            let cosine = cosine(&found, expected.as_primitive::<Float32Type>().values());
            assert!(cosine > 0.9999, "row {row}: cosine {cosine}");
        }
    }
    let stats = stream.stats();
    assert_eq!(
        stats.rows as usize,
        (0..first).filter(|&row| text(row).is_some()).count()
    );
    assert!(stats.padded_tokens >= stats.tokens && stats.batches > 0);
}

#[test]
fn rows_of_several_record_batches_share_the_models_batches() {
    let stream = embedder(1000);
    let input = (0..200).map(|id| batch(id, vec![Some("1 2 3".to_owned())]));
    assert_eq!(stream.embed_all(input).map(Result::unwrap).count(), 200);
    assert!(stream.stats().batches < 150, "{:?}", stream.stats());
}

#[test]
fn all_string_layouts_are_embedded() {
    let stream = embedder(100);
    let texts = vec![Some("a"), None, Some("b c")];
    let layouts: [ArrayRef; 3] = [
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts)),
    ];
    let vectors = layouts.map(|array| {
        let output = stream
            .embed(RecordBatch::try_from_iter([("text", array)]).unwrap())
            .unwrap();
        (0..3).map(|row| vector(&output, row)).collect::<Vec<_>>()
    });
    assert!(vectors[0][1].is_none());
    assert_eq!(vectors[0], vectors[1]);
    assert_eq!(vectors[0], vectors[2]);
}

/// INF-8 (bounded)
#[test]
fn submit_blocks_while_three_windows_are_under_way_and_then_goes_on() {
    let stream = embedder(4);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..100 {
                let rows = batch(
                    id * 10,
                    (0..10).map(|_| Some("1 2 3 4".to_owned())).collect(),
                );
                sender.send(stream.submit(rows).unwrap()).unwrap();
            }
            drop(sender);
        });
        let mut batches = 0;
        while let Ok(pending) = receiver.recv_timeout(DEADLINE) {
            assert_eq!(pending.wait().unwrap().num_rows(), 10);
            batches += 1;
        }
        assert_eq!(batches, 100);
    });
}

/// INF-10 (nobody-waits-for-ever)
#[test]
fn dropping_the_embedder_ends_what_is_under_way() {
    let stream = embedder(1000);
    let pending: Vec<_> = (0..20)
        .map(|id| {
            stream
                .submit(batch(id * 100, (0..100).map(text).collect()))
                .unwrap()
        })
        .collect();
    drop(stream);
    for pending in pending {
        assert!(matches!(pending.wait(), Ok(_) | Err(EmbedError::Closed)));
    }
}

#[test]
fn abandoned_batches_do_not_hold_up_the_others() {
    let stream = embedder(20);
    for id in 0..30 {
        drop(
            stream
                .submit(batch(id * 50, (0..50).map(text).collect()))
                .unwrap(),
        );
    }
    let output = stream.embed(batch(0, vec![Some("7".to_owned())])).unwrap();
    assert!(vector(&output, 0).is_some());
}

#[test]
fn batches_without_texts_are_done_at_once() {
    let stream = embedder(20);
    let empty = stream.submit(batch(0, Vec::new())).unwrap();
    assert!(empty.is_ready());
    assert_eq!(empty.wait().unwrap().num_rows(), 0);
    let nulls = stream.embed(batch(0, vec![None, None])).unwrap();
    assert_eq!(nulls.column_by_name("embedding").unwrap().null_count(), 2);
}

#[test]
fn output_schema_adds_the_embeddings_and_keeps_the_rest() {
    let stream = embedder(20);
    let input = batch(0, Vec::new()).schema();
    let output = stream.output_schema(&input).unwrap();
    assert_eq!(output.fields()[..2], input.fields()[..]);
    let field = output.field_with_name("embedding").unwrap();
    assert_eq!(field.data_type(), &embedding_type(stream.dim()));
    assert!(!field.is_nullable(), "as the text column");
    let with_nulls = batch(0, vec![None]).schema();
    assert!(
        stream
            .output_schema(&with_nulls)
            .unwrap()
            .field_with_name("embedding")
            .unwrap()
            .is_nullable()
    );
}

#[test]
fn missing_column_is_refused_with_the_columns_there_are() {
    let stream = embedder(20);
    let numbers = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let error = stream
        .embed(RecordBatch::try_from_iter([("body", numbers)]).unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "find the text column `text`: the input has the columns `body`"
    );
}

#[test]
fn column_of_another_type_is_refused_with_its_type() {
    let stream = embedder(20);
    let numbers = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let error = stream
        .embed(RecordBatch::try_from_iter([("text", numbers)]).unwrap())
        .unwrap_err();
    assert!(
        matches!(
            &error,
            EmbedError::ColumnType {
                found: DataType::Int64,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn taken_output_column_is_refused() {
    let stream = embedder(20);
    let texts = Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
    let taken =
        RecordBatch::try_from_iter([("text", Arc::clone(&texts)), ("embedding", texts)]).unwrap();
    let error = stream.embed(taken).unwrap_err().to_string();
    assert!(
        error.contains("`embedding`") && error.contains("choose another output column"),
        "{error}"
    );
}
