//! Rows on their way into a stage: what has come along its edges and has not become an input yet.
//!
//! ```text
//!  forward ──► queue ────────────────┐
//!  exchange ─► by partition ─────────┼──► input: blocks of every feed, in the order of the edges
//!  even ─────► queue ► by partition ─┤
//!  broadcast ► whole, for every input┘
//! ```
//! A feed is *closed* as long as what comes along it cannot become inputs, because another one is not over: an exchange, an even
//! one or a broadcast, or in order a forward feed before it. Blocks of these, and those that wait in a closed feed that is
//! [apart](Feeds::set_apart), count as exchange data and not against the budget.

mod arrived;
mod even;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::event::{BlockKey, BlockSlice};
use super::lineage::{Account, BlockTable, Ingredient, Ingredients};
use super::skew::{Cutting, Piece, Pieces, Spread};
use crate::graph::EdgeKind;
pub(super) use arrived::Arrived;

#[derive(Debug)]
struct Feed {
    from: usize,
    kind: EdgeKind,
    /// Of forward and broadcast edges, and of even ones that are not over; exchanges are sorted by partition.
    blocks: VecDeque<Arrived>,
    /// In `blocks`.
    rows: u64,
    /// The same.
    bytes: u64,
    /// Nothing more comes.
    is_over: bool,
    /// What it may wait for needs what gives along it.
    is_apart: bool,
    /// All of a broadcast, once it is over.
    whole: Option<Arc<[Ingredient]>>,
}

/// Blocks of one partition, of each feed.
#[derive(Debug, Default)]
struct Partition {
    bytes: u64,
    feeds: Vec<Vec<Arrived>>,
    /// It is so large that several inputs are made of it.
    cutting: Option<Cutting>,
    /// The first of them was made: nothing is in `feeds` any more.
    pieces: Option<Pieces>,
}

/// How much becomes one input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// Rows that an input of forward feeds should have.
    pub(crate) rows: u64,
    /// With so many bytes fewer rows will do; 0: they never do.
    pub(crate) enough_bytes: u64,
    /// It takes more, up to so many, if they are here.
    pub(crate) more_rows: u64,
    /// As long as it has fewer bytes than that.
    pub(crate) more_bytes: u64,
    /// Small neighbouring partitions are put together up to so many bytes; 0: never.
    pub(crate) partition_bytes: u64,
    /// Fewer rows will do.
    pub(crate) is_forced: bool,
}

/// The edges to a stage.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    feeds: Vec<Feed>,
    /// Whether rows of an edge wait for all of the edges before.
    is_ordered: bool,
    /// Of exchanges and even feeds, those that no input has been made of.
    partitions: BTreeMap<u32, Partition>,
    partition_bytes: u64,
    /// Whether an input was made.
    has_begun: bool,
    /// Whether there is one empty input where nothing came along forward edges.
    runs_empty: bool,
    /// What may be done with partitions that are too large.
    spread: Option<Spread>,
    /// Inputs of those beyond one each.
    more_inputs: usize,
    /// Partitions that were cut, and the inputs that they became.
    cut: (u64, u64),
}

impl Feeds {
    /// No edges yet.
    pub(crate) fn new(is_ordered: bool, runs_empty: bool, spread: Option<Spread>) -> Self {
        Self {
            is_ordered,
            runs_empty,
            spread,
            ..Self::default()
        }
    }

    /// One more edge; returns its position.
    pub(crate) fn add(&mut self, from: usize, kind: EdgeKind) -> usize {
        self.feeds.push(Feed {
            from,
            kind,
            blocks: VecDeque::new(),
            rows: 0,
            bytes: 0,
            is_over: false,
            is_apart: false,
            whole: None,
        });
        self.feeds.len() - 1
    }

    /// Blocks that wait in the feed because it is closed may not hold up those who give them.
    pub(crate) fn set_apart(&mut self, feed: usize) {
        self.feeds[feed].is_apart = true;
    }

    /// The stages that give, in the order of the edges.
    pub(crate) fn givers(&self) -> impl Iterator<Item = (usize, EdgeKind)> {
        self.feeds.iter().map(|feed| (feed.from, feed.kind))
    }

    /// The feeds that may keep this one closed.
    pub(crate) fn waited_for(&self, feed: usize) -> Vec<usize> {
        let is_forward = |feed: &Feed| feed.kind == EdgeKind::Forward;
        let others = self.feeds.iter().enumerate().filter(|&(index, other)| {
            let is_before = self.is_ordered && index < feed && is_forward(other);
            is_before || other.kind == EdgeKind::Broadcast
        });
        let others = others.map(|(index, _)| index).collect();
        if is_forward(&self.feeds[feed]) {
            others
        } else {
            Vec::new()
        }
    }

