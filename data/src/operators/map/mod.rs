//! Functions over batches: batches of the wanted size in, whatever the function gives out, columns that pass by beside
//! it.
//!
//! A step whose failures end the job hands every output on as it comes ([`MapStream`]). Where rows may be left out, or calls may
//! take only so long, or batches are pieces of frames ([`sizes`]), outputs wait until their call has ended ([`guarded`]).

mod ahead;
pub(crate) mod group_ends;
mod growth;
mod guarded;
mod memory;
mod parts;
mod rebatch;
mod shape;
pub(crate) mod sizes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::failing::Guard;
use super::function::SharedFunction;
use super::stream::{BatchStream, CallsBegun};
use crate::block::value_bytes;
use crate::graph::MapCall;
pub(crate) use ahead::CallsAhead;
use growth::Became;
use guarded::GuardedMap;
use rebatch::Rebatch;
use shape::Shape;
use sizes::{FRAME_BYTES, FramePieces, Limits, Scale, SharedSizer};

/// What a function's calls depend on besides its rows.
pub(crate) struct Circumstances {
    /// The size of blocks.
    pub(crate) block_bytes: u64,
    /// Rows of the input, where that is known.
    pub(crate) input_rows: u64,
    /// Of the first function, how many rows have been through it.
    pub(crate) position: Option<u64>,
    /// Rows that come out are noted, so that it matters when they do.
    pub(crate) is_noted: bool,
    /// Whether one call is under way at a time, of all steps: a worker has died over the input, and this one may die of the call that it
    /// has noted.
    pub(crate) is_careful: bool,
    /// Looks after the calls.
    pub(crate) guard: Option<Guard>,
    /// Rows of a frame, for a step whose batches are pieces of these.
    pub(crate) frame_rows: u64,
    /// Finds how many rows batches should have, if that was asked for.
    pub(crate) sizer: Option<SharedSizer>,
}

/// Calls a function over a stream.
pub(crate) fn open(
    step: &MapCall,
    function: SharedFunction,
    input: Box<dyn BatchStream>,
    circumstances: Circumstances,
) -> Box<dyn BatchStream> {
    let Circumstances {
        block_bytes,
        input_rows,
        position,
        is_noted,
        is_careful,
        guard,
        frame_rows,
        sizer,
    } = circumstances;
    let calls = function.lock().calls_ahead() as u64;
    let batching = &step.batching;
    let is_framed = batching.is_framed();
    let limits = Limits::new(step.batch_rows, batching);
    let scale = || Scale::new(Shape { step: step.clone() }, Arc::clone(&function));
    let is_measured = batching.counts_tokens() || batching.byte_budget.is_some();
    let batch_rows = match step.batch_rows {
        _ if batching.sorted_rows > 0 => Some(batching.sorted_rows),
        _ if !batching.group_keys.is_empty() => None,
        _ if is_framed => Some(frame_rows.max(1)),
        // Where calls overlap, "as many as there are at hand" must leave something for the others.
        None if calls > 1 => Some(input_rows.div_ceil(calls)),
        rows => rows,
    };
    // Which rows come together must not be seen.
    let is_by_row = step.keeps_rows || step.is_mask;
    let patience = is_noted && is_by_row && position.is_none();
    let mut rebatch = Rebatch::new(input, batch_rows, block_bytes, patience);
    if is_measured && !is_framed {
        rebatch = rebatch.within(limits, scale());
    }
    if is_framed {
        rebatch = rebatch.of_bytes(FRAME_BYTES);
    }
    if !batching.group_keys.is_empty() {
        rebatch = rebatch.of_groups(batching.group_keys.clone());
    }
    // What a generator gives goes on piece by piece.
    // Where calls overlap, the next batch is made before it is known what has become of this one.
    if !is_framed && calls < 2 && !function.lock().is_lazy() {
        rebatch = rebatch.growing(block_bytes);
    }
    let pieces = is_framed.then(|| {
        let are_sorted = batching.sorted_rows > 0;
        FramePieces::new(sizer, limits, is_measured.then(scale), are_sorted)
    });
    let shape = Shape { step: step.clone() };
    match guard {
        Some(guard) => Box::new(
            GuardedMap::new(shape, function, rebatch, guard)
                .beginning_at(position)
                .in_pieces(pieces),
        ),
        None => Box::new(MapStream {
            shape,
            function,
            rebatch,
            is_careful,
            ahead: CallsAhead::new(block_bytes),
            calls: VecDeque::new(),
            peeked: None,
            told: Columns::Untold(None),
            done_rows: position,
            before: 0,
            has_more: true,
            has_failed: false,
        }),
    }
}

struct MapStream {
    shape: Shape,
    function: SharedFunction,
    rebatch: Rebatch,
    is_careful: bool,
    ahead: CallsAhead,
    calls: VecDeque<Call>,
    /// The next output of the first call, where somebody has looked whether there is one.
    peeked: Option<RecordBatch>,
    told: Columns,
    /// Of the first function: rows whose calls are over.
    done_rows: Option<u64>,
    /// Calls of an input that comes first, and is not used up.
    before: usize,
    /// There may be batches that no call was begun with.
    has_more: bool,
    has_failed: bool,
}

/// What whoever comes next knows about the columns.
enum Columns {
    /// Nothing yet; here is an output without rows, if there was one.
    Untold(Option<RecordBatch>),
    /// They went out with rows.
    Told,
}

