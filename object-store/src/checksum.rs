//! A fast check for bytes that were out of the store's hands.

/// A 64-bit checksum that finds truncated, misplaced and corrupted bytes. It is no protection
/// against an attacker.
///
/// Four lanes of multiply-and-rotate over 8-byte words, so that it runs at about the speed of
/// memory.
pub fn checksum64(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [1u64, 2, 3, 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from_le_bytes(*word))
                .wrapping_mul(MULTIPLIER)
                .rotate_left(29);
        }
    }
    let mut sum = (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    for lane in lanes {
        sum = (sum ^ lane).wrapping_mul(MULTIPLIER).rotate_left(29);
    }
    for byte in rest {
        sum = (sum ^ u64::from(*byte))
            .wrapping_mul(MULTIPLIER)
            .rotate_left(29);
    }
    sum ^ (sum >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
