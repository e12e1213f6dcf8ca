//! Rows in their order, cut into runs of about equal length.

use super::{Arrived, Feed, Feeds};
use crate::executor::core::event::BlockSlice;
use crate::executor::core::lineage::BlockTable;
use crate::graph::EdgeKind;

impl Feeds {
    /// All rows of even feeds are there: each partition gets its run of them. Nothing is copied, and a block that two of them have
    /// rows of has two users.
    pub(super) fn cut_evenly(&mut self, blocks: &mut BlockTable) {
        let even = |feed: &Feed| match feed.kind {
            EdgeKind::Even { partitions } => Some(partitions),
            _ => None,
        };
        let Some(partitions) = self.feeds.iter().find_map(even) else {
            return;
        };
        let feeds = self.feeds.iter().filter(|feed| even(feed).is_some());
        let mut runs = EvenRuns::new(feeds.map(|feed| feed.rows).sum(), partitions);
        for index in 0..self.feeds.len() {
            let feed = &mut self.feeds[index];
            if even(feed).is_none() {
                continue;
            }
            (feed.rows, feed.bytes) = (0, 0);
            let mut arrived: Vec<Arrived> = feed.blocks.drain(..).collect();
            arrived.sort_by_key(|arrived| arrived.ingredient(blocks).place());
            for Arrived { part, account } in arrived {
                let pieces = runs.cut(part);
                (1..pieces.len()).for_each(|_| _ = blocks.share(part.block, account));
                for (number, part) in pieces {
                    self.put(number, index, Arrived { part, account });
                }
            }
        }
    }
}

/// Cuts blocks that come in their order.
struct EvenRuns {
    rows: u64,
    partitions: u32,
    /// Rows of the blocks so far.
    before: u64,
    /// The run that the next row is of.
    number: u32,
}

impl EvenRuns {
    /// So many runs of so many rows in all.
    fn new(rows: u64, partitions: u32) -> Self {
        Self {
            rows,
            partitions: partitions.max(1),
            before: 0,
            number: 0,
        }
    }

    /// How many rows come before the run behind this one.
    fn end_of(&self, number: u32) -> u64 {
        let ends = u128::from(self.rows) * (u128::from(number) + 1) / u128::from(self.partitions);
        u64::try_from(ends).expect("no more than all rows")
    }

    /// The rows of the next block, with the runs that they are of. A block without rows is of the run that is next.
    fn cut(&mut self, block: BlockSlice) -> Vec<(u32, BlockSlice)> {
        let (mut pieces, mut taken) = (Vec::new(), 0);
        loop {
            while self.number + 1 < self.partitions && self.end_of(self.number) <= self.before {
                self.number += 1;
            }
            let room = match self.number + 1 == self.partitions {
                true => u64::MAX,
                false => self.end_of(self.number) - self.before,
            };
            let rows = room.min(block.rows - taken);
            let piece = BlockSlice {
                first_row: block.first_row + taken,
                rows,
                ..block
            };
            pieces.push((self.number, piece));
            self.before += rows;
            taken += rows;
            if taken == block.rows {
                return pieces;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::executor::core::event::BlockKey;

    proptest! {
        /// EXE-4 (order-kept): every row is in one run, in its place, and runs differ by a row at most.
        #[test]
        fn runs_have_all_rows_in_order_and_about_equal_length(
            blocks in prop::collection::vec(0u64..50, 0..20),
            partitions in 1u32..30,
        ) {
            let total: u64 = blocks.iter().sum();
            let mut runs = EvenRuns::new(total, partitions);
            let mut lengths = vec![0; partitions as usize];
            let mut found = Vec::new();
            for (key, &rows) in (0..).zip(&blocks) {
                let block = BlockSlice {
                    block: BlockKey(key),
                    first_row: 3,
                    rows,
                    bytes: 100,
                    block_rows: 60,
                };
                for (number, piece) in runs.cut(block) {
                    prop_assert!(piece.rows > 0 || rows == 0, "no empty piece of a block with rows");
                    lengths[number as usize] += piece.rows;
                    found.extend((piece.first_row..piece.first_row + piece.rows).map(|row| (number, key, row)));
                }
            }
            prop_assert!(found.is_sorted(), "{found:?}");
            let all = (0..).zip(&blocks).flat_map(|(key, &rows)| (3..3 + rows).map(move |row| (key, row)));
            let rows: Vec<(u64, u64)> = found.iter().map(|&(_, key, row)| (key, row)).collect();
            prop_assert_eq!(rows, all.collect::<Vec<(u64, u64)>>());
            let least = total / u64::from(partitions);
            prop_assert!(lengths.iter().all(|rows| (least..=least + 1).contains(rows)), "{lengths:?}");
        }
    }
}
