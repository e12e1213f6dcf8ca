//! Attention: pieces of all heads, turned by their positions, look at each other.
//!
//! ```text
//!  (rows x width, all heads) ── SplitHeads ──► pieces: queries, keys, values of each row and head, (width, head_size) each
//!                                                 └── Rotate (some families) ── attended ──► (rows x width, heads)
//! ```
//! Several queries may share a key and a value (Ainslie et al., 2023). Queries of long texts are taken some at a time, so that scores take no more
//! memory than [`MOST_SCORES`].

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, D, InplaceOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::math::{exp_of_negative, sum};
use crate::ops::{contiguous, whole_rows};

/// Scores that are there at a time, or those of one query: 32 MiB.
const MOST_SCORES: usize = 8 << 20;

/// How the states of a batch are divided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape {
    /// Texts.
    pub(crate) rows: usize,
    /// Tokens per row, padding included.
    pub(crate) width: usize,
    /// Heads that ask.
    pub(crate) heads: usize,
    /// Heads that are asked, each by as many others.
    pub(crate) key_heads: usize,
    /// Length of a head's vectors.
    pub(crate) head_size: usize,
}

impl HeadShape {
    /// Pieces of queries, and behind them of keys: those that positions turn.
    pub(crate) fn turned(&self) -> usize {
        self.rows * (self.heads + self.key_heads)
    }

    fn pieces(&self) -> usize {
        self.rows * (self.heads + 2 * self.key_heads)
    }

    /// The row of a piece, and its head counted through queries, keys and values.
    fn place(&self, piece: usize) -> (usize, usize) {
        let (rows, heads, key_heads) = (self.rows, self.heads, self.key_heads);
        let Some(rest) = piece.checked_sub(rows * heads) else {
            return (piece / heads, piece % heads);
        };
        let (part, rest) = (rest / (rows * key_heads), rest % (rows * key_heads));
        (
            rest / key_heads,
            heads + part * key_heads + rest % key_heads,
        )
    }
}

/// Adds the bias to `(rows x width, heads + 2 key_heads, head_size)` and sorts it by query, key and value, row and head:
/// `(pieces, width, head_size)`.
pub(crate) struct SplitHeads<'model> {
    pub(crate) bias: Option<&'model [f32]>,
    pub(crate) shape: HeadShape,
}

impl CustomOp1 for SplitHeads<'_> {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape;
        let HeadShape {
            width, head_size, ..
        } = shape;
        let row_values = (shape.heads + 2 * shape.key_heads) * head_size;
        let input = contiguous(storage, layout)?;
        let mut output = vec![0.0f32; input.len()];
        output
            .par_chunks_exact_mut(width * head_size)
            .enumerate()
            .for_each(|(piece, output)| {
                let (row, head) = shape.place(piece);
                let column = head * head_size;
                for (token, output) in output.chunks_exact_mut(head_size).enumerate() {
                    let start = (row * width + token) * row_values + column;
                    output.copy_from_slice(&input[start..start + head_size]);
                    let bias = self.bias.map(|bias| &bias[column..column + head_size]);
                    for (output, bias) in output.iter_mut().zip(bias.into_iter().flatten()) {
                        *output += bias;
                    }
                }
            });
        let shape = Shape::from((shape.pieces(), width, head_size));
        Ok((CpuStorage::F32(output), shape))
    }
}

/// Cosines and sines of the angles of positions, `positions x head_size / 2` (Su et al., 2021).
#[derive(Clone)]
pub(crate) struct Angles {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    half: usize,
}

impl Angles {
    pub(crate) fn new(base: f32, positions: usize, head_size: usize) -> Self {
        let frequencies = (0..head_size)
            .step_by(2)
            .map(|at| 1.0 / base.powf(at as f32 / head_size as f32));
        let frequencies: Vec<f32> = frequencies.collect();
        let angles = (0..positions).flat_map(|position| {
            frequencies
                .iter()
                .map(move |frequency| position as f32 * frequency)
        });
        let (sines, cosines) = angles.map(f32::sin_cos).unzip();
        Self {
            cosines,
            sines,
            half: head_size / 2,
        }
    }
}

/// Turns the vectors of `(pieces, width, head_size)` by the angles of their positions: a number of their first half with the one that is as far in
/// their second.
pub(crate) struct Rotate<'model> {
    pub(crate) angles: &'model Angles,
    pub(crate) width: usize,
}

