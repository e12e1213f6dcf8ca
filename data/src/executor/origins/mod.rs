//! Which rows of the source became which outputs, through all stages of a chain: so a job of several stages goes on where it was left.
//!
//! ```text
//!  input of the source   0 ........ 64 ....... 128 ....      places: rows that come to the first function
//!                        │          │          │
//!  blocks of the stage   [ segment  |  segment ][ seg...     a worker tells where it knows that all of a place is out (marks)
//!                             │          │
//!  inputs of the next    [ pieces of segments        ]       ... and so on, to the last stage
//!                             │
//!  outputs               files: when all rows of a segment are in such, what it was made of is done
//! ```
//! Where the rows of a stage go to several others, each of these must have written them.
//! Nothing of this depends on where blocks are cut, or which of them meet in an input: a later run may cut and mix as it likes.
//!
//! - LED-2 (all-or-made-again): an output is told with the rows of the source that it was made of, when all that becomes of these is
//!   written. So whoever goes on makes of every row of the source all that becomes of it, or nothing.

mod segments;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use crate::executor::core::event::BlockKey;
use crate::ledger::{DoneRanges, END, Salvaged, SourceRange, Span};
use segments::{MadeOf, SegmentKey, SegmentPiece, Segments};

pub(crate) use segments::Settled;

/// An input: its stage, and its place in the order of that.
type InputKey = (usize, u64);

/// What an input consists of.
pub(crate) enum Comes {
    /// The source's input at this place.
    Source(u64),
    /// These blocks.
    Blocks(Vec<BlockKey>),
    /// Rows that an earlier run has noted, by their number among such.
    Noted(usize),
    /// The rows of the source of which these noted rows are the first that become of them; they are made again.
    Rest(usize),
}

/// Where rows of an input came from.
enum From {
    Source(u64),
    Pieces {
        pieces: Vec<SegmentPiece>,
        /// Rows up to the end of each.
        ends: Vec<u64>,
    },
    Rest(Vec<SourceRange>),
}

/// All that becomes of the rows before the place has come out, in so many rows.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    row: u64,
    place: u64,
}

/// An input under way.
struct InputInWork {
    from: From,
    /// Rows in blocks.
    rows_out: u64,
    /// Where the segment that comes next began, and it, if rows of it are in blocks.
    begun: Mark,
    open: Option<SegmentKey>,
    /// Behind the rows in blocks.
    marks: VecDeque<Mark>,
}

/// What is under way of a job. `O`: an output that is written.
pub(crate) struct Origins<O> {
    /// Of inputs of the source: what earlier runs have done.
    done_before: HashMap<u64, DoneRanges>,
    /// Of each stage: how many others its rows go to.
    takers: Vec<u64>,
    inputs: HashMap<InputKey, InputInWork>,
    blocks: HashMap<BlockKey, BlockOnItsWay>,
    segments: Segments<O>,
    noted: Vec<NotedRows>,
}

/// A block that inputs will have.
struct BlockOnItsWay {
    pieces: Vec<SegmentPiece>,
    /// Stages that no input has begun in which has it.
    waits_for: u64,
}

/// Rows that an earlier run has noted.
struct NotedRows {
    pieces: Vec<SegmentPiece>,
    /// Of the last piece: what it is made of.
    rest: Vec<SourceRange>,
}

impl<O> Origins<O> {
    /// Nothing is under way. `takers`: of each stage, how many others its rows go to; `done_before`: what earlier runs have done of
    /// inputs that they have not done as a whole; `salvaged`: what they have noted; `found`: what counts with each of these.
    pub(crate) fn new(
        takers: Vec<u64>,
        done_before: HashMap<u64, DoneRanges>,
        salvaged: &[Salvaged],
        found: impl Iterator<Item = Vec<O>>,
    ) -> Self {
        let mut segments = Segments::default();
        let noted = salvaged.iter().zip(found).map(|(salvaged, found)| {
            // As one row: none of these rows is anywhere else.
            let whole = segments.begin();
            let ranges = salvaged.whole.ranges.clone();
            segments.close(whole, MadeOf::Source(ranges), 1);
            for found in found {
                segments.attach(whole, found);
            }
            let mut pieces = vec![SegmentPiece {
                segment: whole,
                rows: 1,
            }];
            let rest = salvaged.rest.as_ref();
            pieces.extend(rest.map(|rest| SegmentPiece {
                segment: segments.begin(),
                rows: rest.rows,
            }));
            NotedRows {
                pieces,
                rest: rest.map_or_else(Vec::new, |rest| rest.ranges.clone()),
            }
        });
        let noted = noted.collect();
        Self {
            done_before,
            takers,
            inputs: HashMap::new(),
            blocks: HashMap::new(),
            segments,
            noted,
        }
    }

