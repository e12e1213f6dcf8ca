//! A padded batch of token ids: what every encoder takes.

/// The token ids of a text, or of a pair of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextTokens {
    /// The ids, special ones included.
    pub ids: Vec<u32>,
    /// Where the second segment begins; the number of ids where there is none.
    pub second_at: usize,
}

impl TextTokens {
    /// Those of one text.
    pub fn of_one(ids: Vec<u32>) -> Self {
        Self {
            second_at: ids.len(),
            ids,
        }
    }
}

impl AsRef<Self> for TextTokens {
    fn as_ref(&self) -> &Self {
        self
    }
}

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
        let rows: Vec<R> = rows.into_iter().collect();
        let rows = rows
            .iter()
            .map(|row| TextTokens::of_one(row.as_ref().to_vec()));
        let mut batch = Self::default();
        batch.refill(&rows.collect::<Vec<_>>(), pad_id);
        batch
    }

    /// Replaces the rows, keeping the buffers.
    pub fn refill<R: AsRef<TextTokens>>(&mut self, rows: &[R], pad_id: u32) {
        let lengths = || rows.iter().map(|row| row.as_ref().ids.len());
        self.rows = rows.len();
        self.width = lengths().max().unwrap_or(0);
        self.tokens = lengths().sum();
        let cells = self.rows * self.width;
        refill_with(&mut self.input_ids, cells, i64::from(pad_id));
        refill_with(&mut self.attention_mask, cells, 0);
        refill_with(&mut self.token_type_ids, cells, 0);
        for (index, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            let start = index * self.width;
            let end = start + row.ids.len();
            for (cell, &id) in self.input_ids[start..end].iter_mut().zip(&row.ids) {
                *cell = i64::from(id);
            }
            self.attention_mask[start..end].fill(1);
            self.token_type_ids[start + row.second_at.min(row.ids.len())..end].fill(1);
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

    /// The segment of each token, row after row: 1 for those of a second text, if the model tells it from the first.
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
        batch.refill(&[vec![9], vec![8]].map(TextTokens::of_one), 0);
        assert_eq!(batch, TokenBatch::from_rows([[9u32], [8]], 0));
    }

    #[test]
    fn second_text_is_its_own_segment() {
        let pair = TextTokens {
            ids: vec![1, 2, 3, 4],
            second_at: 2,
        };
        let mut batch = TokenBatch::default();
        batch.refill(&[pair, TextTokens::of_one(vec![1; 5])], 0);
        assert_eq!(batch.token_type_ids(), [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
    }
}
