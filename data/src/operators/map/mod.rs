//! Functions over batches: batches of the wanted size in, whatever the function gives out, columns that pass by beside
//! it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{FieldRef, Schema};

use super::function::SharedFunction;
use super::relational::{assemble, index_of};
use super::stream::BatchStream;
use crate::block::data_bytes;
use crate::graph::MapCall;
use crate::plan::Kept;

/// With no batch size asked for, rows of a slow function wait so long at most for others that come to the next with them.
const PATIENCE: Duration = Duration::from_millis(20);
/// With no batch size asked for, smaller batches than this are put together.
const SMALL_BATCH_BYTES: u64 = 1 << 20;

/// Calls a function over a stream. `position`: of the first function, how many rows have been through it. `is_noted`: rows that come
/// out are noted, so that it matters when they do.
pub(crate) fn open(
    step: &MapCall,
    function: SharedFunction,
    input: Box<dyn BatchStream>,
    block_bytes: u64,
    input_rows: u64,
    position: Option<u64>,
    is_noted: bool,
) -> Box<dyn BatchStream> {
    let calls = function.lock().calls_ahead() as u64;
    let batch_rows = match step.batch_rows {
        // Where calls overlap, "as many as there are at hand" must leave something for the others.
        None if calls > 1 => Some(input_rows.div_ceil(calls)),
        rows => rows,
    };
    let rows = batch_rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
    // Which rows come together must not be seen.
    let is_by_row = step.keeps_rows || step.is_mask;
    let rebatch = Rebatch {
        input,
        patience: (is_noted && is_by_row && position.is_none()).then_some(PATIENCE),
        waits_since: None,
        rows: rows.filter(|&rows| rows > 0),
        enough_bytes: SMALL_BATCH_BYTES.min(block_bytes),
        held: VecDeque::new(),
        held_rows: 0,
        is_over: false,
    };
    Box::new(MapStream {
        step: Arc::new(step.clone()),
        function,
        rebatch,
        calls: VecDeque::new(),
        peeked: None,
        told: Columns::Untold(None),
        done_rows: position,
    })
}

/// Puts batches together and cuts them, without copying where one batch serves.
struct Rebatch {
    input: Box<dyn BatchStream>,
    /// How long rows are held at most, if that matters.
    patience: Option<Duration>,
    waits_since: Option<Instant>,
    rows: Option<usize>,
    enough_bytes: u64,
    held: VecDeque<RecordBatch>,
    held_rows: usize,
    is_over: bool,
}

impl Rebatch {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while !self.is_over && !self.is_enough() {
            match self.input.next()? {
                // Other columns than before end a batch, see `take`.
                Some(batch) => {
                    self.waits_since = self.waits_since.or_else(|| Some(Instant::now()));
                    self.held_rows += batch.num_rows();
                    self.held.push_back(batch);
                }
                None => self.is_over = true,
            }
        }
        self.take()
    }

    fn is_enough(&self) -> bool {
        let is_mixed = match (self.held.front(), self.held.back()) {
            (Some(first), Some(last)) => first.schema() != last.schema(),
            _ => false,
        };
        is_mixed
            || match self.rows {
                Some(rows) => self.held_rows >= rows,
                None => {
                    self.held.iter().map(data_bytes).sum::<u64>() >= self.enough_bytes
                        || self.has_waited()
                }
            }
    }

    fn has_waited(&self) -> bool {
        match (self.patience, self.waits_since) {
            (Some(patience), Some(since)) => since.elapsed() >= patience,
            _ => false,
        }
    }

    fn take(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        self.waits_since = None;
        let Some(first) = self.held.front() else {
            return Ok(None);
        };
        let schema = first.schema();
        let wanted = self.rows.unwrap_or(usize::MAX);
        let mut parts = Vec::new();
        let mut rows = 0;
        while rows < wanted
            && let Some(batch) = self.held.pop_front()
        {
            if batch.schema() != schema {
                self.held.push_front(batch);
                break;
            }
            let length = batch.num_rows().min(wanted - rows);
            if length < batch.num_rows() {
                self.held
                    .push_front(batch.slice(length, batch.num_rows() - length));
            }
            rows += length;
            parts.push(batch.slice(0, length));
        }
        self.held_rows -= rows;
        if parts.len() == 1 {
            return Ok(parts.pop());
        }
        concat_batches(&schema, &parts).map(Some).map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("put batches together: {error}"),
            )
        })
    }
}

struct MapStream {
    step: Arc<MapCall>,
    function: SharedFunction,
    rebatch: Rebatch,
    calls: VecDeque<Call>,
    /// The next output of the first call, where somebody has looked whether there is one.
    peeked: Option<RecordBatch>,
    told: Columns,
    /// Of the first function: rows whose calls are over.
    done_rows: Option<u64>,
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
}

