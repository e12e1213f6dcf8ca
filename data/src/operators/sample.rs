//! A part of the rows by chance, the same rows whenever an input is done again.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::chance::mixed;
use super::stream::BatchStream;

/// Keeps each row of an input with the same probability.
pub(crate) fn open(
    share: f64,
    seed: u64,
    sequence: u64,
    input: Box<dyn BatchStream>,
) -> Box<dyn BatchStream> {
    Box::new(SampleStream {
        share,
        next: mixed(seed ^ mixed(sequence)),
        input,
        is_told: false,
    })
}

struct SampleStream {
    share: f64,
    /// The number that the next row's chance is made of.
    next: u64,
    input: Box<dyn BatchStream>,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
}

impl SampleStream {
    fn is_drawn(&mut self) -> bool {
        self.next = self.next.wrapping_add(1);
        // 53 bits are what a float between 0 and 1 has.
        #[expect(clippy::cast_precision_loss, reason = "of 53 bits nothing is lost")]
        let chance = (mixed(self.next) >> 11) as f64 / (1u64 << 53) as f64;
        chance < self.share
    }
}

impl BatchStream for SampleStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while let Some(batch) = self.input.next()? {
            let mask: BooleanArray = (0..batch.num_rows())
                .map(|_| Some(self.is_drawn()))
                .collect();
            let drawn = filter_record_batch(&batch, &mask).map_err(|error| {
                TaskFailure::new(ErrorCode::Internal, format!("draw rows: {error}"))
            })?;
            if drawn.num_rows() > 0 || !self.is_told {
                self.is_told = true;
                return Ok(Some(drawn));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::stream::Batches;
    use crate::testing::{ids, rows};

    fn sample(share: f64, seed: u64, sequence: u64) -> Vec<i64> {
        let batches = vec![rows(0, 500), rows(500, 500)];
        let mut stream = open(
            share,
            seed,
            sequence,
            Box::new(Batches(batches.into_iter())),
        );
        let drawn = std::iter::from_fn(|| stream.next().expect("draws"));
        ids(&drawn.collect::<Vec<_>>())
    }

    #[test]
    fn about_the_share_of_rows_is_drawn() {
        assert!((200..300).contains(&sample(0.25, 1, 0).len()));
        assert_eq!(sample(1.0, 1, 0).len(), 1000);
        assert!(sample(0.0, 1, 0).is_empty());
    }

    #[test]
    fn same_rows_of_an_input_are_drawn_again_and_others_of_another() {
        assert_eq!(sample(0.5, 1, 0), sample(0.5, 1, 0));
        assert_ne!(sample(0.5, 1, 0), sample(0.5, 1, 1));
        assert_ne!(sample(0.5, 1, 0), sample(0.5, 2, 0));
    }
}
