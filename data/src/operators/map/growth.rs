//! How many bytes a function is called with where nobody says how many rows: what a call gives shall be about a block.

/// The first batch has so many bytes at most: nobody knows yet what becomes of it.
const FIRST_BYTES: u64 = 256 << 10;
/// Batches are not cut further than this.
const LEAST_BYTES: u64 = 16 << 10;
/// Where blocks are smaller than this, calls give more.
const LEAST_BLOCK_BYTES: u64 = 1 << 20;

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
        Self {
            block_bytes: block_bytes.max(LEAST_BLOCK_BYTES),
            most_bytes: FIRST_BYTES,
        }
    }

    /// The most bytes of the next batch.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most_bytes
    }

    /// A batch of so many bytes has become so many. One that becomes no larger may be as large as it comes.
    pub(super) fn learn(&mut self, bytes_in: u64, bytes_out: u64) {
        let mut factor = 1;
        // Sizes of the same rows differ by some bytes between attempts: factors that people choose are not where another one begins.
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
            growth.learn(1000, bytes_out);
            assert_eq!(growth.most_bytes(), most_bytes, "{bytes_out}");
        }
        growth.learn(0, 8);
        assert_eq!(growth.most_bytes(), 16 << 10, "rows without columns");
    }
}
