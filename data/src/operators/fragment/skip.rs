//! Rows of an input without its first ones.

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use crate::operators::stream::BatchStream;

/// Leaves out so many rows.
pub(crate) fn open(rows: u64, input: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
    Box::new(SkipStream { left: rows, input })
}

struct SkipStream {
    left: u64,
    input: Box<dyn BatchStream>,
}

impl BatchStream for SkipStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Some(batch) = self.input.next()? else {
            return Ok(None);
        };
        let rows = self.left.min(batch.num_rows() as u64);
        self.left -= rows;
        let skipped = usize::try_from(rows).expect("no more than the batch has");
        // Without any row it still tells the columns.
        Ok(Some(batch.slice(skipped, batch.num_rows() - skipped)))
    }
}
