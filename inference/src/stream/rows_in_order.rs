//! An iterator over embedded record batches, in the order of the input.

use std::collections::VecDeque;
use std::iter::FusedIterator;

use arrow::array::RecordBatch;

use super::{BucketingEmbedder, PendingBatch};
use crate::error::EmbedError;

/// Windows of rows that are handed in ahead of the batch that is waited for: the one being computed, and the next.
const WINDOWS_AHEAD: usize = 2;

/// Embeds the batches of an iterator. See [`BucketingEmbedder::embed_all`].
///
/// A batch that fails gives its error in its place, and the iterator goes on.
pub struct EmbedStream<'embedder, I> {
    embedder: &'embedder BucketingEmbedder,
    input: Option<I>,
    under_way: VecDeque<(usize, Result<PendingBatch, EmbedError>)>,
    rows_under_way: usize,
}

impl<'embedder, I: Iterator<Item = RecordBatch>> EmbedStream<'embedder, I> {
    pub(super) fn new(embedder: &'embedder BucketingEmbedder, input: I) -> Self {
        Self {
            embedder,
            input: Some(input),
            under_way: VecDeque::new(),
            rows_under_way: 0,
        }
    }

    fn hand_in(&mut self) {
        let most_rows = self
            .embedder
            .options()
            .window_rows
            .saturating_mul(WINDOWS_AHEAD);
        while self.under_way.is_empty() || self.rows_under_way < most_rows {
            let Some(batch) = self.input.as_mut().and_then(Iterator::next) else {
                self.input = None;
                return;
            };
            let rows = batch.num_rows();
            self.rows_under_way += rows;
            self.under_way
                .push_back((rows, self.embedder.submit(batch)));
        }
    }
}

impl<I: Iterator<Item = RecordBatch>> Iterator for EmbedStream<'_, I> {
    type Item = Result<RecordBatch, EmbedError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.hand_in();
        let (rows, pending) = self.under_way.pop_front()?;
        self.rows_under_way -= rows;
        Some(pending.and_then(PendingBatch::wait))
    }
}

impl<I: Iterator<Item = RecordBatch>> FusedIterator for EmbedStream<'_, I> {}