/// A call whose outputs are being pulled.
struct Call {
    input: RecordBatch,
    rows_out: usize,
    /// Outputs that went on.
    outputs: usize,
}

impl BatchStream for MapStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            self.begin_calls()?;
            if self.calls.is_empty() {
                // A function that returned no rows has told its columns all the same.
                return Ok(match std::mem::replace(&mut self.told, Columns::Told) {
                    Columns::Untold(batch) => batch,
                    Columns::Told => None,
                });
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

    fn position(&self) -> Option<u64> {
        match self.done_rows {
            Some(rows) => Some(rows).filter(|_| self.has_given(0)),
            None if self.calls.is_empty() && self.rebatch.held.is_empty() => {
                self.rebatch.input.position()
            }
            None => None,
        }
    }

    fn position_before(&self) -> Option<u64> {
        self.done_rows.filter(|_| self.has_given(1))
    }
}

impl Drop for MapStream {
    fn drop(&mut self) {
        // The function outlives the input.
        self.function.lock().forget_calls();
    }
}

impl MapStream {
    /// Begins as many calls as the function wants to have under way.
    fn begin_calls(&mut self) -> Result<(), TaskFailure> {
        let ahead = self.function.lock().calls_ahead();
        while self.calls.len() < ahead {
            let Some(input) = self.rebatch.next()? else {
                return Ok(());
            };
            if input.num_rows() > 0 {
                let given = self.given(&input)?;
                self.function.lock().begin(given)?;
                self.calls.push_back(Call {
                    input,
                    rows_out: 0,
                    outputs: 0,
                });
            } else if self.step.is_mask {
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

    /// The columns that the function gets.
    fn given(&self, input: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
        let Some(reads) = &self.step.reads else {
            return Ok(input.clone());
        };
        let schema = input.schema();
        let indices: Result<Vec<usize>, TaskFailure> = reads
            .iter()
            .map(|name| index_of(&self.step.name, name, &schema))
            .collect();
        let indices = indices?;
        let fields: Vec<FieldRef> = indices
            .iter()
            .map(|&index| Arc::clone(&schema.fields()[index]))
            .collect();
        let columns = indices
            .iter()
            .map(|&index| Arc::clone(input.column(index)))
            .collect();
        assemble(Arc::new(Schema::new(fields)), columns, input.num_rows())
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
            let must_match = self.step.keeps_rows || self.step.is_mask || self.keeps_columns();
            if must_match && call.rows_out != call.input.num_rows() {
                return Err(self.wrong_rows(&call.input, call.rows_out));
            }
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
        let input = call.input.clone();
        let takes_part = self.step.is_mask || self.keeps_columns();
        if takes_part && first + output.num_rows() > input.num_rows() {
            return Err(self.wrong_rows(&input, first + output.num_rows()));
        }
        let passing = if takes_part {
            input.slice(first, output.num_rows())
        } else {
            input
        };
        let batch = if self.step.is_mask {
            self.masked(&passing, &output)?
        } else {
            self.with_kept(&passing, output)?
        };
        Ok(Some(batch))
    }

    fn keeps_columns(&self) -> bool {
        self.step.keeps != Kept::Nothing
    }

    fn masked(&self, input: &RecordBatch, mask: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
        let boolean = mask.columns().first().and_then(|column| {
            column
                .as_any()
                .downcast_ref::<BooleanArray>()
                .filter(|_| mask.num_columns() == 1)
        });
        let boolean = boolean.ok_or_else(|| {
            TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{}: the function must return true or false for a row",
                    self.step.name
                ),
            )
        })?;
        filter_record_batch(input, boolean).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("{}: {error}", self.step.name))
        })
    }

    /// The kept columns of the input, then what the function returned; a returned column replaces a kept one.
    fn with_kept(
        &self,
        input: &RecordBatch,
        output: RecordBatch,
    ) -> Result<RecordBatch, TaskFailure> {
        if !self.keeps_columns() {
            return Ok(output);
        }
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        let produced = output.schema();
        let schema = input.schema();
        for (field, column) in schema.fields().iter().zip(input.columns()) {
            if self.step.keeps.keeps(field.name()) && produced.index_of(field.name()).is_err() {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
            }
        }
        fields.extend(produced.fields().iter().cloned());
        columns.extend(output.columns().iter().cloned());
        assemble(Arc::new(Schema::new(fields)), columns, output.num_rows())
    }

    fn wrong_rows(&self, input: &RecordBatch, rows: usize) -> TaskFailure {
        let why = if self.keeps_columns() {
            "because other columns pass by it"
        } else {
            "because it was declared with udf_modifying_row_count=False"
        };
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!(
                "{}: the function got {} rows and returned {rows}; it must return one row for one row, {why}",
                self.step.name,
                input.num_rows()
            ),
        )
    }
}