impl Columns {
    /// Rows are still to come, if any; whoever comes next is to know these columns all the same.
    fn note(&mut self, empty: RecordBatch) {
        if let Self::Untold(first @ None) = self {
            *first = Some(empty);
        }
    }

    /// There are no more rows: a function that returned none has told its columns all the same.
    fn end(&mut self) -> Option<RecordBatch> {
        match std::mem::replace(self, Self::Told) {
            Self::Untold(batch) => batch,
            Self::Told => None,
        }
    }
}

/// A call whose outputs are being pulled.
struct Call {
    input: RecordBatch,
    rows_out: usize,
    became: Became,
    /// Outputs that went on.
    outputs: usize,
}

impl BatchStream for MapStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        // It is pulled when the input before it is used up.
        self.before = 0;
        let result = self.next_output();
        self.has_failed |= result.is_err();
        result
    }

    fn begin_ahead(
        &mut self,
        before: Option<&CallsBegun>,
    ) -> Result<Option<CallsBegun>, TaskFailure> {
        if self.is_careful || self.function.lock().calls_ahead() < 2 {
            return Ok(None);
        }
        self.before = before.map_or(0, |before| before.calls);
        if let Some(before) = before {
            self.ahead.learn(&before.ahead);
        }
        let result = self.begin_calls();
        self.has_failed |= result.is_err();
        result?;
        Ok((!self.has_more).then(|| CallsBegun {
            calls: self.before + self.calls.len(),
            most: self.ahead.most(self.function.lock().as_ref()),
            ahead: self.ahead,
        }))
    }

    fn is_ready_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        if self.peeked.is_some() || self.calls.is_empty() {
            return Ok(true);
        }
        self.function.lock().has_output_within(patience)
    }

    fn position(&self) -> Option<u64> {
        match self.done_rows {
            Some(rows) => Some(rows).filter(|_| self.has_given(0)),
            None if self.calls.is_empty() => self.rebatch.position(),
            None => None,
        }
    }

    fn position_before(&self) -> Option<u64> {
        self.done_rows.filter(|_| self.has_given(1))
    }
}

impl Drop for MapStream {
    fn drop(&mut self) {
        // The function outlives the input, and may have calls of the next one by now.
        let mut function = self.function.lock();
        if self.has_failed || !self.calls.is_empty() {
            function.forget_calls();
        } else {
            function.end_input();
        }
    }
}

impl MapStream {
    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            self.begin_calls()?;
            if self.calls.is_empty() {
                return Ok(self.told.end());
            }
            match self.next_of_call()? {
                Some(batch) if batch.num_rows() > 0 => {
                    self.told = Columns::Told;
                    self.look_for_end()?;
                    return Ok(Some(batch));
                }
                Some(empty) => self.told.note(empty),
                None => {}
            }
        }
    }

    /// Begins as many calls as the function wants to have under way.
    fn begin_calls(&mut self) -> Result<(), TaskFailure> {
        let ahead = match self.is_careful {
            true => 1,
            false => self.ahead.most(self.function.lock().as_ref()),
        };
        while self.has_more && self.before + self.calls.len() < ahead {
            let Some(input) = self.rebatch.next()? else {
                self.has_more = false;
                return Ok(());
            };
            if input.num_rows() > 0 {
                let given = self.shape.given(&input)?;
                self.function.lock().begin(given)?;
                let mut became = Became::default();
                became.add(&input, []);
                self.calls.push_back(Call {
                    input,
                    rows_out: 0,
                    became,
                    outputs: 0,
                });
            } else if self.shape.step.is_mask {
                // No function is called without rows. What it would have returned is known of one that only chooses rows.
                self.told.note(input);
            }
        }
        Ok(())
    }

    /// Whether so many outputs of the first call went on.
    fn has_given(&self, outputs: usize) -> bool {
        self.calls.front().map_or(0, |call| call.outputs) == outputs
    }

    /// Looks whether the call is over, so that what became of its rows is known to be all.
    fn look_for_end(&mut self) -> Result<(), TaskFailure> {
        if self.calls.is_empty() || self.function.lock().is_lazy() {
            return Ok(());
        }
        self.peeked = self.next_of_call()?;
        Ok(())
    }

    /// The next output of the first call; at its end the call is forgotten.
    fn next_of_call(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if let Some(peeked) = self.peeked.take() {
            return Ok(Some(peeked));
        }
        let output = self.function.lock().next_output()?;
        let Some(output) = output else {
            let call = self
                .calls
                .pop_front()
                .expect("only called with a call under way");
            self.shape.check_end(&call.input, call.rows_out)?;
            self.ahead
                .over(call.became.bytes_in + call.became.bytes_out);
            self.rebatch.learn(call.became);
            if let Some(rows) = &mut self.done_rows {
                *rows += call.input.num_rows() as u64;
            }
            return Ok(None);
        };
        let call = self
            .calls
            .front_mut()
            .expect("only called with a call under way");
        let first = call.rows_out;
        call.outputs += 1;
        call.rows_out += output.num_rows();
        let shaped = self.shape.shaped(&call.input, first, output)?;
        call.became.bytes_out += value_bytes(&shaped);
        Ok(Some(shaped))
    }
}
