//! A padded batch of token ids: what every encoder takes.

/// Rows of token ids, padded on the right to the longest one.
///
/// ```text
///              width
///          ┌────────────┐
///   row 0  │ 101 7592 102 │     mask 1 1 1
///   row 1  │ 101  102   0 │     mask 1 1 0
///          └────────────┘
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    rows: usize,
    width: usize,
    tokens: usize,
    input_ids: Vec<i64>,
    attention_mask: Vec<i64>,
    token_type_ids: Vec<i64>,
}

impl TokenBatch {
    /// A batch of these rows. `pad_id` fills the ends of the shorter ones.
    pub fn from_rows<R: AsRef<[u32]>>(rows: impl IntoIterator<Item = R>, pad_id: u32) -> Self {
        let mut batch = Self::default();
        batch.refill(rows, pad_id);
        batch
    }

    /// Replaces the rows, keeping the buffers.
    pub fn refill<R: AsRef<[u32]>>(&mut self, rows: impl IntoIterator<Item = R>, pad_id: u32) {
        let rows: Vec<R> = rows.into_iter().collect();
        self.rows = rows.len();
        self.width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        self.tokens = rows.iter().map(|row| row.as_ref().len()).sum();
        let cells = self.rows * self.width;
        refill_with(&mut self.input_ids, cells, i64::from(pad_id));
        refill_with(&mut self.attention_mask, cells, 0);
        refill_with(&mut self.token_type_ids, cells, 0);
        for (index, row) in rows.iter().enumerate() {
            let start = index * self.width;
            let end = start + row.as_ref().len();
            for (cell, &id) in self.input_ids[start..end].iter_mut().zip(row.as_ref()) {
                *cell = i64::from(id);
            }
            self.attention_mask[start..end].fill(1);
        }
    }

    /// Number of texts.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens per row, padding included.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tokens that are not padding.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens, padding included: what the batch costs.
    pub fn cells(&self) -> usize {
        self.rows * self.width
    }

    /// Token ids, row after row.
    pub fn input_ids(&self) -> &[i64] {
        &self.input_ids
    }

    /// 1 for a token, 0 for padding, row after row.
    pub fn attention_mask(&self) -> &[i64] {
        &self.attention_mask
    }

    /// The segment of each token, row after row: all 0, as there is one text per row.
    pub fn token_type_ids(&self) -> &[i64] {
        &self.token_type_ids
    }

    /// Number of tokens of a row, padding left out.
    pub fn row_tokens(&self, row: usize) -> usize {
        let mask = &self.attention_mask[row * self.width..(row + 1) * self.width];
        mask.iter().take_while(|&&cell| cell == 1).count()
    }
}

fn refill_with(buffer: &mut Vec<i64>, cells: usize, value: i64) {
    buffer.clear();
    buffer.resize(cells, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_rows_are_padded_and_masked_out() {
        let batch = TokenBatch::from_rows([&[7u32, 8, 9][..], &[5][..]], 1);
        assert_eq!(
            (batch.rows(), batch.width(), batch.tokens(), batch.cells()),
            (2, 3, 4, 6)
        );
        assert_eq!(batch.input_ids(), [7, 8, 9, 5, 1, 1]);
        assert_eq!(batch.attention_mask(), [1, 1, 1, 1, 0, 0]);
        assert_eq!((batch.row_tokens(0), batch.row_tokens(1)), (3, 1));
    }

    #[test]
    fn refilled_batch_keeps_nothing_of_the_last_one() {
        let mut batch = TokenBatch::from_rows([[1u32, 2, 3, 4]], 0);
        batch.refill([[9u32], [8]], 0);
        assert_eq!(batch, TokenBatch::from_rows([[9u32], [8]], 0));
    }
}
