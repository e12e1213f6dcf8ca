//! How many bytes a function is called with where nobody says how many rows: what a call gives shall be about a block.

use arrow::array::RecordBatch;

use crate::block::value_bytes;

/// The first batch has so many bytes at most: nobody knows yet what becomes of it.
const FIRST_BYTES: u64 = 256 << 10;
/// Nor more than this part of a block: a hundred times that are a few blocks.
const FIRST_PART: u64 = 16;
/// Batches are not cut further than this.
const LEAST_BYTES: u64 = 16 << 10;
/// Where blocks are smaller than this, calls give more.
const LEAST_BLOCK_BYTES: u64 = 1 << 20;

/// Rows of a batch that were called without a failure, and what has become of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Became {
    pub(super) rows: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Became {
    /// These rows have become those.
    pub(super) fn add<'a>(
        &mut self,
        given: &RecordBatch,
        outputs: impl IntoIterator<Item = &'a RecordBatch>,
    ) {
        self.rows += given.num_rows() as u64;
        self.bytes_in += value_bytes(given);
        self.bytes_out += outputs.into_iter().map(value_bytes).sum::<u64>();
    }
}

/// What a function makes of its batches, in bytes. It hangs on the rows alone, so that an input that is done again has the same
/// batches (`STG-2`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    block_bytes: u64,
    most_bytes: u64,
}

impl Growth {
    /// Nothing is known yet.
    pub(super) fn new(block_bytes: u64) -> Self {
        let block_bytes = block_bytes.max(LEAST_BLOCK_BYTES);
        Self {
            block_bytes,
            most_bytes: FIRST_BYTES.min(block_bytes / FIRST_PART),
        }
    }

    /// The most bytes of the next batch.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most_bytes
    }

    /// What a batch has become. After one that becomes no larger, the next may be as large as it comes; one that has lost all of its
    /// rows says nothing, since another attempt does not come to it.
    pub(super) fn learn(&mut self, became: Became) {
        let Became {
            rows,
            bytes_in,
            bytes_out,
        } = became;
        if rows == 0 {
            return;
        }
        let mut factor = 1;
        // Factors that people choose are not where another one begins.
        while bytes_out.saturating_mul(12) > bytes_in.saturating_mul(17).saturating_mul(factor) {
            factor *= 2;
            if factor >= self.block_bytes {
                break;
            }
        }
        self.most_bytes = match factor {
            1 => u64::MAX,
            _ => (self.block_bytes / factor).max(LEAST_BYTES),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn became(rows: u64, bytes_in: u64, bytes_out: u64) -> Became {
        Became {
            rows,
            bytes_in,
            bytes_out,
        }
    }

    #[test]
    fn first_call_of_small_blocks_is_small() {
        let first = |block_bytes| Growth::new(block_bytes).most_bytes();
        assert_eq!(first(32 << 20), 256 << 10);
        assert_eq!(first(2 << 20), 128 << 10);
        assert_eq!(first(64 << 10), 64 << 10);
    }

    #[test]
    fn what_a_call_gives_is_about_a_block() {
        let mut growth = Growth::new(8 << 20);
        assert_eq!(growth.most_bytes(), 256 << 10);
        for (bytes_out, most_bytes) in [
            (0, u64::MAX),
            (1000, u64::MAX),
            (1400, u64::MAX),
            (2000, 4 << 20),
            (2002, 4 << 20),
            (4000, 2 << 20),
            (100_000, (8 << 20) / 128),
            (1 << 40, 16 << 10),
        ] {
            growth.learn(became(5, 1000, bytes_out));
            assert_eq!(growth.most_bytes(), most_bytes, "{bytes_out}");
        }
        growth.learn(became(5, 0, 8));
        assert_eq!(growth.most_bytes(), 16 << 10, "rows without columns");
        growth.learn(became(0, 0, 0));
        assert_eq!(growth.most_bytes(), 16 << 10, "no row was good");
    }
}