    /// Whether its rows come from a source.
    pub(crate) fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    fn is_exchange(&self) -> bool {
        let kinds = self.feeds.iter().map(|feed| feed.kind);
        kinds
            .into_iter()
            .any(|kind| matches!(kind, EdgeKind::Exchange { .. } | EdgeKind::Even { .. }))
    }

    /// Whether nothing more comes.
    pub(crate) fn are_over(&self) -> bool {
        self.feeds.iter().all(|feed| feed.is_over)
    }

    /// Whether no input can be made, whatever comes along forward edges.
    pub(crate) fn are_closed(&self) -> bool {
        let holds_up = |feed: &Feed| !feed.is_over && feed.kind != EdgeKind::Forward;
        self.feeds.iter().any(holds_up)
    }

    /// Whether blocks of a forward feed can become inputs now.
    pub(crate) fn is_open(&self, feed: usize) -> bool {
        let mut before = self.feeds[..feed].iter();
        !self.are_closed() && (!self.is_ordered || before.all(|feed| feed.is_over))
    }

    /// What a block that comes along now counts against.
    pub(crate) fn account(&self, feed: usize) -> Account {
        let Feed { kind, is_apart, .. } = self.feeds[feed];
        if kind != EdgeKind::Forward || (is_apart && !self.is_open(feed)) {
            Account::Exchange
        } else {
            Account::Budget
        }
    }

    /// A block comes along.
    pub(crate) fn push(&mut self, feed: usize, part: BlockSlice, partition: u32) {
        let account = self.account(feed);
        let arrived = Arrived { part, account };
        let EdgeKind::Exchange { partitions } = self.feeds[feed].kind else {
            self.feeds[feed].blocks.push_back(arrived);
            self.feeds[feed].rows += part.rows;
            self.feeds[feed].bytes += part.bytes;
            return;
        };
        let number = if partitions == 1 { 0 } else { partition };
        self.put(number, feed, arrived);
    }

    fn put(&mut self, number: u32, feed: usize, arrived: Arrived) {
        let count = self.feeds.len();
        let partition = self.partitions.entry(number).or_default();
        partition.feeds.resize_with(count, Vec::new);
        partition.feeds[feed].push(arrived);
        partition.bytes += arrived.part.own_bytes();
        self.partition_bytes += arrived.part.own_bytes();
    }

    /// Nothing more comes along.
    pub(crate) fn end(&mut self, feed: usize, blocks: &mut BlockTable) {
        let was_closed = self.are_closed();
        self.feeds[feed].is_over = true;
        // Who gives may end once more, when something of it has been made again.
        if was_closed && !self.are_closed() {
            self.cut_evenly(blocks);
            self.find_large();
        }
    }

    /// All partitions are there: those that are much larger than others will become several inputs.
    fn find_large(&mut self) {
        let Some(spread) = &self.spread else { return };
        let mut means: Vec<u64> = vec![0; self.feeds.len()];
        for partition in self.partitions.values() {
            for (sum, blocks) in means.iter_mut().zip(&partition.feeds) {
                *sum += blocks.iter().map(Arrived::bytes).sum::<u64>();
            }
        }
        for (mean, feed) in means.iter_mut().zip(&self.feeds) {
            if let EdgeKind::Exchange { partitions } = feed.kind {
                *mean /= u64::from(partitions.max(1));
            }
        }
        for partition in self.partitions.values_mut() {
            partition.cutting = spread.cutting(&partition.feeds, &means);
            let pieces = partition.cutting.map_or(1, |cutting| cutting.pieces);
            self.more_inputs += pieces - 1;
        }
    }

    /// Partitions that were too large, and the inputs that they became.
    pub(crate) fn cut(&self) -> (u64, u64) {
        self.cut
    }

    /// Whether inputs are still to be made of what is there.
    pub(crate) fn have_blocks(&self) -> bool {
        if self.is_exchange() {
            return !self.partitions.is_empty() || !self.has_begun;
        }
        let mut forward = self.forward();
        self.owes_empty() || forward.any(|(_, feed)| !feed.blocks.is_empty())
    }

    /// Whether nothing came, and that is worth an input.
    fn owes_empty(&self) -> bool {
        self.runs_empty && !self.has_begun && !self.is_empty() && self.are_over()
    }

