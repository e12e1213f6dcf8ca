//! From token vectors to one vector per text: mean over the mask, then length 1.

use super::token_batch::TokenBatch;
use crate::config::Pooling;

/// Divisors are kept at least this large, as the reference implementation does, so that no input yields NaN.
const SMALLEST_DIVISOR: f32 = 1e-9;

/// Writes one vector per row into `pooled`, made of its token vectors.
///
/// `states` has shape `(rows, width, dim)`, `pooled` shape `(rows, dim)`, both row after row. Padding is left out.
pub fn pool(pooling: Pooling, states: &[f32], batch: &TokenBatch, dim: usize, pooled: &mut [f32]) {
    assert_eq!(
        states.len(),
        batch.cells() * dim,
        "states must have shape (rows, width, dim)"
    );
    assert_eq!(
        pooled.len(),
        batch.rows() * dim,
        "pooled must have shape (rows, dim)"
    );
    if batch.cells() == 0 || dim == 0 {
        pooled.fill(0.0);
        return;
    }
    let rows = states.chunks_exact(batch.width() * dim);
    for (row, (states, vector)) in rows.zip(pooled.chunks_exact_mut(dim)).enumerate() {
        pool_one(pooling, &states[..batch.row_tokens(row) * dim], vector);
    }
}

/// Writes the vector that is made of several, one after the other; of none it is 0. Sums are taken in `f32` in their order, as the reference
/// implementation does.
pub fn pool_one(pooling: Pooling, vectors: &[f32], pooled: &mut [f32]) {
    let dim = pooled.len();
    match pooling {
        Pooling::Cls if !vectors.is_empty() => pooled.copy_from_slice(&vectors[..dim]),
        Pooling::Last if !vectors.is_empty() => {
            pooled.copy_from_slice(&vectors[vectors.len() - dim..]);
        }
        _ => {
            pooled.fill(0.0);
            for vector in vectors.chunks_exact(dim) {
                for (sum, value) in pooled.iter_mut().zip(vector) {
                    *sum += value;
                }
            }
            let scale = 1.0 / ((vectors.len() / dim) as f32).max(SMALLEST_DIVISOR);
            for value in pooled {
                *value *= scale;
            }
        }
    }
}

/// Scales each vector of `dim` numbers to length 1; a zero vector stays zero.
pub fn normalize(vectors: &mut [f32], dim: usize) {
    if dim == 0 {
        return;
    }
    for vector in vectors.chunks_exact_mut(dim) {
        let square: f64 = vector
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        let scale = 1.0 / (square.sqrt() as f32).max(SMALLEST_DIVISOR);
        for value in vector {
            *value *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_enter_the_mean() {
        let batch = TokenBatch::from_rows([&[1u32, 2][..], &[3][..]], 0);
        let states = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 999.0, 999.0];
        let mut pooled = [0.0; 4];
        pool(Pooling::Mean, &states, &batch, 2, &mut pooled);
        assert_eq!(pooled, [2.0, 20.0, 5.0, 50.0]);
    }

    #[test]
    fn first_and_last_token_are_those_of_the_text_and_not_of_padding() {
        let batch = TokenBatch::from_rows([&[1u32, 2][..], &[3][..], &[][..]], 0);
        let states: Vec<f32> = (0u8..6).map(f32::from).collect();
        let of = |pooling| {
            let mut pooled = [7.0; 3];
            pool(pooling, &states, &batch, 1, &mut pooled);
            pooled
        };
        assert_eq!(of(Pooling::Cls), [0.0, 2.0, 0.0]);
        assert_eq!(of(Pooling::Last), [1.0, 2.0, 0.0]);
        assert_eq!(of(Pooling::Mean), [0.5, 2.0, 0.0]);
    }

    #[test]
    fn normalized_vectors_have_length_one_and_zero_stays_zero() {
        let mut vectors = [3.0, 4.0, 0.0, 0.0];
        normalize(&mut vectors, 2);
        assert_eq!(vectors, [0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn row_without_tokens_pools_to_zero_and_not_to_nan() {
        let batch = TokenBatch::from_rows([&[1u32][..], &[][..]], 0);
        let mut pooled = [7.0; 2];
        pool(Pooling::Mean, &[2.0, 2.0], &batch, 1, &mut pooled);
        assert_eq!(pooled, [2.0, 0.0]);
    }
}
