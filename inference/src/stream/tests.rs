//! INF-9 (one-batch-fails-alone): what becomes of the stream when the model fails. The encoder is a fake one.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;

use super::{BucketingEmbedder, StreamOptions};
use crate::config::{Backend, Device, TextEmbedderConfig};
use crate::core::token_batch::TokenBatch;
use crate::embedder::TextEmbedder;
use crate::encoder::Encoder;
use crate::error::{EmbedError, EncodeError, explain};
use crate::testing::{TINY_DIM, candle_library, write_tiny_model};

const DEADLINE: Duration = Duration::from_secs(60);
/// Texts of this many letters make the fake encoder fail or panic; `[CLS]` and `[SEP]` are two tokens more.
const FAILING: &str = "aaaaaaa";
const PANICKING: &str = "aaaaaaaaaaa";

/// Gives every row its number of tokens.
struct CountingEncoder;

impl Encoder for CountingEncoder {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn dim(&self) -> usize {
        TINY_DIM
    }

    fn encode(&mut self, batch: &TokenBatch, pooled: &mut [f32]) -> Result<(), EncodeError> {
        let failing = FAILING.len() + 2;
        for (row, vector) in pooled.chunks_exact_mut(TINY_DIM).enumerate() {
            let tokens = batch.row_tokens(row);
            assert_ne!(tokens, PANICKING.len() + 2, "the model blew up");
            if tokens == failing {
                return Err(EncodeError::Shape {
                    backend: "counting",
                    found: vec![0],
                    expected: vec![1],
                });
            }
            vector.fill(tokens as f32);
        }
        Ok(())
    }
}

/// Has room for so many tokens, padding included, and keeps the sizes of its batches.
struct CrampedEncoder {
    fits: usize,
    cells: Sender<usize>,
}

impl Encoder for CrampedEncoder {
    fn name(&self) -> &'static str {
        "cramped"
    }

    fn dim(&self) -> usize {
        TINY_DIM
    }

    fn encode(&mut self, batch: &TokenBatch, pooled: &mut [f32]) -> Result<(), EncodeError> {
        self.cells.send(batch.cells()).unwrap();
        if batch.cells() > self.fits {
            return Err(EncodeError::Backend {
                backend: "cramped",
                rows: batch.rows(),
                width: batch.width(),
                source: "CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"".into(),
            });
        }
        CountingEncoder.encode(batch, pooled)
    }
}

fn stream() -> BucketingEmbedder {
    // So small that every row makes a batch of its own.
    stream_of(Box::new(CountingEncoder), 1)
}

fn stream_of(encoder: Box<dyn Encoder>, token_budget: usize) -> BucketingEmbedder {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path()).unwrap();
    let mut embedder = TextEmbedder::load(TextEmbedderConfig {
        backend: Backend::Candle,
        device: Device::Cpu,
        normalize: false,
        candle_path: Some(candle_library()),
        token_budget: Some(token_budget),
        ..TextEmbedderConfig::new(folder.path())
    })
    .unwrap();
    embedder.encoders = vec![encoder];
    BucketingEmbedder::start(embedder, StreamOptions::new("text")).unwrap()
}

fn batch(texts: &[&str]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    RecordBatch::try_from_iter([("text", texts)]).unwrap()
}

fn first_numbers(batch: &RecordBatch) -> Vec<f32> {
    let column = batch.column(1).as_fixed_size_list();
    (0..column.len())
        .map(|row| column.value(row).as_primitive::<Float32Type>().value(0))
        .collect()
}

#[test]
fn failing_batch_ends_with_the_models_error_and_the_others_go_on() {
    let stream = stream();
    let input = [
        batch(&["a", "b c"]),
        batch(&["a", FAILING, "b"]),
        batch(&["a b c", "a"]),
    ];
    let mut output = stream.embed_all(input);
    assert_eq!(first_numbers(&output.next().unwrap().unwrap()), [3.0, 4.0]);
    let error = output.next().unwrap().unwrap_err();
    assert!(matches!(error, EmbedError::Encode { .. }));
    assert!(
        explain(&error).contains("use the answer of counting"),
        "{}",
        explain(&error)
    );
    assert_eq!(first_numbers(&output.next().unwrap().unwrap()), [5.0, 3.0]);
    assert!(output.next().is_none());
}

#[test]
fn batch_without_memory_is_computed_in_halves_and_later_ones_are_smaller() {
    let (cells, seen) = channel();
    let stream = stream_of(Box::new(CrampedEncoder { fits: 20, cells }), 64);
    let texts = ["a"; 64];
    for _ in 0..2 {
        let output = stream.embed(batch(&texts)).unwrap();
        assert_eq!(first_numbers(&output), [3.0; 64]);
    }
    let seen: Vec<usize> = seen.try_iter().collect();
    assert!(seen[0] > 20, "{seen:?}");
    // Rows of the first window were cut before; all of the second come in batches that fit.
    let late = &seen[seen.len() - 8..];
    assert!(late.iter().all(|&cells| cells <= 20), "{seen:?}");
    // A row that finds none alone has failed.
    let error = stream
        .embed(batch(&["a b c d e f g h i j k l m n o p q r s t", "a"]))
        .unwrap_err();
    assert!(explain(&error).contains("out of memory"), "{error}");
}

#[test]
fn panicking_model_is_an_error_that_names_its_thread() {
    let stream = stream();
    let error = stream.embed(batch(&[PANICKING])).unwrap_err().to_string();
    assert!(
        error.contains("aktis-encode-0") && error.contains("the model blew up"),
        "{error}"
    );
    assert_eq!(first_numbers(&stream.embed(batch(&["a"])).unwrap()), [3.0]);
}

#[test]
fn failed_rows_make_room_for_others() {
    let stream = stream();
    for _ in 0..100 {
        stream.embed(batch(&[FAILING; 200])).unwrap_err();
    }
    assert_eq!(first_numbers(&stream.embed(batch(&["a"])).unwrap()), [3.0]);
}

#[test]
fn pending_batch_can_be_awaited() {
    struct Signal(Sender<()>);
    impl Wake for Signal {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let stream = stream();
    let (sender, woken) = channel();
    let waker = Waker::from(Arc::new(Signal(sender)));
    let mut context = Context::from_waker(&waker);
    let mut pending = pin!(stream.submit(batch(&["a", "a b"])).unwrap());
    let output = loop {
        match pending.as_mut().poll(&mut context) {
            Poll::Ready(output) => break output.unwrap(),
            Poll::Pending => woken.recv_timeout(DEADLINE).unwrap(),
        }
    };
    assert_eq!(first_numbers(&output), [3.0, 4.0]);
}
