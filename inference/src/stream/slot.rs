//! One record batch under way: the place its vectors gather in, and the handle its owner waits on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::RecordBatch;
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::embedding_array::{embedding_array, with_embeddings};
use crate::error::EmbedError;

/// A record batch whose rows are being embedded.
pub(super) struct Slot {
    dim: usize,
    state: Mutex<SlotState>,
    is_done: Condvar,
}

struct SlotState {
    phase: Phase,
    waker: Option<Waker>,
}

/// ```text
///  Filling ── last row placed, or a row failed ──► Done ── taken ──► Over
///     └──────────── its PendingBatch was dropped ───────────────────►┘
/// ```
enum Phase {
    Filling(Filling),
    Done(Result<RecordBatch, EmbedError>),
    Over,
}

struct Filling {
    input: RecordBatch,
    schema: SchemaRef,
    validity: Option<NullBuffer>,
    values: Vec<f32>,
    missing: usize,
}

impl Filling {
    fn finish(self, dim: usize) -> Result<RecordBatch, EmbedError> {
        let embeddings = embedding_array(self.values, dim, self.validity)?;
        with_embeddings(&self.input, self.schema, embeddings)
    }
}

impl Slot {
    /// A slot that waits for a vector of every valid row; without one it is done at once.
    pub(super) fn new(
        input: RecordBatch,
        schema: SchemaRef,
        validity: Option<NullBuffer>,
        dim: usize,
    ) -> Self {
        let nulls = validity.as_ref().map_or(0, NullBuffer::null_count);
        let missing = input.num_rows() - nulls;
        let values = vec![0.0; input.num_rows() * dim];
        let filling = Filling {
            input,
            schema,
            validity,
            values,
            missing,
        };
        let phase = if missing == 0 {
            Phase::Done(filling.finish(dim))
        } else {
            Phase::Filling(filling)
        };
        Self {
            dim,
            state: Mutex::new(SlotState { phase, waker: None }),
            is_done: Condvar::new(),
        }
    }

    /// Whether rows of this slot are still worth computing.
    pub(super) fn is_filling(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Filling(_))
    }

    /// Puts a row's vector in its place (INF-7).
    pub(super) fn place(&self, row: usize, vector: &[f32]) {
        let mut state = self.state.lock();
        let Phase::Filling(filling) = &mut state.phase else {
            return;
        };
        filling.values[row * self.dim..(row + 1) * self.dim].copy_from_slice(vector);
        filling.missing -= 1;
        if filling.missing > 0 {
            return;
        }
        let Phase::Filling(filling) = std::mem::replace(&mut state.phase, Phase::Over) else {
            unreachable!("the phase was Filling a moment ago, under the same lock");
        };
        state.phase = Phase::Done(filling.finish(self.dim));
        self.announce(state);
    }

    /// Ends the slot with an error, unless it has ended already.
    pub(super) fn fail(&self, error: EmbedError) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Filling(_)) {
            state.phase = Phase::Done(Err(error));
            self.announce(state);
        }
    }

    /// Wakes whoever waits, with the lock released: a waker may run anything.
    fn announce(&self, mut state: MutexGuard<'_, SlotState>) {
        let waker = state.waker.take();
        drop(state);
        self.is_done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn abandon(&self) {
        self.state.lock().phase = Phase::Over;
    }
}

impl SlotState {
    fn take_outcome(&mut self) -> Option<Result<RecordBatch, EmbedError>> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Done(outcome) => Some(outcome),
            phase => {
                self.phase = phase;
                None
            }
        }
    }
}

/// A record batch under way. Wait for it, or await it; dropping it means that its rows need not be computed.
///
/// It gives its outcome once: polling it again afterwards panics, as futures may.
#[must_use = "dropping a pending batch gives up on it"]
pub struct PendingBatch {
    slot: Arc<Slot>,
}

impl PendingBatch {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }

    /// Whether `wait` would return at once.
    pub fn is_ready(&self) -> bool {
        !self.slot.is_filling()
    }

    /// Blocks until the batch is done: the input's columns and the embeddings.
    pub fn wait(self) -> Result<RecordBatch, EmbedError> {
        let mut state = self.slot.state.lock();
        loop {
            if let Some(outcome) = state.take_outcome() {
                return outcome;
            }
            self.slot.is_done.wait(&mut state);
        }
    }
}

impl Future for PendingBatch {
    type Output = Result<RecordBatch, EmbedError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state.lock();
        if let Some(outcome) = state.take_outcome() {
            return Poll::Ready(outcome);
        }
        assert!(
            matches!(state.phase, Phase::Filling(_)),
            "a pending batch was polled after it was done"
        );
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for PendingBatch {
    fn drop(&mut self) {
        self.slot.abandon();
    }
}
