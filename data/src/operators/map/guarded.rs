//! Calls that are looked after one by one: what a call gives waits until it has ended well.
//!
//! A call that fails is made again with the halves of its batch, until the rows that fail are alone; those are left out. That is
//! 2 log2(n) more calls for a bad row among n. Batches after it are as large as ever, but where the number of rows is to be found:
//! there a call that runs out of memory is made again with halves whatever becomes of rows that fail, and those after it are smaller.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::Columns;
use super::parts::Parts;
use super::rebatch::Rebatch;
use super::shape::Shape;
use super::sizes::FramePieces;
use crate::operators::failing::{CallPiece, Guard, is_of_rows};
use crate::operators::function::SharedFunction;
use crate::operators::stream::BatchStream;
use crate::operators::udf::FailedRow;

pub(super) struct GuardedMap {
    shape: Shape,
    function: SharedFunction,
    rebatch: Rebatch,
    guard: Guard,
    /// Where batches are pieces of frames: what makes them.
    pieces: Option<FramePieces>,
    /// FramePieces of a batch whose calls have not begun.
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
}

/// A call under way.
struct BegunPiece {
    piece: CallPiece,
    at: Instant,
}

/// What became of a call.
struct Ended {
    outputs: Result<Vec<RecordBatch>, TaskFailure>,
    /// Rows that the function says have failed.
    marked: Vec<FailedRow>,
}

/// What follows from it.
enum Verdict {
    /// Rows that go on, and what became of them.
    Good(CallPiece, Vec<RecordBatch>),
    /// Rows that are to be tried anew.
    Again(Vec<CallPiece>),
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
        // Rows that are left out are told when their input is used up: nothing before that is all there is of any.
        if !self.ready.is_empty() || self.guard.loses_rows() {
            return None;
        }
        match self.first_row {
            Some(first) => Some(first + self.went_on.1),
            None => self.ends.is_empty().then(|| self.rebatch.position())?,
        }
    }

    fn position_before(&self) -> Option<u64> {
        let may_tell = self.given == 1 && !self.guard.loses_rows();
        let first = self.first_row.filter(|_| may_tell);
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
    /// The next call, when it has ended; `None`: there is none.
    fn next_ended(&mut self) -> Result<Option<(CallPiece, Ended)>, TaskFailure> {
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
                    self.guard.ended()?;
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

    /// Which batch the next piece is of, as far as there is one.
    fn next_batch(&self) -> Option<u64> {
        let ended = self.ended.front().map(|(piece, _)| piece);
        let begun = self.begun.front().map(|begun| &begun.piece);
        let next = ended.or(begun).or(self.waiting.front());
        next.map(|piece| piece.batch_number)
    }

    /// All that came of a batch goes on, as one.
    fn hand_on(&mut self, batch: u64) -> Result<(), TaskFailure> {
        let whole = self.parts.whole(&self.shape.step.name)?;
        self.ready.extend(whole);
        self.given = 0;
        while let Some((_, end)) = self.ends.pop_front_if(|(number, _)| *number <= batch) {
            self.went_on = (self.went_on.1, end);
        }
        Ok(())
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
        drop(watched);
        drop(function);
        self.guard.ended()?;
        if let Some(pieces) = &self.pieces
            && outputs.is_ok()
            && marked.is_empty()
        {
            pieces.called(piece.num_rows(), begun.at.elapsed());
        }
        Ok(Ended { outputs, marked })
    }

    /// Waits for all calls under way.
    fn drain(&mut self) -> Result<(), TaskFailure> {
        while let Some(begun) = self.begun.pop_front() {
            let ended = self.collect(&begun)?;
            self.ended.push_back((begun.piece, ended));
        }
        Ok(())
    }

    /// Makes a call's rows ready, or has what is left of them tried anew, until all are ready or left out.
    fn settle(&mut self, piece: CallPiece, ended: Ended) -> Result<(), TaskFailure> {
        match self.judge(piece, ended)? {
            Verdict::Good(piece, batches) => {
                let are_sorted = self.pieces.as_ref().is_some_and(|pieces| pieces.are_sorted);
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

    fn call(&self, piece: &CallPiece) -> Result<Ended, TaskFailure> {
        let at = Instant::now();
        match self.begin(piece)? {
            Ok(()) => self.collect(&BegunPiece {
                piece: piece.clone(),
                at,
            }),
            Err(failure) => {
                self.guard.ended()?;
                Ok(Ended::failed(failure))
            }
        }
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

impl Ended {
    fn failed(failure: TaskFailure) -> Self {
        Self {
            outputs: Err(failure),
            marked: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::graph::MapCall;
    use crate::operators::failing::notes::Notes;
    use crate::operators::failing::{FailingInput, Watch};
    use crate::operators::stream::Batches;
    use crate::operators::udf::BatchFunction;
    use crate::plan::FailurePolicy;
    use crate::testing::{rows, test_map};
    use crate::wire::failing::{FailingSpec, NotedCall};

    /// Passes on what is noted. The process is not ended: the note takes for ever.
    struct Passes(Mutex<Sender<NotedCall>>);

    impl Notes for Passes {
        fn note(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
            Ok(())
        }

        fn note_last(&self, _key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
            self.0.lock().send(call.clone()).expect("somebody waits");
            loop {
                std::thread::park();
            }
        }
    }

    /// Takes one batch; for another one there is no room until something is noted.
    struct FullQueue {
        noted: Receiver<NotedCall>,
        seen: Arc<Mutex<Option<NotedCall>>>,
        taken: usize,
    }

    impl BatchFunction for FullQueue {
        fn calls_ahead(&self) -> usize {
            16
        }

        fn begin(&mut self, _batch: RecordBatch) -> Result<(), TaskFailure> {
            self.taken += 1;
            if self.taken == 2 {
                *self.seen.lock() = self.noted.recv_timeout(Duration::from_secs(30)).ok();
            }
            Ok(())
        }

        fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
            Ok(None)
        }

        fn forget_calls(&mut self) {}
    }

    #[test]
    fn model_that_takes_no_more_batches_is_late_for_the_first_one() {
        let (sender, noted) = channel();
        let seen = Arc::default();
        let function = FullQueue {
            noted,
            seen: Arc::clone(&seen),
            taken: 0,
        };
        let mut spec = test_map("full");
        spec.failures = FailurePolicy {
            timeout: Some(Duration::from_millis(100)),
            ..FailurePolicy::default()
        };
        let step = MapCall::of(&spec);
        let input = FailingInput::new(
            FailingSpec::default(),
            0,
            "here".into(),
            Arc::new(Passes(Mutex::new(sender))),
            Arc::<Watch>::default(),
            false,
        );
        let guard = Guard::new(&Arc::new(input), 0, &step, None, &[]);
        let batches = Box::new(Batches(vec![rows(0, 20)].into_iter()));
        let rebatch = Rebatch::new(batches, Some(5), 1 << 20, false);
        let function: SharedFunction = Arc::new(Mutex::new(Box::new(function)));
        let mut map = GuardedMap::new(Shape { step }, function, rebatch, guard);
        assert!(map.next().expect("goes on").is_none());
        let call = seen.lock().take().expect("it was late");
        assert_eq!((call.first, call.last, call.is_late), (0, 4, true));
    }
}
