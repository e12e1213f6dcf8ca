//! The window of rows that are tokenised and wait for the model.
//!
//! ```text
//!  push ─► gathering ──(when current is used up)──► current: sorted, cut ─► take_batch
//! ```
//!
//! The window is work-conserving: whoever can compute a batch gets one as long as any row waits, however few there are.
//! Rows that arrive while a generation is being computed form the next one, so nothing waits longer than one generation
//! (INF-5, no-row-starves), and a slow input never holds rows back to fill a window (INF-6, never-waits-for-more).

use super::bucket::BucketPlan;
use super::token_batch::TextTokens;

/// A tokenised row, and whatever says where its vector goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRow<K> {
    /// Where the vector goes.
    pub key: K,
    /// The token ids.
    pub tokens: TextTokens,
}

impl<K> AsRef<TextTokens> for WindowRow<K> {
    fn as_ref(&self) -> &TextTokens {
        &self.tokens
    }
}

/// Rows waiting for the model, in two generations.
#[derive(Debug)]
pub struct Window<K> {
    token_budget: usize,
    gathering: Vec<WindowRow<K>>,
    current: Vec<Option<WindowRow<K>>>,
    plan: BucketPlan,
    next_batch: usize,
}

impl<K> Window<K> {
    /// An empty window, whose batches will have at most this many tokens.
    pub fn new(token_budget: usize) -> Self {
        Self {
            token_budget,
            gathering: Vec::new(),
            current: Vec::new(),
            plan: BucketPlan::default(),
            next_batch: 0,
        }
    }

    /// Batches of the generations to come have at most this many tokens.
    pub fn limit_tokens(&mut self, tokens: usize) {
        self.token_budget = self.token_budget.min(tokens).max(1);
    }

    /// Adds rows to the next generation.
    pub fn push(&mut self, rows: impl IntoIterator<Item = WindowRow<K>>) {
        self.gathering.extend(rows);
    }

    /// Rows of the next generation, so far.
    pub fn gathering_rows(&self) -> usize {
        self.gathering.len()
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.gathering.is_empty() && self.next_batch == self.plan.len()
    }

    /// The next batch, longest row first; `None` if no row waits: it is there although it may be small (`INF-6`). Rows that are not `wanted` any more are left out when
    /// their generation starts.
    pub fn take_batch(&mut self, wanted: impl Fn(&K) -> bool) -> Option<Vec<WindowRow<K>>> {
        if self.next_batch == self.plan.len() {
            self.start_generation(wanted);
        }
        if self.next_batch == self.plan.len() {
            return None;
        }
        let rows = self.plan.batch(self.next_batch);
        let batch = rows
            .iter()
            .map(|&row| {
                self.current[row as usize]
                    .take()
                    .expect("INF-1: a plan has every row once")
            })
            .collect();
        self.next_batch += 1;
        Some(batch)
    }

    /// All rows that wait are in it, so that each is given out before those that come from now on (`INF-5`).
    fn start_generation(&mut self, wanted: impl Fn(&K) -> bool) {
        self.current = self
            .gathering
            .drain(..)
            .filter(|row| wanted(&row.key))
            .map(Some)
            .collect();
        let lengths: Vec<u32> = self
            .current
            .iter()
            .flatten()
            .map(|row| u32::try_from(row.tokens.ids.len()).unwrap_or(u32::MAX))
            .collect();
        self.plan = BucketPlan::cut(&lengths, self.token_budget);
        self.next_batch = 0;
    }

    /// Takes out every row that waits.
    pub fn drain(&mut self) -> Vec<WindowRow<K>> {
        self.plan = BucketPlan::default();
        self.next_batch = 0;
        self.current
            .drain(..)
            .flatten()
            .chain(self.gathering.drain(..))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(lengths: &[usize]) -> Vec<WindowRow<usize>> {
        lengths
            .iter()
            .enumerate()
            .map(|(key, &length)| WindowRow {
                key,
                tokens: TextTokens::of_one(vec![1; length]),
            })
            .collect()
    }

    /// INF-6 (never-waits-for-more)
    #[test]
    fn single_row_is_given_out_at_once() {
        let mut window = Window::new(512);
        window.push(rows(&[3]));
        assert_eq!(window.take_batch(|_| true).unwrap().len(), 1);
        assert!(window.take_batch(|_| true).is_none());
        assert!(window.is_empty());
    }

    /// INF-5 (no-row-starves)
    #[test]
    fn later_rows_wait_for_the_generation_before_them() {
        let mut window = Window::new(4);
        window.push([
            WindowRow {
                key: "short",
                tokens: TextTokens::of_one(vec![1]),
            },
            WindowRow {
                key: "long",
                tokens: TextTokens::of_one(vec![1; 4]),
            },
        ]);
        assert_eq!(window.take_batch(|_| true).unwrap()[0].key, "long");
        window.push([WindowRow {
            key: "late and long",
            tokens: TextTokens::of_one(vec![1; 4]),
        }]);
        assert_eq!(window.take_batch(|_| true).unwrap()[0].key, "short");
        assert_eq!(window.take_batch(|_| true).unwrap()[0].key, "late and long");
    }

    #[test]
    fn unwanted_rows_are_not_computed() {
        let mut window = Window::new(100);
        window.push(rows(&[3, 3, 3]));
        let batch = window.take_batch(|&key| key != 1).unwrap();
        assert_eq!(batch.iter().map(|row| row.key).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn drain_returns_what_was_not_given_out() {
        let mut window = Window::new(4);
        window.push(rows(&[4, 3, 2]));
        window.take_batch(|_| true).unwrap();
        window.push(rows(&[1]));
        let mut keys: Vec<usize> = window.drain().into_iter().map(|row| row.key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [0, 1, 2]);
        assert!(window.is_empty());
    }

    proptest! {
        #[test]
        fn every_pushed_row_comes_out_once(
            pushes in prop::collection::vec(prop::collection::vec(1usize..40, 0..20), 1..6),
            takes in prop::collection::vec(0usize..4, 6),
        ) {
            let mut window = Window::new(64);
            let mut pushed = 0usize;
            let mut taken = Vec::new();
            for (lengths, takes) in pushes.iter().zip(takes) {
                let first = pushed;
                pushed += lengths.len();
                window.push(lengths.iter().enumerate().map(|(index, &length)| {
                    WindowRow { key: first + index, tokens: TextTokens::of_one(vec![1; length]) }
                }));
                for _ in 0..takes {
                    taken.extend(window.take_batch(|_| true).into_iter().flatten());
                }
            }
            while let Some(batch) = window.take_batch(|_| true) {
                taken.extend(batch);
            }
            let mut keys: Vec<usize> = taken.iter().map(|row| row.key).collect();
            keys.sort_unstable();
            prop_assert!(keys.into_iter().eq(0..pushed));
            prop_assert!(window.is_empty());
        }
    }
}
