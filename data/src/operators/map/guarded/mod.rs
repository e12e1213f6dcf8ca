//! Calls that are looked after one by one: what a call gives waits until it has ended well.
//!
//! A call that fails is made again with the halves of its batch, until the rows that fail are alone; those are left out. That is
//! 2 log2(n) more calls for a bad row among n. Batches after it are as large as ever, but where the number of rows is to be found:
//! there a call that runs out of memory is made again with halves whatever becomes of rows that fail, and those after it are smaller.

mod calls;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::VecDeque;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::Columns;
use super::growth::Became;
use super::parts::Parts;
use super::rebatch::Rebatch;
use super::shape::Shape;
use super::sizes::FramePieces;
use crate::operators::failing::{CallPiece, Guard};
use crate::operators::function::SharedFunction;
use crate::operators::stream::BatchStream;
use calls::{BegunPiece, Ended};

pub(super) struct GuardedMap {
    shape: Shape,
    function: SharedFunction,
    rebatch: Rebatch,
    guard: Guard,
    /// Where batches are pieces of frames: what makes them.
    pieces: Option<FramePieces>,
    /// Pieces of a batch whose calls have not begun.
    waiting: VecDeque<CallPiece>,
    /// Those whose calls are under way, in the order they began.
    begun: VecDeque<BegunPiece>,
    /// Those that are to be called anew, the next one last.
    open: Vec<CallPiece>,
    /// Calls that have ended behind one that failed.
    ended: VecDeque<(CallPiece, Ended)>,
    parts: Parts,
    ready: VecDeque<RecordBatch>,
    told: Columns,
    /// Rows that have come so far.
    rows_in: u64,
    /// Batches that came and have not gone on, with the rows that had come by their ends.
    ends: VecDeque<(u64, u64)>,
    /// Of the first function: rows before those that come here.
    first_row: Option<u64>,
    /// Rows that had come before the batch that went on last, and by its end.
    went_on: (u64, u64),
    /// How many outputs of that have been given.
    given: usize,
    /// What has become of the batch whose turn it is, if anything is learned of that.
    became: Became,
}

impl GuardedMap {
    pub(super) fn new(
        shape: Shape,
        function: SharedFunction,
        rebatch: Rebatch,
        guard: Guard,
    ) -> Self {
        if guard.loses_rows() {
            function.lock().catch_rows();
        }
        Self {
            shape,
            function,
            rebatch,
            guard,
            pieces: None,
            waiting: VecDeque::new(),
            begun: VecDeque::new(),
            open: Vec::new(),
            ended: VecDeque::new(),
            parts: Parts::default(),
            ready: VecDeque::new(),
            told: Columns::Untold(None),
            rows_in: 0,
            ends: VecDeque::new(),
            first_row: None,
            went_on: (0, 0),
            given: 0,
            became: Became::default(),
        }
    }

    /// The same as the first function of its stage, where this many rows have been through it.
    pub(super) fn beginning_at(mut self, first_row: Option<u64>) -> Self {
        self.first_row = first_row;
        self
    }

    /// The same with batches that are pieces of frames.
    pub(super) fn in_pieces(mut self, pieces: Option<FramePieces>) -> Self {
        self.pieces = pieces;
        self
    }
}

impl BatchStream for GuardedMap {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            match self.ready.pop_front() {
                Some(batch) if batch.num_rows() > 0 => {
                    self.told = Columns::Told;
                    self.given += 1;
                    return Ok(Some(batch));
                }
                Some(empty) => {
                    self.told.note(empty);
                    continue;
                }
                None => {}
            }
            if let Some(pause) = self.guard.pause() {
                return Ok(Some(pause));
            }
            let Some((piece, ended)) = self.next_ended()? else {
                return Ok(self.told.end());
            };
            let batch = piece.batch_number;
            self.settle(piece, ended)?;
            if self.open.is_empty() && self.next_batch() != Some(batch) {
                self.guard.handed_on(batch);
                self.hand_on(batch)?;
            }
        }
    }

    fn position(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return None;
        }
        match self.first_row {
            Some(first) => Some(first + self.went_on.1),
            None => self.ends.is_empty().then(|| self.rebatch.position())?,
        }
    }

    fn position_before(&self) -> Option<u64> {
        let first = self.first_row.filter(|_| self.given == 1);
        first.map(|first| first + self.went_on.0)
    }
}

impl Drop for GuardedMap {
    fn drop(&mut self) {
        // The function outlives the input.
        self.function.lock().forget_calls();
    }
}

impl GuardedMap {
    /// Which batch the next piece is of, as far as there is one.
    fn next_batch(&self) -> Option<u64> {
        let ended = self.ended.front().map(|(piece, _)| piece);
        let begun = self.begun.front().map(|begun| &begun.piece);
        let next = ended.or(begun).or(self.waiting.front());
        next.map(|piece| piece.batch_number)
    }

    /// All that came of a batch goes on: as one, but as it came where the attempts before, for which nobody looked after the step,
    /// have handed it on so (STG-2).
    fn hand_on(&mut self, batch: u64) -> Result<(), TaskFailure> {
        if self.rebatch.learns() {
            self.rebatch.learn(std::mem::take(&mut self.became));
        }
        let step = &self.shape.step;
        let as_it_came = match step.is_guarded() {
            true => None,
            false => self.parts.of_one_call(),
        };
        let outputs = match as_it_came {
            Some(outputs) => outputs,
            None => self.parts.whole(&step.name)?,
        };
        self.ready.extend(outputs);
        self.given = 0;
        while let Some((_, end)) = self.ends.pop_front_if(|(number, _)| *number <= batch) {
            self.went_on = (self.went_on.1, end);
        }
        Ok(())
    }
}
