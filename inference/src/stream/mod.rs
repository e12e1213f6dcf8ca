//! Embeds a stream of record batches: rows of several batches share the model's batches, and tokenising goes on while
//! the model runs.
//!
//! ```text
//!  submit(batch) ─► chunks ─► aktis-tokenize-N ─► window: sorted by length,  ─► aktis-encode-N ─► slot of the batch
//!      │            of rows     (TextTokenizer)     cut by token budget          (Encoder)             │
//!      └────────────────────── PendingBatch ◄──────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - INF-7 (rows-stay-put): an output batch has the rows of its input batch, in their order, whatever was computed first.
//! - INF-8 (bounded): `submit` blocks while as many rows are under way as three windows hold.
//! - INF-9 (one-batch-fails-alone): a batch whose rows cannot be embedded ends with an error; the others go on, except
//!   those that shared a model batch with it.
//! - INF-10 (nobody-waits-for-ever): dropping the embedder ends every waiting batch with [`EmbedError::Closed`].

mod queues;
mod rows_in_order;
mod slot;
mod threads;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

pub use self::rows_in_order::EmbedStream;
pub use self::slot::PendingBatch;

use self::queues::{Chunk, Queues};
use self::slot::Slot;
use crate::config::Device;
use crate::embedder::TextEmbedder;
use crate::embedding_array::schema_with_embeddings;
use crate::error::{EmbedError, LoadError};
use crate::text_column::TextColumn;

/// Rows that one tokenising thread takes at a time.
const CHUNK_ROWS: usize = 256;
/// Windows of rows that may be under way: one being computed, one being gathered, one not yet tokenised.
const WINDOWS_UNDER_WAY: usize = 3;
/// Encoders on a CPU that one tokenising thread keeps busy, with room to spare: a row takes a hundred times longer to
/// compute than to tokenise.
const ENCODERS_PER_TOKENIZER: usize = 16;
/// Tokenising threads for one GPU.
const TOKENIZERS_PER_GPU: usize = 4;

/// Columns and sizes of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// The column with the texts.
    pub text_column: String,
    /// The column with a second text for each, where the model reads pairs.
    #[serde(default)]
    pub second_column: Option<String>,
    /// The column that is added.
    #[serde(default = "default_output_column")]
    pub output_column: String,
    /// Rows that are sorted by length together. More rows mean less padding (2048 rows and 512 tokens per batch: under
    /// 1 % on real text) and later results.
    #[serde(default = "default_window_rows")]
    pub window_rows: usize,
    /// Threads that tokenise. `None`: one for sixteen encoders on a CPU, four for a GPU.
    #[serde(default)]
    pub tokenizer_threads: Option<usize>,
}

fn default_output_column() -> String {
    "embedding".to_owned()
}

fn default_window_rows() -> usize {
    2048
}

impl StreamOptions {
    /// The defaults: column `embedding` is added, windows of 2048 rows.
    pub fn new(text_column: impl Into<String>) -> Self {
        Self {
            text_column: text_column.into(),
            second_column: None,
            output_column: default_output_column(),
            window_rows: default_window_rows(),
            tokenizer_threads: None,
        }
    }

    /// The columns that the model reads.
    pub fn text_columns(&self) -> impl Iterator<Item = &str> {
        let second = self.second_column.as_deref();
        [self.text_column.as_str()].into_iter().chain(second)
    }
}

/// What a stream has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Rows embedded, nulls left out.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their tokens and the padding between them: what the model computed.
    pub padded_tokens: u64,
    /// Batches the model ran.
    pub batches: u64,
    /// Time the encoders spent computing, summed over them.
    pub encode_time: Duration,
}

/// A text embedder at work on a stream of record batches, with threads of its own.
///
/// `submit` and `embed` take `&self`: several threads may feed one embedder, and their rows share its batches.
pub struct BucketingEmbedder {
    queues: Arc<Queues>,
    threads: Vec<JoinHandle<()>>,
    options: StreamOptions,
    dim: usize,
}

