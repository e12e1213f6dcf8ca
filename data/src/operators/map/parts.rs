//! What the calls of a batch have given, put together.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::columns::conform;
use crate::operators::failing::CallPiece;
use crate::operators::failing::letters::common_schema;
use crate::operators::packed::take_rows;

/// What calls have given for the batch whose turn it is.
#[derive(Default)]
pub(super) struct Parts {
    batches: Vec<RecordBatch>,
    /// The numbers of the rows, where calls may be made in another order; one has come out for each.
    rows: Vec<u64>,
    are_in_order: bool,
    calls: usize,
}

impl Parts {
    /// Adds what a call with the piece has given. `one_for_one`: a row for each of its rows.
    pub(super) fn add(&mut self, piece: &CallPiece, given: Vec<RecordBatch>, one_for_one: bool) {
        self.calls += 1;
        if one_for_one {
            let numbers = (0..piece.num_rows()).map(|at| piece.row(at));
            self.rows.extend(numbers);
            self.are_in_order = self.rows.is_sorted();
        }
        self.batches.extend(given);
    }

    /// All of it as it came, if the batch was called as a whole.
    pub(super) fn of_one_call(&mut self) -> Option<Vec<RecordBatch>> {
        (self.calls == 1).then(|| std::mem::take(self).batches)
    }

    /// All of it as one batch, so that blocks are cut in the same places whether rows of it were found to fail now, or by an earlier
    /// attempt, and whatever calls there were (STG-2). Outputs that do not go together stay as they are.
    pub(super) fn whole(&mut self, name: &str) -> Result<Vec<RecordBatch>, TaskFailure> {
        let Self {
            batches,
            rows,
            are_in_order,
            ..
        } = std::mem::take(self);
        let failed = |why: &dyn std::fmt::Display| {
            TaskFailure::new(ErrorCode::Application, format!("{name}: {why}"))
        };
        if batches.len() < 2 && (are_in_order || rows.is_empty()) {
            return Ok(batches);
        }
        let schemas: Vec<SchemaRef> = batches.iter().map(RecordBatch::schema).collect();
        let Some(schema) = common_schema(schemas.iter()) else {
            if are_in_order || rows.is_empty() {
                // Whoever puts them together will say why they do not go together.
                return Ok(batches);
            }
            return Err(failed(
                &"columns of different batches do not go together, and rows that were sorted by length cannot be put in order",
            ));
        };
        let alike: Result<Vec<RecordBatch>, _> =
            batches.iter().map(|part| conform(part, &schema)).collect();
        let alike = alike
            .map_err(|misfit| failed(&misfit.between("in one output of a batch", "in another")))?;
        let whole = concat_batches(&schema, &alike).map_err(|error| failed(&error))?;
        if are_in_order || rows.is_empty() {
            return Ok(vec![whole]);
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| rows[at]);
        let indices = UInt64Array::from_iter_values(order.into_iter().map(|at| at as u64));
        let ordered = take_rows(&whole, &indices).map_err(|error| failed(&error))?;
        Ok(vec![ordered])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ids, rows};

    #[test]
    fn rows_that_were_called_in_another_order_are_put_back() {
        let frame = CallPiece::new(rows(0, 5), 10, 0);
        let sorted = frame.picked(&[3, 0, 4, 2, 1]).expect("takes");
        let (first, rest) = sorted.split(2);
        let rest = rest.expect("has more");
        let mut parts = Parts::default();
        for piece in [&first, &rest] {
            parts.add(piece, vec![piece.batch.clone()], true);
        }
        let whole = parts.whole("map").expect("goes together");
        assert_eq!(ids(&whole), [0, 1, 2, 3, 4]);
        assert_eq!(whole.len(), 1);
        assert!(parts.whole("map").expect("is empty").is_empty());
    }
}
