//! Calls: the next rows to make one with, those under way, what became of them.

use std::collections::VecDeque;
use std::time::Instant;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::GuardedMap;
use crate::operators::failing::CallPiece;
use crate::operators::udf::FailedRow;

/// A call under way.
pub(super) struct BegunPiece {
    pub(super) piece: CallPiece,
    at: Instant,
}

/// What became of a call.
pub(super) struct Ended {
    pub(super) outputs: Result<Vec<RecordBatch>, TaskFailure>,
    /// Rows that the function says have failed.
    pub(super) marked: Vec<FailedRow>,
}

impl GuardedMap {
    /// The next call, when it has ended; `None`: there is none.
    pub(super) fn next_ended(&mut self) -> Result<Option<(CallPiece, Ended)>, TaskFailure> {
        if let Some(piece) = self.open.pop() {
            let ended = self.call(&piece)?;
            return Ok(Some((piece, ended)));
        }
        if let Some(ended) = self.ended.pop_front() {
            return Ok(Some(ended));
        }
        let wanted = self.function.lock().calls_ahead();
        let ahead = self.guard.calls_ahead(wanted);
        while self.begun.len() < ahead {
            let Some(piece) = self.next_piece()? else {
                break;
            };
            let at = Instant::now();
            match self.begin(&piece)? {
                Ok(()) => self.begun.push_back(BegunPiece { piece, at }),
                Err(failure) => {
                    self.guard.ended(&piece)?;
                    // Those before it come first.
                    self.drain()?;
                    self.ended.push_back((piece, Ended::failed(failure)));
                    return Ok(self.ended.pop_front());
                }
            }
        }
        match self.begun.pop_front() {
            Some(begun) => {
                let ended = self.collect(&begun)?;
                Ok(Some((begun.piece, ended)))
            }
            None => Ok(None),
        }
    }

    /// The next rows to call the function with.
    fn next_piece(&mut self) -> Result<Option<CallPiece>, TaskFailure> {
        while self.waiting.is_empty() {
            let Some(batch) = self.rebatch.next()? else {
                return Ok(None);
            };
            let rows = batch.num_rows() as u64;
            if rows > 0 {
                let number = self.guard.next_batch();
                let pieces = self.guard.enter(batch, self.rows_in)?;
                self.rows_in += rows;
                self.ends.push_back((number, self.rows_in));
                self.waiting = self.arranged(pieces)?;
            } else if self.shape.step.is_mask {
                // No function is called without rows. What it would have returned is known of one that only chooses rows.
                self.told.note(batch);
            }
        }
        let Some(piece) = self.waiting.pop_front() else {
            return Ok(None);
        };
        let Some(pieces) = &self.pieces else {
            return Ok(Some(piece));
        };
        let (next, rest) = pieces.next(piece);
        if let Some(rest) = rest {
            self.waiting.push_front(rest);
        }
        Ok(Some(next))
    }

    /// The same rows in pieces that are within the limits of the step.
    fn arranged(&self, pieces: Vec<CallPiece>) -> Result<VecDeque<CallPiece>, TaskFailure> {
        let Some(makes) = &self.pieces else {
            return Ok(pieces.into());
        };
        let may_sort = !self.guard.keeps_order();
        let mut arranged = VecDeque::new();
        for piece in pieces {
            arranged.extend(makes.arrange(piece, may_sort)?);
        }
        Ok(arranged)
    }

    /// Begins a call. The outer failure ends the job.
    fn begin(&self, piece: &CallPiece) -> Result<Result<(), TaskFailure>, TaskFailure> {
        let given = self.shape.given(&piece.batch)?;
        self.guard.begins(piece)?;
        // A model whose queue is full takes a batch when it has done with others.
        let first = self.begun.front().map_or(piece, |begun| &begun.piece);
        let _watched = self.guard.watched(first)?;
        Ok(self.function.lock().begin(given))
    }

    /// All that the first call under way gives, which is this one.
    fn collect(&self, begun: &BegunPiece) -> Result<Ended, TaskFailure> {
        let piece = &begun.piece;
        let watched = self.guard.watched(piece)?;
        let mut function = self.function.lock();
        let mut outputs = Vec::new();
        let outputs = loop {
            match function.next_output() {
                Ok(Some(output)) => outputs.push(output),
                Ok(None) => break Ok(outputs),
                Err(failure) => break Err(failure),
            }
        };
        let marked = function.take_failed()?;
        let asked = function.rows_asked();
        drop(watched);
        drop(function);
        self.guard.ended(piece)?;
        if let Some(pieces) = &self.pieces
            && outputs.is_ok()
            && marked.is_empty()
        {
            pieces.called(piece.num_rows(), asked, begun.at.elapsed());
        }
        Ok(Ended { outputs, marked })
    }

    /// Waits for all calls under way.
    pub(super) fn drain(&mut self) -> Result<(), TaskFailure> {
        while let Some(begun) = self.begun.pop_front() {
            let ended = self.collect(&begun)?;
            self.ended.push_back((begun.piece, ended));
        }
        Ok(())
    }

    fn call(&self, piece: &CallPiece) -> Result<Ended, TaskFailure> {
        let at = Instant::now();
        match self.begin(piece)? {
            Ok(()) => self.collect(&BegunPiece {
                piece: piece.clone(),
                at,
            }),
            Err(failure) => {
                self.guard.ended(piece)?;
                Ok(Ended::failed(failure))
            }
        }
    }
}

impl Ended {
    fn failed(failure: TaskFailure) -> Self {
        Self {
            outputs: Err(failure),
            marked: Vec::new(),
        }
    }
}