    fn forward(&self) -> impl Iterator<Item = (usize, &Feed)> {
        let all = self.feeds.iter().enumerate();
        all.filter(|(_, feed)| feed.kind == EdgeKind::Forward)
    }

    /// Rows that wait here, of feeds that are not exchanged.
    pub(crate) fn forward_rows(&self) -> u64 {
        self.forward().map(|(_, feed)| feed.rows).sum()
    }

    /// About how many inputs could be made at once.
    pub(crate) fn ready_inputs(&self, measure: Measure) -> usize {
        if self.are_closed() {
            return 0;
        }
        if !self.is_exchange() {
            let (mut blocks, mut rows, mut bytes) = (0, 0, 0);
            for (index, feed) in self.forward() {
                if self.is_open(index) {
                    blocks += feed.blocks.len();
                    rows += feed.rows;
                    bytes += feed.bytes;
                }
            }
            let heavy = bytes.checked_div(measure.enough_bytes).unwrap_or(0);
            let full = rows.checked_div(measure.rows).map(|full| full.max(heavy));
            let full = full.map_or(blocks, |full| usize::try_from(full).unwrap_or(blocks));
            return full.clamp(usize::from(self.have_blocks()), blocks.max(1));
        }
        let most = self.partitions.len() + self.more_inputs;
        let most = most.max(usize::from(!self.has_begun));
        let full = self.partition_bytes.checked_div(measure.partition_bytes);
        full.and_then(|full| usize::try_from(full).ok())
            .map_or(most, |full| most.min(full + 1 + self.more_inputs))
    }

