//! What follows from how a call ended: its rows go on, are tried anew, or are left out.

use std::collections::BTreeSet;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::GuardedMap;
use super::calls::Ended;
use crate::operators::failing::{CallPiece, is_of_rows};

/// What is to be done.
enum Verdict {
    /// Rows that go on, and what became of them.
    Good(CallPiece, Vec<RecordBatch>),
    /// Rows that are to be tried anew.
    Again(Vec<CallPiece>),
}

impl GuardedMap {
    /// Makes a call's rows ready, or has what is left of them tried anew, until all are ready or left out.
    pub(super) fn settle(&mut self, piece: CallPiece, ended: Ended) -> Result<(), TaskFailure> {
        match self.judge(piece, ended)? {
            Verdict::Good(piece, batches) => {
                let are_sorted = self.pieces.as_ref().is_some_and(|pieces| pieces.are_sorted);
                if self.rebatch.learns() {
                    self.became.add(&piece.batch, &batches);
                }
                self.parts.add(&piece, batches, are_sorted);
            }
            Verdict::Again(pieces) => {
                // The function takes calls in order.
                self.drain()?;
                self.open.extend(pieces.into_iter().rev());
            }
        }
        Ok(())
    }

    fn judge(&mut self, piece: CallPiece, ended: Ended) -> Result<Verdict, TaskFailure> {
        let Ended { outputs, marked } = ended;
        for failed in &marked {
            self.guard.marked(&piece, failed)?;
        }
        let mut rest = if marked.is_empty() {
            piece
        } else {
            let rows = marked.iter().map(|failed| piece.row(failed.position));
            let rows: BTreeSet<u64> = rows.collect();
            piece.without(|row| rows.contains(&row))?
        };
        let failure = match outputs.and_then(|outputs| self.shaped(&rest.batch, outputs)) {
            Ok(batches) => {
                if let Some(pieces) = &mut self.pieces {
                    pieces.fits(&rest);
                }
                return Ok(Verdict::Good(rest, batches));
            }
            Err(failure) => failure,
        };
        if let Some(pieces) = &mut self.pieces
            && pieces.found_no_memory(&failure)
        {
            self.function.lock().free_memory();
            if rest.num_rows() > 1 {
                return Ok(Verdict::Again(pieces.halves(&rest)));
            }
        }
        if !self.guard.loses_rows() || !is_of_rows(&failure) {
            return Err(failure);
        }
        rest.attempts += 1;
        Ok(match rest.num_rows() {
            0 => Verdict::Good(rest, Vec::new()),
            // The function has named some, so the others may be well.
            _ if !marked.is_empty() => Verdict::Again(vec![rest]),
            1 if self.guard.has_another_try(rest.tries + 1) => {
                rest.tries += 1;
                Verdict::Again(vec![rest])
            }
            1 => {
                self.guard.failed(&rest, &failure)?;
                let none = rest.without(|_| true)?;
                Verdict::Good(none, Vec::new())
            }
            _ => Verdict::Again(rest.halves().into()),
        })
    }

    fn shaped(
        &self,
        input: &RecordBatch,
        outputs: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, TaskFailure> {
        let mut rows_out = 0;
        let mut shaped = Vec::with_capacity(outputs.len());
        for output in outputs {
            let rows = output.num_rows();
            shaped.push(self.shape.shaped(input, rows_out, output)?);
            rows_out += rows;
        }
        self.shape.check_end(input, rows_out)?;
        Ok(shaped)
    }
}
