//! One replica of a model at work: record batches in, record batches of its outputs out.
//!
//! ```text
//!  columns ─► FedColumn ─► rows of one shape ─► at most `most_rows` of them ─► Session::run ─► Answer ─► columns
//! ```
//! Rows whose tensors have different shapes are never padded to each other, as only the graph knows what padding means: those of
//! one shape run together, and come back to their places.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowPrimitiveType, FieldRef, Schema, SchemaRef};
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::{Tensor, TensorRef};

use super::answer::{self, Answer};
use super::element::with_numbers;
use super::error::RunError;
use super::feed::FedColumn;
use super::plan::{GraphInput, OnnxPlan};
use crate::error::{BoxError, explain};
use crate::memory::says_out_of_memory;

/// A session, and what it is given.
pub(crate) struct Replica {
    session: Session,
    plan: Arc<OnnxPlan>,
    schema: SchemaRef,
    /// Fewer once a run has found no memory.
    most_rows: usize,
}

/// Rows of one shape that run together.
struct Part {
    rows: Vec<usize>,
}

impl Replica {
    pub(super) fn new(session: Session, plan: Arc<OnnxPlan>) -> Self {
        let fields: Vec<FieldRef> = plan
            .outputs
            .iter()
            .map(|output| Arc::clone(&output.field))
            .collect();
        Self {
            session,
            plan,
            schema: Arc::new(Schema::new(fields)),
            most_rows: usize::MAX,
        }
    }

    /// The outputs for all rows of a batch; those of a row without an input are null.
    pub(crate) fn run(&mut self, batch: &RecordBatch) -> Result<RecordBatch, RunError> {
        let plan = Arc::clone(&self.plan);
        let columns: Vec<FedColumn> = plan
            .inputs
            .iter()
            .map(|input| FedColumn::of(input, batch))
            .collect::<Result<_, _>>()?;
        let mut places = vec![None; batch.num_rows()];
        let mut answers: Vec<Vec<Answer>> = plan.outputs.iter().map(|_| Vec::new()).collect();
        let mut waiting = parts(&columns, batch.num_rows());
        waiting.reverse();
        let mut done = 0;
        while let Some(mut part) = waiting.pop() {
            let most = plan.fixed_rows.unwrap_or(self.most_rows);
            if part.rows.len() > most {
                let rest = part.rows.split_off(most);
                waiting.push(Part { rows: rest });
            }
            match self.run_part(&columns, &part) {
                Ok(values) => {
                    for (row, &place) in part.rows.iter().enumerate() {
                        places[place] = Some((done, row));
                    }
                    done += 1;
                    answers
                        .iter_mut()
                        .zip(values)
                        .for_each(|(all, value)| all.push(value));
                }
                Err(error) if is_too_much(&error, &part, &plan) => {
                    self.most_rows = part.rows.len().div_ceil(2);
                    waiting.push(part);
                }
                Err(error) => return Err(error),
            }
        }
        let columns = plan
            .outputs
            .iter()
            .zip(&answers)
            .map(|(output, answers)| answer::column(output, answers, &places));
        let columns: Result<Vec<ArrayRef>, _> = columns.collect();
        columns
            .and_then(|columns| RecordBatch::try_new(Arc::clone(&self.schema), columns))
            .map_err(|source| RunError::Assemble {
                source: Arc::new(source),
            })
    }

