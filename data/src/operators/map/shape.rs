//! What a function gets of a batch, and what becomes of what it returns: columns that pass by, masks, numbers of rows.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{FieldRef, Schema};

use crate::graph::MapCall;
use crate::operators::relational::{assemble, index_of};
use crate::plan::Kept;

/// The form of a step's calls.
pub(super) struct Shape {
    pub(super) step: MapCall,
}

impl Shape {
    /// The columns that the function gets.
    pub(super) fn given(&self, input: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
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

    /// What comes out of the step for an output of a call with `input`. `first`: rows that the call has given before.
    pub(super) fn shaped(
        &self,
        input: &RecordBatch,
        first: usize,
        output: RecordBatch,
    ) -> Result<RecordBatch, TaskFailure> {
        let rows = output.num_rows();
        let takes_part = self.step.is_mask || self.keeps_columns();
        if takes_part && first + rows > input.num_rows() {
            return Err(self.wrong_rows(input, first + rows));
        }
        let passing = if takes_part {
            input.slice(first, rows)
        } else {
            input.clone()
        };
        if self.step.is_mask {
            self.masked(&passing, &output)
        } else {
            self.with_kept(&passing, output)
        }
    }

    /// Looks whether a call with `input` has given as many rows as it must.
    pub(super) fn check_end(
        &self,
        input: &RecordBatch,
        rows_out: usize,
    ) -> Result<(), TaskFailure> {
        let must_match = self.step.keeps_rows || self.step.is_mask || self.keeps_columns();
        if must_match && rows_out != input.num_rows() {
            return Err(self.wrong_rows(input, rows_out));
        }
        Ok(())
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
        let why = if self.step.batching.sorted_rows > 0 {
            "because window_rows= sorts rows by length and puts what comes out back in order"
        } else if self.keeps_columns() {
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