    /// What the next input is made of, if there is enough for one.
    pub(crate) fn next_input(
        &mut self,
        blocks: &mut BlockTable,
        measure: Measure,
    ) -> Option<Ingredients> {
        if self.are_closed() {
            return None;
        }
        let piece = self.take_piece(blocks);
        let is_piece = piece.is_some();
        let (mut taken, partition) = if let Some(piece) = piece {
            piece
        } else if self.is_exchange() {
            self.take_partitions(blocks, measure.partition_bytes)?
        } else {
            (self.take_forward(blocks, measure)?, 0)
        };
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            if feed.kind == EdgeKind::Broadcast {
                taken[index] = feed.share(blocks);
            }
        }
        Some(Ingredients::Blocks {
            feeds: taken,
            partition,
            is_piece,
        })
    }

    /// In order, blocks of a feed wait for all of the feeds before.
    fn take_forward(
        &mut self,
        blocks: &BlockTable,
        measure: Measure,
    ) -> Option<Vec<Arc<[Ingredient]>>> {
        let (mut rows, mut bytes, mut all) = (0, 0, 0);
        let mut counts = vec![0; self.feeds.len()];
        let is_heavy = |bytes: u64| measure.enough_bytes > 0 && bytes >= measure.enough_bytes;
        let is_enough = |rows: u64, bytes: u64, all: usize| {
            all > 0 && (rows >= measure.rows || is_heavy(bytes))
        };
        let is_full = |rows: u64, bytes: u64, all: usize| {
            let takes_more = rows < measure.more_rows && bytes < measure.more_bytes;
            is_enough(rows, bytes, all) && !takes_more
        };
        for (index, feed) in self.forward() {
            for block in &feed.blocks {
                if is_full(rows, bytes, all) {
                    break;
                }
                rows += block.part.rows;
                bytes += block.part.bytes;
                all += 1;
                counts[index] += 1;
            }
            if self.is_ordered && !feed.is_over {
                break;
            }
        }
        let is_enough = is_enough(rows, bytes, all) || self.are_over() || measure.is_forced;
        if !(self.owes_empty() || all > 0 && is_enough) {
            return None;
        }
        self.has_begun = true;
        let feeds = self.feeds.iter_mut().zip(counts);
        let take = |(feed, count): (&mut Feed, usize)| {
            let taken = feed.blocks.drain(..count);
            let taken = taken.inspect(|arrived| {
                feed.rows -= arrived.part.rows;
                feed.bytes -= arrived.part.bytes;
            });
            taken.map(|arrived| arrived.ingredient(blocks)).collect()
        };
        Some(feeds.map(take).collect())
    }

    /// A piece of the next partition, if that is too large for one input.
    fn take_piece(&mut self, blocks: &mut BlockTable) -> Option<(Vec<Arc<[Ingredient]>>, u32)> {
        let mut next = self.partitions.first_entry()?;
        let number = *next.key();
        let partition = next.get_mut();
        let cutting = partition.cutting.as_mut()?;
        let (feeds, pieces) = (&mut partition.feeds, &mut partition.pieces);
        let is_first = pieces.is_none();
        let pieces =
            pieces.get_or_insert_with(|| Pieces::new(*cutting, std::mem::take(feeds), blocks));
        let Piece { feeds, is_last } = pieces.next(blocks);
        let planned = cutting.pieces - 1;
        let made = if is_last { planned } else { planned.min(1) };
        cutting.pieces -= made;
        self.more_inputs -= made;
        self.cut.0 += u64::from(is_first);
        self.cut.1 += 1;
        self.has_begun = true;
        if is_last {
            self.partition_bytes -= next.remove().bytes;
        }
        Some((feeds, number))
    }

    /// The next partition, and as many of its neighbours as are small. If nothing at all came, there is one empty input: the
    /// sum of nothing is a row, and its columns are known.
    fn take_partitions(
        &mut self,
        blocks: &BlockTable,
        most_bytes: u64,
    ) -> Option<(Vec<Arc<[Ingredient]>>, u32)> {
        let count = self.feeds.len();
        let mut taken: Vec<Vec<Ingredient>> = (0..count).map(|_| Vec::new()).collect();
        let (mut first, mut bytes) = (None, 0);
        while let Some(next) = self.partitions.first_entry() {
            let has_room = bytes + next.get().bytes <= most_bytes;
            if first.is_some() && (!has_room || next.get().cutting.is_some()) {
                break;
            }
            first.get_or_insert(*next.key());
            let partition = next.remove();
            bytes += partition.bytes;
            for (all, arrived) in taken.iter_mut().zip(partition.feeds) {
                let begin = all.len();
                all.extend(arrived.iter().map(|arrived| arrived.ingredient(blocks)));
                all[begin..].sort_by_key(Ingredient::place);
            }
        }
        if first.is_none() && self.has_begun {
            return None;
        }
        self.has_begun = true;
        self.partition_bytes -= bytes;
        Some((
            taken.into_iter().map(Into::into).collect(),
            first.unwrap_or(0),
        ))
    }

    /// An input of none of them.
    pub(crate) fn nothing(&self) -> Ingredients {
        Ingredients::Blocks {
            feeds: self.feeds.iter().map(|_| Arc::from([])).collect(),
            partition: 0,
            is_piece: false,
        }
    }

    /// All blocks that are here.
    pub(crate) fn drain(&mut self) -> Vec<(BlockKey, Account)> {
        self.has_begun = true;
        (self.partition_bytes, self.more_inputs) = (0, 0);
        let (mut arrived, mut blocks): (Vec<Arrived>, Vec<_>) = (Vec::new(), Vec::new());
        for partition in std::mem::take(&mut self.partitions).into_values() {
            arrived.extend(partition.feeds.into_iter().flatten());
            let rest = partition.pieces.iter().flat_map(Pieces::rest);
            blocks.extend(rest.map(|one| (one.part.block, one.account)));
        }
        for feed in &mut self.feeds {
            arrived.extend(feed.blocks.drain(..));
            (feed.rows, feed.bytes) = (0, 0);
            let whole = feed.whole.take();
            let whole = whole.iter().flat_map(|whole| whole.iter());
            blocks.extend(whole.map(|one| (one.part.block, one.account)));
        }
        blocks.extend(arrived.iter().map(|one| (one.part.block, one.account)));
        blocks
    }

    /// The sums are those of what is here.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        for feed in &self.feeds {
            let parts = || feed.blocks.iter().map(|arrived| arrived.part);
            let rows: u64 = parts().map(|part| part.rows).sum();
            let bytes: u64 = parts().map(|part| part.bytes).sum();
            if matches!(feed.kind, EdgeKind::Forward) {
                assert_eq!((feed.rows, feed.bytes), (rows, bytes));
            }
        }
    }
}

impl Feed {
    /// All of a broadcast, for one more input.
    fn share(&mut self, blocks: &mut BlockTable) -> Arc<[Ingredient]> {
        let arrived = &mut self.blocks;
        let whole = self.whole.get_or_insert_with(|| {
            let all = arrived.drain(..).map(|arrived| arrived.ingredient(blocks));
            let mut all: Vec<Ingredient> = all.collect();
            all.sort_by_key(Ingredient::place);
            all.into()
        });
        for ingredient in whole.iter() {
            blocks.share(ingredient.part.block, ingredient.account);
        }
        Arc::clone(whole)
    }
}
