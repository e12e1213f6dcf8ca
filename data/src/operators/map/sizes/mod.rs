//! Batches by something else than a number of rows: by budgets, by length, by what is found to pay.
//!
//! ```text
//!  rows ─► frame ─► sorted by tokens ─► cut by budgets ─► cut as the sizer says ─► calls ─► put in order ─► one batch goes on
//!          same rows   if asked for       (limits)           if asked for
//!          each time
//! ```
//! Budgets alone need no frames: batches are cut where they are full. What is found while calls are made hangs on time, and blocks
//! must not (STG-2): so what the calls of a frame give goes on as a whole, and frames depend on the rows alone.

mod learned;
mod limits;
mod sizer;

#[cfg(test)]
pub(crate) use learned::Trial;
pub(crate) use learned::{Learned, MOST_ROWS};
pub(super) use limits::{Filling, Limits, RowSize, Scale};
pub(crate) use sizer::SharedSizer;

use std::time::Duration;

use aktis_worker::TaskFailure;

use super::memory::is_out_of_memory;
use crate::operators::failing::{CallPiece, Halved};

/// Frames of a step of which nothing is known yet.
pub(crate) const FIRST_FRAME_ROWS: u64 = 512;
/// Frames of large rows have fewer: all rows of one are in memory, with what comes of them, and a column of it is one array, which has
/// no room for more than 2 GiB.
pub(super) const FRAME_BYTES: u64 = 256 << 20;

/// Makes batches of frames.
pub(super) struct FramePieces {
    sizer: Option<SharedSizer>,
    limits: Limits,
    /// `None`: nobody measures rows.
    scale: Option<Scale>,
    pub(super) are_sorted: bool,
    /// Batches that did not fit into memory.
    halved: u64,
    /// The last one of these whose first half did fit.
    half_fits: Option<Halved>,
}

impl FramePieces {
    /// Pieces within these limits; `sizer` says how many rows they have, `scale` measures them, if anybody does.
    pub(super) fn new(
        sizer: Option<SharedSizer>,
        limits: Limits,
        scale: Option<Scale>,
        are_sorted: bool,
    ) -> Self {
        Self {
            sizer,
            limits,
            scale,
            are_sorted,
            halved: 0,
            half_fits: None,
        }
    }

    /// A piece of a frame in pieces that are within the limits. `may_sort`: whether rows may be called in another order.
    pub(super) fn arrange(
        &self,
        piece: CallPiece,
        may_sort: bool,
    ) -> Result<Vec<CallPiece>, TaskFailure> {
        let Some(scale) = &self.scale else {
            return Ok(vec![piece]);
        };
        let mut sizes = scale.measure(&piece.batch)?;
        let mut piece = piece;
        if self.are_sorted && may_sort {
            let mut order: Vec<usize> = (0..sizes.len()).collect();
            // The longest first: a backend makes room once.
            order.sort_by_key(|&row| std::cmp::Reverse(sizes[row].tokens));
            sizes = order.iter().map(|&row| sizes[row]).collect();
            piece = piece.picked(&order)?;
        }
        let mut pieces = Vec::new();
        for rows in self.limits.cut(sizes.into_iter()) {
            let (first, rest) = piece.split(rows);
            pieces.push(first);
            match rest {
                Some(rest) => piece = rest,
                None => break,
            }
        }
        Ok(pieces)
    }

    /// The rows to call next, and those that are left of them.
    pub(super) fn next(&self, piece: CallPiece) -> (CallPiece, Option<CallPiece>) {
        let Some(sizer) = &self.sizer else {
            return (piece, None);
        };
        let rows = sizer.lock().rows_of(piece.num_rows());
        piece.split(rows)
    }

    /// A call with so many rows has ended well. `asked`: the function was called with so many of them, and the results of others were
    /// kept (`cache=`). Then it counts as if it had been called with all: rows that cost nothing would make their size look cheap.
    pub(super) fn called(&self, rows: usize, asked: Option<usize>, took: Duration) {
        let asked = asked.unwrap_or(rows);
        let Some(sizer) = self.sizer.as_ref().filter(|_| asked > 0) else {
            return;
        };
        let [rows_of_call, asked] =
            [rows, asked].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        sizer
            .lock()
            .called(rows, took.saturating_mul(rows_of_call) / asked);
    }

    /// Whether a call failed for want of memory, where the number of rows may be to blame.
    pub(super) fn found_no_memory(&self, failure: &TaskFailure) -> bool {
        let sizer = self.sizer.as_ref().filter(|_| is_out_of_memory(failure));
        if let Some(sizer) = sizer {
            sizer.lock().ran_out_of_memory();
        }
        sizer.is_some()
    }

    /// What is to be called in the place of a batch that did not fit. A row that does not fit alone has failed as for any other reason.
    pub(super) fn halves(&mut self, piece: &CallPiece) -> Vec<CallPiece> {
        let halved = Halved {
            number: self.halved,
            rows: piece.num_rows(),
        };
        self.halved += 1;
        let halves = piece.halves().map(|mut half| {
            half.halved = Some(halved);
            half
        });
        halves.into()
    }

    /// A call with the piece was good. If both halves of a batch were that did not fit, it had too many rows; if one was not, a row
    /// of that may be what is too large.
    pub(super) fn fits(&mut self, piece: &CallPiece) {
        let Some(halved) = piece.halved else {
            return;
        };
        if self.half_fits.replace(halved) == Some(halved)
            && let Some(sizer) = &self.sizer
        {
            sizer.lock().is_too_large(halved.rows);
        }
    }
}
