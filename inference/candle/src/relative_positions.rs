//! What a score gets for how far its two tokens are apart, in MPNet: a number for each head and bucket of distances (Raffel et al., 2020).

use std::sync::Arc;

use candle_core::Result;

use crate::weights::Weights;

/// Buckets of distances: as many backwards as forwards.
pub(crate) const BUCKETS: usize = 32;
/// Distances that have a bucket of their own in one direction. The other half of its buckets get wider with the distance.
const EXACT: usize = BUCKETS / 4;
/// From this distance on all are in the last bucket.
const FARTHEST: f32 = 128.0;

/// The numbers, bucket after bucket, one for each head.
#[derive(Debug, Clone)]
pub(crate) struct RelativeBias {
    numbers: Arc<[f32]>,
    heads: usize,
}

impl RelativeBias {
    pub(crate) fn new(heads: usize, weights: &Weights) -> Result<Self> {
        let numbers = weights.get("encoder.relative_attention_bias.weight", &[BUCKETS, heads])?;
        Ok(Self {
            numbers: numbers.flatten_all()?.to_vec1()?.into(),
            heads,
        })
    }

    /// `heads x (2 width - 1)`: for each head from the key farthest before the query to the one farthest behind it.
    pub(crate) fn by_distance(&self, width: usize) -> Arc<[f32]> {
        let farthest = width as isize - 1;
        (0..self.heads)
            .flat_map(|head| {
                (-farthest..=farthest)
                    .map(move |distance| self.numbers[bucket(distance) * self.heads + head])
            })
            .collect()
    }
}

/// The bucket of a key that is so many tokens behind the query, or before it.
fn bucket(distance: isize) -> usize {
    let direction = if distance > 0 { BUCKETS / 2 } else { 0 };
    let far = distance.unsigned_abs();
    if far < EXACT {
        return direction + far;
    }
    let wide = (BUCKETS / 2 - EXACT) as f32;
    let exact = EXACT as f32;
    let step = (far as f32 / exact).ln() / (FARTHEST / exact).ln() * wide;
    direction + (EXACT + step as usize).min(BUCKETS / 2 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // Where `MPNetEncoder.relative_position_bucket` begins a new one.
        let begins = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..600isize {
            let index = begins.iter().filter(|&&begin| begin <= distance).count();
            assert_eq!(bucket(-distance), index, "{distance} before");
            if distance > 0 {
                assert_eq!(bucket(distance), index + BUCKETS / 2, "{distance} behind");
            }
        }
    }
}
