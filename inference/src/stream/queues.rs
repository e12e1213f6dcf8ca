//! What the threads of a stream share: chunks to tokenise, the window of tokenised rows, and the room there is.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::StreamStats;
use super::slot::Slot;
use crate::core::token_batch::TokenBatch;
use crate::core::window::{Window, WindowRow};
use crate::error::EmbedError;
use crate::text_column::TextColumn;

/// Rows of one record batch, to be tokenised by one thread.
pub(super) struct Chunk {
    pub(super) slot: Arc<Slot>,
    pub(super) texts: TextColumn,
    /// The second text of each row, where the model reads pairs.
    pub(super) seconds: Option<TextColumn>,
    pub(super) rows: Range<usize>,
}

impl Chunk {
    /// What a row has the model read; `None`: it is null.
    pub(super) fn texts_of(&self, row: usize) -> Option<(&str, Option<&str>)> {
        let first = self.texts.text(row)?;
        match &self.seconds {
            Some(seconds) => Some((first, Some(seconds.text(row)?))),
            None => Some((first, None)),
        }
    }
}

/// Where a row's vector goes.
pub(super) struct RowKey {
    pub(super) slot: Arc<Slot>,
    pub(super) row: usize,
}

/// A row with its token ids.
pub(super) type TokenRow = WindowRow<RowKey>;

/// The queues, with one condition per kind of waiter.
pub(super) struct Queues {
    state: Mutex<State>,
    has_room: Condvar,
    has_chunk: Condvar,
    has_row: Condvar,
    window_rows: usize,
    most_rows: usize,
}

struct State {
    chunks: VecDeque<Chunk>,
    window: Window<RowKey>,
    /// Rows submitted and neither placed nor failed.
    rows_under_way: usize,
    stats: StreamStats,
    is_closed: bool,
}

impl Queues {
    pub(super) fn new(token_budget: usize, window_rows: usize, most_rows: usize) -> Self {
        Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                window: Window::new(token_budget),
                rows_under_way: 0,
                stats: StreamStats::default(),
                is_closed: false,
            }),
            has_room: Condvar::new(),
            has_chunk: Condvar::new(),
            has_row: Condvar::new(),
            window_rows,
            most_rows,
        }
    }

    /// Adds the chunks of one record batch with this many rows to embed, once there is room for them (INF-8). A batch
    /// larger than all the room is let in when nothing else is under way.
    pub(super) fn submit(&self, chunks: Vec<Chunk>, rows: usize) -> Result<(), EmbedError> {
        if rows == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        while !state.is_closed
            && state.rows_under_way > 0
            && state.rows_under_way + rows > self.most_rows
        {
            self.has_room.wait(&mut state);
        }
        if state.is_closed {
            return Err(EmbedError::Closed);
        }
        state.rows_under_way += rows;
        state.chunks.extend(chunks);
        self.has_chunk.notify_all();
        Ok(())
    }

    /// The next rows to tokenise; waits for them, and for room in the window. `None` once closed.
    pub(super) fn next_chunk(&self) -> Option<Chunk> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if state.window.gathering_rows() < self.window_rows
                && let Some(chunk) = state.chunks.pop_front()
            {
                return Some(chunk);
            }
            self.has_chunk.wait(&mut state);
        }
    }

    /// Hands over what became of a chunk: rows with their tokens, and a number of rows that came to nothing.
    pub(super) fn tokenized(&self, rows: Vec<TokenRow>, failed: usize) {
        let mut state = self.state.lock();
        if state.is_closed {
            for row in rows {
                row.key.slot.fail(EmbedError::Closed);
            }
            return;
        }
        state.rows_under_way -= failed;
        state.window.push(rows);
        self.has_row.notify_all();
        self.has_room.notify_all();
    }

    /// The next batch for a model; waits for one. `None` once closed.
    pub(super) fn next_batch(&self) -> Option<Vec<TokenRow>> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let gathered = state.window.gathering_rows();
            let unwanted = Cell::new(0);
            let batch = state.window.take_batch(|key| {
                let is_wanted = key.slot.is_filling();
                unwanted.set(unwanted.get() + usize::from(!is_wanted));
                is_wanted
            });
            state.rows_under_way -= unwanted.get();
            if unwanted.get() > 0 {
                self.has_room.notify_all();
            }
            if state.window.gathering_rows() < gathered {
                // A new generation was started, so that there is room for the one after it.
                self.has_chunk.notify_all();
            }
            if batch.is_some() {
                return batch;
            }
            self.has_row.wait(&mut state);
        }
    }

    /// Books a batch of this many rows that was computed.
    pub(super) fn encoded(&self, batch: &TokenBatch, encode_time: Duration) {
        let mut state = self.state.lock();
        state.rows_under_way -= batch.rows();
        state.stats.rows += batch.rows() as u64;
        state.stats.tokens += batch.tokens() as u64;
        state.stats.padded_tokens += batch.cells() as u64;
        state.stats.batches += 1;
        state.stats.encode_time += encode_time;
        self.has_room.notify_all();
    }

    /// A batch of so many tokens found no memory: those that are made from now on are smaller.
    pub(super) fn found_no_memory(&self, tokens: usize) {
        self.state.lock().window.limit_tokens(tokens.div_ceil(2));
    }

    /// Books a batch of this many rows that failed.
    pub(super) fn encode_failed(&self, rows: usize) {
        self.state.lock().rows_under_way -= rows;
        self.has_room.notify_all();
    }

    pub(super) fn stats(&self) -> StreamStats {
        self.state.lock().stats
    }

    /// Ends every wait and fails every batch that is not done (INF-10).
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        for chunk in state.chunks.drain(..) {
            chunk.slot.fail(EmbedError::Closed);
        }
        for row in state.window.drain() {
            row.key.slot.fail(EmbedError::Closed);
        }
        self.has_room.notify_all();
        self.has_chunk.notify_all();
        self.has_row.notify_all();
    }
}