impl InplaceOp1 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Angles {
            cosines,
            sines,
            half,
        } = self.angles;
        let half = *half;
        whole_rows(storage, layout, 2 * half)?
            .enumerate()
            .for_each(|(index, vector)| {
                let at = index % self.width * half;
                let angles = cosines[at..at + half].iter().zip(&sines[at..]);
                let (firsts, seconds) = vector.split_at_mut(half);
                for ((first, second), (cosine, sine)) in firsts.iter_mut().zip(seconds).zip(angles)
                {
                    (*first, *second) = (
                        *first * cosine - *second * sine,
                        *second * cosine + *first * sine,
                    );
                }
            });
        Ok(())
    }
}

/// How far a query sees: keys that are farther before or behind it take no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    before: Option<usize>,
    behind: Option<usize>,
}

impl Sight {
    /// All keys.
    pub(crate) const ALL: Self = Self {
        before: None,
        behind: None,
    };

    /// So many keys before the query, and as many behind it.
    pub(crate) fn around(reach: usize) -> Self {
        Self {
            before: Some(reach),
            behind: Some(reach),
        }
    }

    /// No key behind the query, and so many before it.
    pub(crate) fn back(before: Option<usize>) -> Self {
        Self {
            before,
            behind: Some(0),
        }
    }

    /// Of so many keys those that one of the queries sees.
    fn keys(&self, queries: Range<usize>, keys: usize) -> Range<usize> {
        let behind = self.behind.map(|behind| queries.end.saturating_add(behind));
        let end = behind.unwrap_or(keys).min(keys);
        let before = self.before;
        let start = before.map_or(0, |before| queries.start.saturating_sub(before));
        start.min(end)..end
    }
}

/// Who looks at whom.
pub(crate) struct Looks<'batch> {
    pub(crate) shape: HeadShape,
    /// Tokens of each row that are not padding.
    pub(crate) tokens: &'batch [usize],
    /// What is added to the scores of each head, by how far the key is behind the query: `heads x (2 width - 1)`, the distance 0 in the middle.
    pub(crate) distances: Option<&'batch [f32]>,
    pub(crate) sight: Sight,
}

/// What each token attends to, `softmax(q kᵀ) v`, of all heads beside each other: `(rows x width, heads x head_size)`. `pieces` are split by heads, and
/// their queries are divided by `√d`.
pub(crate) fn attended(pieces: &Tensor, looks: &Looks<'_>) -> Result<Tensor> {
    let most = MOST_SCORES / (looks.shape.rows * looks.shape.heads * looks.shape.width).max(1);
    attended_by(pieces, looks, most.max(1))
}

fn attended_by(pieces: &Tensor, looks: &Looks<'_>, queries_at_a_time: usize) -> Result<Tensor> {
    let HeadShape {
        rows,
        width,
        heads,
        key_heads,
        head_size,
    } = looks.shape;
    let part = |first: usize, heads: usize| -> Result<Tensor> {
        let part = pieces.narrow(0, rows * first, rows * heads)?;
        part.reshape((rows, heads, width, head_size))
    };
    let (queries, keys) = (part(0, heads)?, part(heads, key_heads)?);
    let values = part(heads + key_heads, key_heads)?;
    let mut found = Vec::new();
    for first in (0..width).step_by(queries_at_a_time) {
        let count = queries_at_a_time.min(width - first);
        let seen = looks.sight.keys(first..first + count, width);
        // The queries of heads that share a key are beside each other.
        let shared = (rows, key_heads, heads / key_heads * count, head_size);
        let asking = queries.narrow(2, first, count)?.reshape(shared)?;
        let asked = keys.narrow(2, seen.start, seen.len())?;
        let scores = asking.matmul(&asked.transpose(D::Minus1, D::Minus2)?)?;
        scores.inplace_op1(&MaskedSoftmax {
            looks,
            queries: first..first + count,
            keys: seen.clone(),
        })?;
        let told = scores.matmul(&values.narrow(2, seen.start, seen.len())?)?;
        found.push(told.reshape((rows, heads, count, head_size))?);
    }
    let found = match &found[..] {
        [all] => all.clone(),
        parts => Tensor::cat(parts, 2)?,
    };
    found
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows * width, heads * head_size))
}

