//! From token vectors to one vector per text: mean over the mask, then length 1.

use super::token_batch::TokenBatch;
use crate::config::Pooling;

/// Divisors are kept at least this large, as the reference implementation does, so that no input yields NaN.
const SMALLEST_DIVISOR: f32 = 1e-9;

/// Writes one vector per row into `pooled`, made of its token vectors.
///
/// `states` has shape `(rows, width, dim)`, `pooled` shape `(rows, dim)`, both row after row. A row without tokens gives zeros.
pub fn pool(pooling: Pooling, states: &[f32], batch: &TokenBatch, dim: usize, pooled: &mut [f32]) {
    if pooling == Pooling::Mean || batch.cells() == 0 || dim == 0 {
        return mean_pool(states, batch, dim, pooled);
    }
    for (row, (row_states, vector)) in states
        .chunks_exact(batch.width() * dim)
        .zip(pooled.chunks_exact_mut(dim))
        .enumerate()
    {
        let tokens = batch.row_tokens(row);
        let token = if pooling == Pooling::Last {
            tokens.saturating_sub(1)
        } else {
            0
        };
        match tokens {
            0 => vector.fill(0.0),
            _ => vector.copy_from_slice(&row_states[token * dim..(token + 1) * dim]),
        }
    }
}

/// Writes the mean of each row's token vectors into `pooled`.
///
/// `states` has shape `(rows, width, dim)`, `pooled` shape `(rows, dim)`, both row after row. Padding is left out of the
/// mean. Sums are taken in `f32` in token order, as the reference implementation does.
fn mean_pool(states: &[f32], batch: &TokenBatch, dim: usize, pooled: &mut [f32]) {
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
    for (row, (row_states, mean)) in states
        .chunks_exact(batch.width() * dim)
        .zip(pooled.chunks_exact_mut(dim))
        .enumerate()
    {
        let tokens = batch.row_tokens(row);
        mean.fill(0.0);
        for token in row_states.chunks_exact(dim).take(tokens) {
            for (sum, value) in mean.iter_mut().zip(token) {
                *sum += value;
            }
        }
        let scale = 1.0 / (tokens as f32).max(SMALLEST_DIVISOR);
        for value in mean.iter_mut() {
            *value *= scale;
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
        mean_pool(&states, &batch, 2, &mut pooled);
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
        mean_pool(&[2.0, 2.0], &batch, 1, &mut pooled);
        assert_eq!(pooled, [2.0, 0.0]);
    }
}