    fn run_part(&mut self, columns: &[FedColumn], part: &Part) -> Result<Vec<Answer>, RunError> {
        let plan = Arc::clone(&self.plan);
        let rows = part.rows.len();
        let run_rows = plan.fixed_rows.unwrap_or(rows);
        let mut taken = part.rows.clone();
        // Rows that fill a run up, where the graph wants more than there are; what comes of them is left out.
        taken.resize(run_rows, part.rows[rows - 1]);
        let shapes = || {
            let shapes = plan.inputs.iter().zip(columns);
            let shapes =
                shapes.map(|(input, column)| (input.name.clone(), run_shape(column, &taken)));
            shapes.collect()
        };
        let failed = |source: BoxError| RunError::Run {
            rows,
            shapes: shapes(),
            source,
        };
        let values = plan.inputs.iter().zip(columns).map(|(input, column)| {
            let value = tensor(input, column, &taken)?;
            Ok((Cow::Borrowed(input.name.as_str()), value))
        });
        let values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = values
            .collect::<ort::Result<_>>()
            .map_err(|source| failed(source.into()))?;
        let wanted = plan
            .outputs
            .iter()
            .fold(OutputSelector::no_default(), |selector, output| {
                selector.with(output.name.as_str())
            });
        let options = RunOptions::new()
            .map_err(|source| failed(source.into()))?
            .with_outputs(wanted);
        let outputs = self
            .session
            .run_with_options(values, &options)
            .map_err(|source| failed(source.into()))?;
        let answers = plan.outputs.iter().map(|output| {
            let value = outputs
                .get(&output.name)
                .expect("the run was asked for this output");
            Answer::of(output, value, rows, run_rows)
        });
        answers.collect()
    }
}

/// Whether fewer rows at once may do.
fn is_too_much(error: &RunError, part: &Part, plan: &OnnxPlan) -> bool {
    part.rows.len() > 1
        && plan.fixed_rows.is_none()
        && matches!(error, RunError::Run { .. })
        && says_out_of_memory(&explain(error))
}

/// The rows that have all inputs, those of one shape together.
fn parts(columns: &[FedColumn], rows: usize) -> Vec<Part> {
    let validity = columns.iter().fold(None, |all, column| {
        NullBuffer::union(all.as_ref(), column.validity.as_ref())
    });
    let valid = (0..rows).filter(|&row| {
        validity
            .as_ref()
            .is_none_or(|validity| validity.is_valid(row))
    });
    if !columns.iter().any(FedColumn::is_ragged) {
        let rows: Vec<usize> = valid.collect();
        return if rows.is_empty() {
            Vec::new()
        } else {
            vec![Part { rows }]
        };
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
    for row in valid {
        let shape: Vec<usize> = columns
            .iter()
            .flat_map(|column| column.shape(row))
            .copied()
            .collect();
        let number = *known.entry(shape).or_insert_with(|| {
            parts.push(Part { rows: Vec::new() });
            parts.len() - 1
        });
        parts[number].rows.push(row);
    }
    parts
}

fn run_shape(column: &FedColumn, rows: &[usize]) -> Vec<usize> {
    let row = rows.first().map_or(&[][..], |&row| column.shape(row));
    [rows.len()].iter().chain(row).copied().collect()
}

/// Rows of a column as a tensor: in place, where they lie behind each other.
fn tensor<'column>(
    input: &GraphInput,
    column: &'column FedColumn,
    rows: &[usize],
) -> ort::Result<SessionInputValue<'column>> {
    let shape = run_shape(column, rows);
    let ranges = runs(rows).map(|rows| column.range(rows));
    let mut ranges: Vec<Range<usize>> = ranges.collect();
    let only = if ranges.len() == 1 {
        ranges.pop()
    } else {
        None
    };
    Ok(with_numbers!(input.element, Kind => {
        let values: &[<Kind as ArrowPrimitiveType>::Native] = column.values.as_primitive::<Kind>().values();
        match only {
            Some(range) => TensorRef::from_array_view((shape, &values[range]))?.into(),
            None => {
                let parts: Vec<_> = ranges.into_iter().map(|range| &values[range]).collect();
                Tensor::from_array((shape, parts.concat()))?.into()
            }
        }
    }, bool => {
        let values = column.values.as_boolean();
        let ranges = only.into_iter().chain(ranges);
        let bytes: Vec<bool> = ranges.flatten().map(|at| values.value(at)).collect();
        Tensor::from_array((shape, bytes))?.into()
    }))
}

/// Rows that follow each other.
fn runs(rows: &[usize]) -> impl Iterator<Item = Range<usize>> {
    rows.chunk_by(|one, next| one + 1 == *next)
        .map(|run| run[0]..run[run.len() - 1] + 1)
}
