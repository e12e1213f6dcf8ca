//! Cuts a window of rows into batches of similar length under a token budget.
//!
//! A batch is padded to its longest row, so its cost is `rows x longest`. Rows are sorted by length, longest first, and
//! cut greedily: the longest row of a batch is its first, which makes the cost of the next row known before it is
//! taken. Longest first also means that the buffers a backend keeps are sized once, by the first batch.

/// A window of rows, cut into batches.
///
/// Invariants, checked by the property tests below:
/// - INF-1 (every-row-once): the batches hold every row of the window exactly once.
/// - INF-2 (budget-holds): a batch of more than one row costs at most the budget, padding included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketPlan {
    /// Row numbers, longest row first.
    order: Vec<u32>,
    /// End of each batch in `order`.
    ends: Vec<usize>,
}

impl BucketPlan {
    /// Cuts the rows with these token counts. Rows of equal length keep their order.
    pub fn cut(token_counts: &[u32], token_budget: usize) -> Self {
        let rows =
            u32::try_from(token_counts.len()).expect("a window has far fewer than 2^32 rows");
        let mut order: Vec<u32> = (0..rows).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(token_counts[row as usize]));
        let mut ends = Vec::new();
        let mut start = 0;
        while start < order.len() {
            let longest = token_counts[order[start] as usize].max(1) as usize;
            let rows = (token_budget / longest).max(1);
            start = (start + rows).min(order.len());
            ends.push(start);
        }
        Self { order, ends }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no batch, which is so for an empty window only.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows of batch number `index`, longest first.
    pub fn batch(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.order[start..self.ends[index]]
    }

    /// The batches, longest rows first.
    pub fn batches(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|index| self.batch(index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_of_similar_length_share_a_batch() {
        let plan = BucketPlan::cut(&[3, 100, 4, 99, 3], 200);
        let batches: Vec<&[u32]> = plan.batches().collect();
        assert_eq!(batches, [&[1, 3][..], &[2, 0, 4][..]]);
    }

    #[test]
    fn row_longer_than_the_budget_makes_its_own_batch() {
        let plan = BucketPlan::cut(&[600, 10], 512);
        assert_eq!(plan.batches().collect::<Vec<_>>(), [&[0][..], &[1][..]]);
    }

    #[test]
    fn empty_window_has_no_batch() {
        assert!(BucketPlan::cut(&[], 512).is_empty());
    }

    proptest! {
        /// INF-1 (every-row-once)
        #[test]
        fn every_row_is_in_exactly_one_batch(lengths in prop::collection::vec(0u32..600, 0..300), budget in 1usize..5000) {
            let plan = BucketPlan::cut(&lengths, budget);
            let mut rows: Vec<u32> = plan.batches().flatten().copied().collect();
            rows.sort_unstable();
            prop_assert!(rows.iter().copied().eq(0..lengths.len() as u32));
        }

        /// INF-2 (budget-holds)
        #[test]
        fn no_batch_of_several_rows_exceeds_the_budget(lengths in prop::collection::vec(0u32..600, 0..300), budget in 1usize..5000) {
            let plan = BucketPlan::cut(&lengths, budget);
            for batch in plan.batches() {
                let longest = batch.iter().map(|&row| lengths[row as usize]).max().unwrap_or(0) as usize;
                prop_assert!(batch.len() == 1 || batch.len() * longest <= budget);
            }
        }
    }
}