    /// What earlier runs have done of the source's input, as ranges.
    pub(crate) fn done_before(&self, input: u64) -> Vec<u64> {
        let done = self.done_before.get(&input);
        done.map_or_else(Vec::new, DoneRanges::flat)
    }

    /// An input begins, perhaps not for the first time.
    pub(crate) fn begin(&mut self, input: InputKey, comes: Comes) {
        if self.inputs.contains_key(&input) {
            return;
        }
        let from = match &comes {
            Comes::Source(place) => From::Source(*place),
            Comes::Noted(number) => From::pieces(self.noted[*number].pieces.clone()),
            Comes::Rest(number) => From::Rest(self.noted[*number].rest.clone()),
            Comes::Blocks(blocks) => {
                let blocks = blocks.iter().filter_map(|&block| self.pieces_of(block));
                From::pieces(blocks.flatten().collect())
            }
        };
        let mut under_way = InputInWork {
            from,
            rows_out: 0,
            begun: Mark::default(),
            open: None,
            marks: VecDeque::new(),
        };
        if let Comes::Rest(number) = comes
            && let Some(piece) = self.noted[number].pieces.last()
        {
            // As if the rows that are noted had gone out.
            under_way.rows_out = piece.rows;
            under_way.open = Some(piece.segment);
        }
        self.inputs.insert(input, under_way);
    }

    /// What a block has, for one of the stages that it goes to.
    fn pieces_of(&mut self, key: BlockKey) -> Option<Vec<SegmentPiece>> {
        let block = self.blocks.get_mut(&key)?;
        block.waits_for = block.waits_for.saturating_sub(1);
        if block.waits_for > 0 {
            return Some(block.pieces.clone());
        }
        Some(self.blocks.remove(&key)?.pieces)
    }

    /// What the first rows of an input are made of that only this input has, with what counts together with these rows; so a journal of it
    /// counts up to there.
    pub(crate) fn spans(&self, input: InputKey) -> Vec<(Span, Vec<&O>)> {
        let pieces = match self.inputs.get(&input).map(|input| &input.from) {
            Some(From::Pieces { pieces, .. }) => pieces.as_slice(),
            _ => &[],
        };
        let spans = pieces.iter().map_while(|&piece| {
            let mut attached = Vec::new();
            let ranges = self.segments.alone(piece, &mut attached)?;
            let span = Span {
                rows: piece.rows,
                ranges,
                ..Span::default()
            };
            Some((span, attached))
        });
        spans.collect()
    }

    /// A block of an input that goes to the next stage, if there is one, with its rows; `marks`: rows and places, in pairs, from the
    /// input's beginning. Returns what is whole with that.
    pub(crate) fn made(
        &mut self,
        input: InputKey,
        block: Option<(BlockKey, u64)>,
        marks: &[u64],
        is_last: bool,
    ) -> Vec<Settled<O>> {
        let Some(under_way) = self.inputs.get_mut(&input) else {
            return Vec::new();
        };
        let takers = self.takers.get(input.0).copied().unwrap_or(1);
        under_way.hear(marks);
        let end = under_way.rows_out + block.map_or(0, |(_, rows)| rows);
        if is_last {
            under_way.end(end);
        }
        let mut pieces = Vec::new();
        let mut settled = Vec::new();
        while let Some(mark) = under_way.marks.pop_front_if(|mark| mark.row <= end) {
            under_way.give(mark.row, &mut pieces, &mut self.segments);
            let segment = under_way
                .open
                .take()
                .unwrap_or_else(|| self.segments.begin());
            let made_of = under_way.made_of(mark.place, &self.done_before);
            let rows = mark.row - under_way.begun.row;
            under_way.begun = mark;
            // Each of them is to be written so many times.
            settled.extend(self.segments.close(segment, made_of, rows * takers));
        }
        under_way.give(end, &mut pieces, &mut self.segments);
        if let Some((block, _)) = block {
            let waits_for = takers;
            self.blocks
                .insert(block, BlockOnItsWay { pieces, waits_for });
        }
        if is_last {
            self.inputs.remove(&input);
        }
        settled
    }