impl BucketingEmbedder {
    /// Starts the threads.
    pub fn start(embedder: TextEmbedder, options: StreamOptions) -> Result<Self, LoadError> {
        for (setting, value) in [
            ("window_rows", Some(options.window_rows)),
            ("tokenizer_threads", options.tokenizer_threads),
        ] {
            if value == Some(0) {
                return Err(LoadError::Setting {
                    setting,
                    value: 0,
                    reason: "at least 1 is needed".to_owned(),
                });
            }
        }
        let tokenizers = options
            .tokenizer_threads
            .unwrap_or(match embedder.device() {
                Device::Cuda(_) => TOKENIZERS_PER_GPU,
                Device::Cpu | Device::Auto => embedder.replicas().div_ceil(ENCODERS_PER_TOKENIZER),
            });
        let queues = Arc::new(Queues::new(
            embedder.settings.token_budget,
            options.window_rows,
            options.window_rows.saturating_mul(WINDOWS_UNDER_WAY),
        ));
        let dim = embedder.dim();
        // Dropped on an early return, which ends the threads that did start.
        let mut stream = Self {
            queues,
            threads: Vec::new(),
            options,
            dim,
        };
        for index in 0..tokenizers {
            let (queues, tokenizer) = (Arc::clone(&stream.queues), embedder.tokenizer.clone());
            stream.spawn(format!("aktis-tokenize-{index}"), move || {
                threads::tokenize(&queues, &tokenizer)
            })?;
        }
        for (index, encoder) in embedder.encoders.into_iter().enumerate() {
            let (queues, settings) = (Arc::clone(&stream.queues), embedder.settings);
            stream.spawn(format!("aktis-encode-{index}"), move || {
                threads::encode(&queues, encoder, settings)
            })?;
        }
        Ok(stream)
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), LoadError> {
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(work)
            .map_err(|source| LoadError::Thread {
                name,
                source: Box::new(source),
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Columns and sizes.
    pub fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// The schema of the output for this input: the input's columns and, last, the embeddings.
    pub fn output_schema(&self, input: &Schema) -> Result<SchemaRef, EmbedError> {
        schema_with_embeddings(
            input,
            self.options.text_columns(),
            &self.options.output_column,
            self.dim,
        )
    }

    /// Hands a batch in, and returns at once unless three windows of rows are under way (INF-8).
    pub fn submit(&self, batch: RecordBatch) -> Result<PendingBatch, EmbedError> {
        let schema = self.output_schema(batch.schema_ref())?;
        let texts = TextColumn::from_batch(&batch, &self.options.text_column)?;
        let second = self.options.second_column.as_ref();
        let seconds = second
            .map(|column| TextColumn::from_batch(&batch, column))
            .transpose()?;
        let rows = texts.len();
        let of_seconds = seconds.as_ref().and_then(TextColumn::validity);
        let validity = NullBuffer::union(texts.validity().as_ref(), of_seconds.as_ref());
        let nulls = validity.as_ref().map_or(0, NullBuffer::null_count);
        let slot = Arc::new(Slot::new(batch, schema, validity, self.dim));
        let chunks = (0..rows)
            .step_by(CHUNK_ROWS)
            .map(|start| Chunk {
                slot: Arc::clone(&slot),
                texts: texts.clone(),
                seconds: seconds.clone(),
                rows: start..(start + CHUNK_ROWS).min(rows),
            })
            .collect();
        self.queues.submit(chunks, rows - nulls)?;
        Ok(PendingBatch::new(slot))
    }

    /// Hands a batch in and waits for it.
    pub fn embed(&self, batch: RecordBatch) -> Result<RecordBatch, EmbedError> {
        self.submit(batch)?.wait()
    }

    /// Embeds the batches of `input`, which come out in the same order. Keeps enough of them under way that the model
    /// never waits, if `input` is fast enough.
    pub fn embed_all<I: IntoIterator<Item = RecordBatch>>(
        &self,
        input: I,
    ) -> EmbedStream<'_, I::IntoIter> {
        EmbedStream::new(self, input.into_iter())
    }

    /// What was done so far.
    pub fn stats(&self) -> StreamStats {
        self.queues.stats()
    }
}

impl Drop for BucketingEmbedder {
    fn drop(&mut self) {
        self.queues.close();
        for thread in self.threads.drain(..) {
            // A panic inside was turned into an error of the rows concerned; what is left is nobody's.
            let _ = thread.join();
        }
    }
}
