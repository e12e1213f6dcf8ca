//! A fast check for bytes that were out of the store's hands.

/// A 64-bit checksum that finds truncated, misplaced and corrupted bytes. It is no protection
/// against an attacker.
///
/// Four lanes of multiply-and-rotate over 8-byte words, so that it runs at about the speed of
/// memory.
pub fn checksum64(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    let mut sum = Checksum64::default();
    sum.add_blocks(blocks);
    sum.finish(rest)
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const BLOCK_BYTES: usize = 32;

/// The checksum of bytes that come in pieces.
#[derive(Debug, Clone)]
pub(crate) struct Checksum64 {
    lanes: [u64; 4],
    len: u64,
}

impl Default for Checksum64 {
    fn default() -> Self {
        Self {
            lanes: [1, 2, 3, 4],
            len: 0,
        }
    }
}

impl Checksum64 {
    /// Adds a piece, and gives back what is too short for it: the beginning of the next one.
    pub(crate) fn add<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        self.add_blocks(blocks);
        rest
    }

    fn add_blocks(&mut self, blocks: &[[u8; BLOCK_BYTES]]) {
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in self.lanes.iter_mut().zip(words) {
                *lane = (*lane ^ u64::from_le_bytes(*word))
                    .wrapping_mul(MULTIPLIER)
                    .rotate_left(29);
            }
        }
        self.len += (blocks.len() * BLOCK_BYTES) as u64;
    }

    /// The checksum, with the bytes that were left at the end.
    pub(crate) fn finish(self, rest: &[u8]) -> u64 {
        let len = self.len + rest.len() as u64;
        let mut sum = len.wrapping_mul(MULTIPLIER);
        for lane in self.lanes {
            sum = (sum ^ lane).wrapping_mul(MULTIPLIER).rotate_left(29);
        }
        for byte in rest {
            sum = (sum ^ u64::from(*byte))
                .wrapping_mul(MULTIPLIER)
                .rotate_left(29);
        }
        sum ^ (sum >> 32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_have_the_checksum_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len() + 1);
            let mut sum = Checksum64::default();
            let left = sum.add(&bytes[..at]);
            let rest = [left, &bytes[at..]].concat();
            let rest = sum.add(&rest).to_vec();
            prop_assert_eq!(sum.finish(&rest), checksum64(&bytes));
        }

        #[test]
        fn any_changed_bit_changes_the_checksum(
            mut bytes in prop::collection::vec(any::<u8>(), 1..300),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let before = checksum64(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(checksum64(&bytes), before);
        }

        #[test]
        fn a_truncated_value_has_another_checksum(
            bytes in prop::collection::vec(Just(0u8), 1..300),
        ) {
            prop_assert_ne!(checksum64(&bytes), checksum64(&bytes[1..]));
        }
    }
}