    /// The output counts together with all that comes out of the input, which tells no marks and has not ended yet.
    pub(crate) fn attach(&mut self, input: InputKey, output: O) {
        if let Some(under_way) = self.inputs.get_mut(&input) {
            let segment = under_way.open.get_or_insert_with(|| self.segments.begin());
            self.segments.attach(*segment, output);
        }
    }

    /// An input of the last stage is written. Returns what is whole with that.
    pub(crate) fn written(&mut self, input: InputKey, output: O) -> Option<Settled<O>> {
        let under_way = self.inputs.remove(&input);
        let ranges = match under_way.map(|under_way| under_way.from) {
            Some(From::Pieces { pieces, .. }) => return self.segments.written(&pieces, output),
            Some(From::Source(place)) => self.left_of(SourceRange {
                input: place,
                from: 0,
                to: END,
            }),
            Some(From::Rest(ranges)) => ranges,
            None => Vec::new(),
        };
        Some(Settled {
            outputs: vec![output],
            ranges,
        })
    }

    /// The range without what earlier runs have done of it.
    fn left_of(&self, range: SourceRange) -> Vec<SourceRange> {
        without(range, self.done_before.get(&range.input))
    }

    /// Outputs that were written, and are not whole.
    pub(crate) fn rest(self) -> Vec<O> {
        self.segments.rest()
    }
}

fn without(range: SourceRange, done: Option<&DoneRanges>) -> Vec<SourceRange> {
    let mut left = Vec::new();
    let mut from = range.from;
    let done = done.map_or_else(Vec::new, DoneRanges::flat);
    for hole in done.chunks_exact(2) {
        let to = hole[0].min(range.to);
        if from < to {
            left.push(SourceRange { from, to, ..range });
        }
        from = from.max(hole[1]);
    }
    if from < range.to {
        left.push(SourceRange { from, ..range });
    }
    left
}

impl From {
    fn pieces(pieces: Vec<SegmentPiece>) -> Self {
        let mut end = 0;
        let ends = pieces.iter().map(|piece| {
            end += piece.rows;
            end
        });
        let ends = ends.collect();
        Self::Pieces { pieces, ends }
    }
}

impl InputInWork {
    /// Takes what a worker knows. Where nothing has come out between two places, the second goes with what comes behind it; within
    /// rows that are of one segment of the stage before nothing is told apart.
    fn hear(&mut self, marks: &[u64]) {
        for pair in marks.chunks_exact(2) {
            let mark = Mark {
                row: pair[0],
                place: pair[1],
            };
            let last = self.marks.back().copied().unwrap_or(self.begun);
            let is_news =
                mark.row > last.row && mark.row >= self.rows_out && mark.place >= last.place;
            let is_cut = match &self.from {
                From::Source(_) => true,
                From::Pieces { ends, .. } => ends.binary_search(&mark.place).is_ok(),
                From::Rest(_) => false,
            };
            if is_news && is_cut {
                self.marks.push_back(mark);
            }
        }
    }

    /// There are so many rows, of all that came.
    fn end(&mut self, rows: u64) {
        while self.marks.pop_back_if(|mark| mark.row >= rows).is_some() {}
        let place = match &self.from {
            From::Source(_) => END,
            From::Pieces { ends, .. } => ends.last().copied().unwrap_or(0),
            From::Rest(_) => END,
        };
        self.marks.push_back(Mark { row: rows, place });
    }

    /// Rows up to this one go into a block.
    fn give<O>(&mut self, row: u64, pieces: &mut Vec<SegmentPiece>, segments: &mut Segments<O>) {
        if row > self.rows_out {
            let segment = *self.open.get_or_insert_with(|| segments.begin());
            let rows = row - self.rows_out;
            pieces.push(SegmentPiece { segment, rows });
            self.rows_out = row;
        }
    }

    /// What a segment is made of that ends at this place.
    fn made_of(&self, to: u64, done_before: &HashMap<u64, DoneRanges>) -> MadeOf {
        let from = self.begun.place;
        match &self.from {
            From::Source(input) => {
                let range = SourceRange {
                    input: *input,
                    from,
                    to,
                };
                MadeOf::Source(without(range, done_before.get(input)))
            }
            From::Pieces { pieces, ends } => {
                let ends = ends.iter().zip(pieces);
                let own = ends.filter(|&(&end, _)| end > from && end <= to);
                MadeOf::Pieces(own.map(|(_, piece)| *piece).collect())
            }
            From::Rest(ranges) => MadeOf::Source(ranges.clone()),
        }
    }
}