/// Softmax over the last dimension of the scores of some queries, `(rows, heads, queries, keys)`, in which padding and what is out of sight take no part
/// and become 0.
struct MaskedSoftmax<'batch> {
    looks: &'batch Looks<'batch>,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl InplaceOp1 for MaskedSoftmax<'_> {
    fn name(&self) -> &'static str {
        "masked-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (heads, queries) = (self.looks.shape.heads, self.queries.len());
        whole_rows(storage, layout, self.keys.len())?
            .enumerate()
            .for_each(|(index, scores)| {
                let (row, head) = (index / (heads * queries), index / queries % heads);
                let query = self.queries.start + index % queries;
                self.add_distances(head, query, scores);
                let scores = self.seen(row, query, scores);
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                for score in scores.iter_mut() {
                    *score = exp_of_negative(*score - largest);
                }
                let scale = 1.0 / sum(scores.iter().copied());
                for score in scores {
                    *score *= scale;
                }
            });
        Ok(())
    }
}

impl MaskedSoftmax<'_> {
    fn add_distances(&self, head: usize, query: usize, scores: &mut [f32]) {
        let Some(distances) = self.looks.distances else {
            return;
        };
        let width = self.looks.shape.width;
        let first = head * (2 * width - 1) + width - 1 + self.keys.start - query;
        for (score, distance) in scores.iter_mut().zip(&distances[first..]) {
            *score += distance;
        }
    }

    /// The scores of keys that are seen; the others become 0. Of a query that is padding there may be none.
    fn seen<'row>(&self, row: usize, query: usize, scores: &'row mut [f32]) -> &'row mut [f32] {
        let Looks { tokens, sight, .. } = self.looks;
        let seen = sight.keys(query..query + 1, tokens[row]);
        let [first, last] = [seen.start, seen.end].map(|key| {
            let key = key.clamp(self.keys.start, self.keys.end);
            key - self.keys.start
        });
        scores[..first].fill(0.0);
        scores[last..].fill(0.0);
        &mut scores[first..last]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use candle_nn::ops::softmax_last_dim;

    use super::*;
    use crate::testing::{assert_close, noise, numbers};

    const SHAPE: HeadShape = HeadShape {
        rows: 3,
        width: 5,
        heads: 4,
        key_heads: 2,
        head_size: 6,
    };

    fn split(input: &Tensor, bias: Option<&[f32]>) -> Tensor {
        let split = SplitHeads { bias, shape: SHAPE };
        input.apply_op1_no_bwd(&split).unwrap()
    }

    #[test]
    fn heads_are_split_as_a_permutation_does() {
        let values = (SHAPE.heads + 2 * SHAPE.key_heads) * SHAPE.head_size;
        let input = noise(&[SHAPE.rows * SHAPE.width, values]);
        let bias = noise(&[values]);
        let biased = input.broadcast_add(&bias).unwrap();
        let part = |first: usize, heads: usize| {
            let part = biased.narrow(1, first * SHAPE.head_size, heads * SHAPE.head_size);
            let part = part
                .unwrap()
                .reshape((SHAPE.rows, SHAPE.width, heads, SHAPE.head_size));
            let part = part.unwrap().transpose(1, 2).unwrap().contiguous();
            part.unwrap()
                .reshape((SHAPE.rows * heads, SHAPE.width, SHAPE.head_size))
                .unwrap()
        };
        let theirs = Tensor::cat(&[part(0, 4), part(4, 2), part(6, 2)], 0).unwrap();
        assert_close(&split(&input, Some(&numbers(&bias))), &theirs);
        assert_close(&split(&biased, None), &theirs);
    }

    #[test]
    fn vectors_are_turned_as_candle_does_it() {
        let (pieces, width, head_size) = (4, 3, 6);
        let input = noise(&[pieces, width, head_size]);
        let angles = Angles::new(7.0, width, head_size);
        let table = |values: &[f32]| {
            Tensor::from_slice(values, (width, head_size / 2), &Device::Cpu).unwrap()
        };
        let (cosines, sines) = (table(&angles.cosines), table(&angles.sines));
        let theirs =
            candle_nn::rotary_emb::rope(&input.unsqueeze(0).unwrap(), &cosines, &sines).unwrap();
        let angles = &angles;
        input.inplace_op1(&Rotate { angles, width }).unwrap();
        assert_close(&input, &theirs.squeeze(0).unwrap());
        let expected = (2.0 * 7.0f32.powf(-4.0 / 6.0)).cos();
        assert!((angles.cosines[8] - expected).abs() < 1e-6);
    }

    fn looks(tokens: &[usize], sight: Sight) -> Looks<'_> {
        Looks {
            shape: SHAPE,
            tokens,
            distances: None,
            sight,
        }
    }

    /// By the definition, query by query.
    fn expected(pieces: &Tensor, looks: &Looks<'_>, sees: impl Fn(usize, usize) -> bool) -> Tensor {
        let vector = |piece: usize, token: usize| -> Vec<f32> {
            numbers(&pieces.get(piece).unwrap().get(token).unwrap())
        };
        let HeadShape {
            rows,
            width,
            heads,
            key_heads,
            head_size,
        } = SHAPE;
        let mut all = Vec::new();
        for (row, query, head) in (0..rows * width * heads)
            .map(|at| (at / (width * heads), at / heads % width, at % heads))
        {
            let key_head = row * key_heads + head / (heads / key_heads);
            let asking = vector(row * heads + head, query);
            let seen: Vec<usize> = (0..looks.tokens[row])
                .filter(|&key| sees(query, key))
                .collect();
            if seen.is_empty() {
                all.extend(vec![0.0; head_size]);
                continue;
            }
            let score = |key: usize| -> f32 {
                let asked = vector(rows * heads + key_head, key);
                let product = asking.iter().zip(asked).map(|(one, other)| one * other);
                let distance = looks.distances.map_or(0.0, |distances| {
                    distances[head * (2 * width - 1) + width - 1 + key - query]
                });
                product.sum::<f32>() + distance
            };
            let scores: Vec<f32> = seen.iter().map(|&key| score(key)).collect();
            let scores = Tensor::new(&scores[..], &Device::Cpu).unwrap();
            let shares = numbers(&softmax_last_dim(&scores).unwrap());
            let mut told = vec![0.0; head_size];
            for (share, key) in shares.iter().zip(seen) {
                let value = vector(rows * (heads + key_heads) + key_head, key);
                told.iter_mut()
                    .zip(value)
                    .for_each(|(sum, value)| *sum += share * value);
            }
            all.extend(told);
        }
        Tensor::from_vec(all, (rows * width, heads * head_size), &Device::Cpu).unwrap()
    }

    fn pieces() -> Tensor {
        noise(&[SHAPE.pieces(), SHAPE.width, SHAPE.head_size])
            .affine(0.4, 0.1)
            .unwrap()
    }

    #[test]
    fn each_query_attends_to_what_it_sees_however_many_are_taken_at_a_time() {
        let (pieces, tokens) = (pieces(), [5, 3, 1]);
        type Sees = fn(usize, usize) -> bool;
        let sights: [(Sight, Sees); 4] = [
            (Sight::ALL, |_, _| true),
            (Sight::around(1), |query, key| query.abs_diff(key) <= 1),
            (Sight::back(None), |query, key| key <= query),
            (Sight::back(Some(1)), |query, key| {
                key <= query && query - key <= 1
            }),
        ];
        for (sight, sees) in sights {
            let looks = looks(&tokens, sight);
            let expected = expected(&pieces, &looks, sees);
            for at_a_time in [1, 2, 5] {
                let ours = attended_by(&pieces, &looks, at_a_time).unwrap();
                assert_close(&ours, &expected);
            }
        }
    }

    #[test]
    fn numbers_of_distances_are_added_to_their_scores() {
        let (pieces, tokens) = (pieces(), [5, 4, 2]);
        let distances: Vec<f32> = (0..SHAPE.heads * (2 * SHAPE.width - 1))
            .map(|at| (at % 7) as f32 / 3.0)
            .collect();
        let looks = Looks {
            distances: Some(&distances),
            ..looks(&tokens, Sight::ALL)
        };
        let expected = expected(&pieces, &looks, |_, _| true);
        for at_a_time in [2, 5] {
            let ours = attended_by(&pieces, &looks, at_a_time).unwrap();
            assert_close(&ours, &expected);
        }
    }
}
