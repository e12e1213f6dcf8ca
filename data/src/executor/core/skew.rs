//! Partitions that are much larger than others, cut into several inputs.
//!
//! ```text
//!  partition ──► feed that may be spread: some of its blocks ─┐
//!            └─► other feeds:             all of theirs ──────┴─► input; once more for the next of its blocks
//! ```
//! Which feeds may be is known of a join: a row of the left that meets all rows of the right with its key can be told without the
//! other rows of the left, unless rows of the right without a partner come out, too.

use std::collections::VecDeque;
use std::sync::Arc;

use super::feeds::Arrived;
use super::lineage::{BlockTable, Ingredient};

/// What may be done with a partition that is too large for one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// An input may have a part of what one of these feeds has of a partition, beside all that the others have of it.
    pub feeds: Vec<usize>,
    /// A partition is cut if such a feed has at least so many times the bytes of one on average in it,
    pub times_mean: u64,
    /// and at least these.
    pub least_bytes: u64,
}

/// Into how many inputs a partition is cut at most: each of them reads all of the other feeds.
const MOST_PIECES: u64 = 16;

/// How a partition is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cutting {
    feed: usize,
    bytes: u64,
    /// Bytes of the feed in one input.
    piece_bytes: u64,
    /// Inputs that are still to be made, about.
    pub(super) pieces: usize,
}

impl Spread {
    /// How the partition is to be cut, if it is. `means`: of each feed, the bytes of a partition on average.
    pub(super) fn cutting(&self, blocks: &[Vec<Arrived>], means: &[u64]) -> Option<Cutting> {
        let bytes = |feed: usize| -> u64 { blocks[feed].iter().map(Arrived::bytes).sum() };
        let of_feeds = self.feeds.iter().map(|&feed| (bytes(feed), feed));
        let (bytes, feed) = of_feeds.max()?;
        let mean = means[feed].max(1);
        let is_hot = bytes >= mean.saturating_mul(self.times_mean) && bytes >= self.least_bytes;
        let piece_bytes = mean.max(bytes.div_ceil(MOST_PIECES)).max(1);
        let pieces = usize::try_from(bytes.div_ceil(piece_bytes)).unwrap_or(usize::MAX);
        let pieces = pieces.min(blocks[feed].len());
        (is_hot && pieces > 1).then_some(Cutting {
            feed,
            bytes,
            piece_bytes,
            pieces,
        })
    }
}

/// A partition that is being cut.
#[derive(Debug)]
pub(super) struct Pieces {
    cutting: Cutting,
    /// Of the feed that is spread, in its order.
    left: VecDeque<Ingredient>,
    /// All of the other feeds, for every input.
    others: Vec<Arc<[Ingredient]>>,
}

/// What one input has of a partition that is cut.
pub(super) struct Piece {
    pub(super) feeds: Vec<Arc<[Ingredient]>>,
    pub(super) is_last: bool,
}

impl Pieces {
    /// Begins to cut a partition.
    pub(super) fn new(cutting: Cutting, blocks: Vec<Vec<Arrived>>, table: &BlockTable) -> Self {
        let in_order = |blocks: Vec<Arrived>| {
            let blocks = blocks.iter().map(|arrived| arrived.ingredient(table));
            let mut blocks: Vec<Ingredient> = blocks.collect();
            blocks.sort_by_key(Ingredient::place);
            blocks
        };
        let mut feeds: Vec<Vec<Ingredient>> = blocks.into_iter().map(in_order).collect();
        let left = std::mem::take(&mut feeds[cutting.feed]);
        Self {
            cutting,
            left: left.into(),
            others: feeds.into_iter().map(Into::into).collect(),
        }
    }

    /// The next input.
    pub(super) fn next(&mut self, table: &mut BlockTable) -> Piece {
        let (mut own, mut bytes) = (Vec::new(), 0);
        while bytes < self.cutting.piece_bytes
            && let Some(block) = self.left.pop_front()
        {
            bytes += block.part.bytes;
            own.push(block);
        }
        let is_last = self.left.is_empty();
        if !is_last {
            for other in self.others.iter().flat_map(|feed| feed.iter()) {
                table.share(other.part.block, other.account);
            }
        }
        let mut feeds = self.others.clone();
        feeds[self.cutting.feed] = own.into();
        Piece { feeds, is_last }
    }

    /// All that no input has been made of.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Ingredient> {
        self.left
            .iter()
            .chain(self.others.iter().flat_map(|feed| feed.iter()))
    }
}
