//! The two loops of a stream: tokenise chunks, encode batches.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::queues::{Chunk, Queues, RowKey, TokenRow};
use crate::core::token_batch::TokenBatch;
use crate::embedder::{EncodeSettings, embed_rows};
use crate::encoder::Encoder;
use crate::error::{EmbedError, EncodeError, explain};
use crate::memory::says_out_of_memory;
use crate::tokenize::TextTokenizer;

/// Tokenises chunks until the queues are closed.
pub(super) fn tokenize(queues: &Queues, tokenizer: &TextTokenizer) {
    while let Some(chunk) = queues.next_chunk() {
        let wanted = chunk
            .rows
            .clone()
            .filter(|&row| chunk.texts_of(row).is_some())
            .count();
        let rows = catch_unwind(AssertUnwindSafe(|| tokenize_chunk(&chunk, tokenizer)))
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        match rows {
            Ok(rows) => {
                let failed = wanted - rows.len();
                queues.tokenized(rows, failed);
            }
            Err(error) => {
                chunk.slot.fail(error);
                queues.tokenized(Vec::new(), wanted);
            }
        }
    }
}

/// The rows of a chunk with their tokens; none if nobody waits for them any more.
fn tokenize_chunk(chunk: &Chunk, tokenizer: &TextTokenizer) -> Result<Vec<TokenRow>, EmbedError> {
    if !chunk.slot.is_filling() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::with_capacity(chunk.rows.len());
    for row in chunk.rows.clone() {
        let Some((first, second)) = chunk.texts_of(row) else {
            continue;
        };
        let tokens = tokenizer
            .tokens(first, second)
            .map_err(|source| EmbedError::Tokenize {
                row,
                source: Arc::new(source),
            })?;
        rows.push(TokenRow {
            key: RowKey {
                slot: Arc::clone(&chunk.slot),
                row,
            },
            tokens,
        });
    }
    Ok(rows)
}

/// Encodes batches until the queues are closed. An error, or a panic, is that of the rows of its batch (`INF-9`); a batch that finds no
/// memory is computed in halves, and later ones are smaller.
pub(super) fn encode(queues: &Queues, mut encoder: Box<dyn Encoder>, settings: EncodeSettings) {
    let mut scratch = TokenBatch::default();
    while let Some(rows) = queues.next_batch() {
        let mut waiting = vec![rows.as_slice()];
        while let Some(rows) = waiting.pop() {
            let start = Instant::now();
            let vectors = catch_unwind(AssertUnwindSafe(|| {
                embed_rows(encoder.as_mut(), &mut scratch, rows, settings)
                    .map_err(|source| encode_error(rows.len(), source))
            }))
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            match vectors {
                Ok(vectors) => {
                    for (row, vector) in rows.iter().zip(vectors.chunks_exact(settings.dim)) {
                        row.key.slot.place(row.key.row, vector);
                    }
                    queues.encoded(&scratch, start.elapsed());
                }
                Err(error) if rows.len() > 1 && says_out_of_memory(&explain(&error)) => {
                    queues.found_no_memory(scratch.cells());
                    let (first, second) = rows.split_at(rows.len() / 2);
                    waiting.extend([second, first]);
                }
                Err(error) => {
                    for row in rows {
                        row.key.slot.fail(error.clone());
                    }
                    queues.encode_failed(rows.len());
                }
            }
        }
    }
}

fn encode_error(rows: usize, source: EncodeError) -> EmbedError {
    EmbedError::Encode {
        rows,
        source: Arc::new(source),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> EmbedError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let thread = std::thread::current()
        .name()
        .unwrap_or("unnamed")
        .to_owned();
    EmbedError::Panicked { thread, message }
}
