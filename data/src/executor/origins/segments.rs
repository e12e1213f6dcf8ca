//! Rows that belong together: what became of some rows of the source, or of the stage before, is one segment. It is done when all
//! its rows are in outputs that are written; then what it was made of has come so much further.
//!
//! Outputs that have rows of one segment count together or not at all: whoever goes on makes the whole segment again. Such outputs,
//! and all that hangs on them, are a component; it is told when no segment of it misses a row.

use std::collections::HashMap;

use crate::ledger::SourceRange;

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SegmentKey(u64);

/// Rows of a segment, in one block or input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentPiece {
    pub(super) segment: SegmentKey,
    pub(super) rows: u64,
}

/// What a segment was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MadeOf {
    Source(Vec<SourceRange>),
    Pieces(Vec<SegmentPiece>),
}

#[derive(Debug, Default)]
struct Segment {
    /// What it was made of, and its rows, those that go to several stages as often; `None`: more may come.
    whole: Option<(MadeOf, u64)>,
    done_rows: u64,
    component: Option<u64>,
}

/// Outputs that count together.
#[derive(Debug)]
struct Component<O> {
    outputs: Vec<O>,
    ranges: Vec<SourceRange>,
    segments: Vec<SegmentKey>,
    /// Segments that miss rows.
    open: usize,
}

/// Outputs that are whole: all that becomes of these rows of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled<O> {
    pub(crate) outputs: Vec<O>,
    pub(crate) ranges: Vec<SourceRange>,
}

/// The segments that are not done.
#[derive(Debug)]
pub(super) struct Segments<O> {
    segments: HashMap<SegmentKey, Segment>,
    next_segment: u64,
    components: HashMap<u64, Component<O>>,
    next_component: u64,
}

impl<O> Default for Segments<O> {
    fn default() -> Self {
        Self {
            segments: HashMap::new(),
            next_segment: 0,
            components: HashMap::new(),
            next_component: 0,
        }
    }
}

impl<O> Segments<O> {
    /// One more, of which no row is there yet.
    pub(super) fn begin(&mut self) -> SegmentKey {
        let key = SegmentKey(self.next_segment);
        self.next_segment += 1;
        self.segments.insert(key, Segment::default());
        key
    }

    /// The segment has so many rows, which are all that becomes of what it was made of.
    pub(super) fn close(
        &mut self,
        key: SegmentKey,
        made_of: MadeOf,
        rows: u64,
    ) -> Option<Settled<O>> {
        let segment = self.segments.get_mut(&key)?;
        segment.whole = Some((made_of, rows));
        if segment.done_rows < rows {
            return None;
        }
        self.count(
            &[SegmentPiece {
                segment: key,
                rows: 0,
            }],
            None,
        )
    }

    /// The output has these rows, and is written. Returns what is whole with it.
    pub(super) fn written(&mut self, pieces: &[SegmentPiece], output: O) -> Option<Settled<O>> {
        self.count(pieces, Some(output))
    }

    /// The output counts together with the segment, which is not whole yet.
    pub(super) fn attach(&mut self, key: SegmentKey, output: O) {
        let component = self.begin_component(Some(output));
        self.touch(key, component);
    }

    /// What these rows are made of, if nobody else has rows of it. Adds to `attached` what counts together with them.
    pub(super) fn alone<'a>(
        &'a self,
        piece: SegmentPiece,
        attached: &mut Vec<&'a O>,
    ) -> Option<Vec<SourceRange>> {
        let segment = self.segments.get(&piece.segment)?;
        let (made_of, rows) = segment.whole.as_ref()?;
        if *rows != piece.rows {
            return None;
        }
        let component = segment.component.and_then(|one| self.components.get(&one));
        if component.is_some_and(|one| one.segments.len() > 1) {
            return None;
        }
        attached.extend(component.iter().flat_map(|one| &one.outputs));
        match made_of {
            MadeOf::Source(ranges) => Some(ranges.clone()),
            MadeOf::Pieces(pieces) => {
                let mut ranges = Vec::new();
                for &piece in pieces {
                    ranges.extend(self.alone(piece, attached)?);
                }
                Some(ranges)
            }
        }
    }

    /// Outputs that are written and not whole.
    pub(super) fn rest(self) -> Vec<O> {
        let components = self.components.into_values();
        components.flat_map(|component| component.outputs).collect()
    }

    fn count(&mut self, pieces: &[SegmentPiece], output: Option<O>) -> Option<Settled<O>> {
        let mut component = self.begin_component(output);
        let mut counting = pieces.to_vec();
        while let Some(SegmentPiece { segment: key, rows }) = counting.pop() {
            component = self.touch(key, component);
            let Some(segment) = self.segments.get_mut(&key) else {
                continue;
            };
            segment.done_rows += rows;
            let is_done = matches!(segment.whole, Some((_, rows)) if rows == segment.done_rows);
            if !is_done {
                continue;
            }
            let whole = self.segments.remove(&key).and_then(|segment| segment.whole);
            let Some(found) = self.components.get_mut(&component) else {
                continue;
            };
            found.open -= 1;
            match whole {
                Some((MadeOf::Source(ranges), _)) => found.ranges.extend(ranges),
                Some((MadeOf::Pieces(pieces), _)) => counting.extend(pieces),
                None => {}
            }
        }
        if self.components.get(&component)?.open > 0 {
            return None;
        }
        let Component {
            outputs, ranges, ..
        } = self.components.remove(&component)?;
        Some(Settled { outputs, ranges })
    }

    fn begin_component(&mut self, output: Option<O>) -> u64 {
        let number = self.next_component;
        self.next_component += 1;
        let component = Component {
            outputs: output.into_iter().collect(),
            ranges: Vec::new(),
            segments: Vec::new(),
            open: 0,
        };
        self.components.insert(number, component);
        number
    }

    /// The segment belongs to the component, and what it belonged to before. Returns the one that both are now.
    fn touch(&mut self, key: SegmentKey, component: u64) -> u64 {
        let Some(segment) = self.segments.get_mut(&key) else {
            return component;
        };
        let Some(other) = segment.component else {
            segment.component = Some(component);
            if let Some(found) = self.components.get_mut(&component) {
                found.open += 1;
                found.segments.push(key);
            }
            return component;
        };
        if other == component {
            return component;
        }
        // The smaller one becomes part of the larger.
        let size = |id: &u64| self.components.get(id).map_or(0, |one| one.segments.len());
        let (small, large) = if size(&component) < size(&other) {
            (component, other)
        } else {
            (other, component)
        };
        let Some(small) = self.components.remove(&small) else {
            return large;
        };
        for key in &small.segments {
            if let Some(segment) = self.segments.get_mut(key) {
                segment.component = Some(large);
            }
        }
        if let Some(found) = self.components.get_mut(&large) {
            found.outputs.extend(small.outputs);
            found.ranges.extend(small.ranges);
            found.segments.extend(small.segments);
            found.open += small.open;
        }
        large
    }
}
