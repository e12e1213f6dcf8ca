//! Cutting a source into inputs of about equal size, so that all workers are busy until the end.

use std::sync::Arc;

use bytes::Bytes;

use super::SourceBlock;

/// Splits are not made smaller than this where no function runs that might be slow.
const MIN_SPLIT_BYTES: u64 = 1 << 20;
/// Splits are not made larger than this, as a block in Ray.
const MAX_SPLIT_BYTES: u64 = 128 << 20;
/// Splits per worker: the last ones to end then differ by little.
const SPLITS_PER_WORKER: u64 = 4;
/// The same before a model, where rows can be cut anywhere for nothing: a worker that is ten times slower than the others keeps
/// little to the end, and later stages have work early.
const SPLITS_PER_MODEL: u64 = 32;
/// With so many batches in a split, the last one may be smaller: better than to cut a row group in two.
const MANY_BATCHES: u64 = 16;

/// One input of a source.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    /// Where it lies, as the source's reader understands it.
    pub(crate) position: Bytes,
    /// The blocks that the position speaks of, for sources that are blocks.
    pub(crate) blocks: Vec<Arc<SourceBlock>>,
    /// Rows that lie there.
    pub(crate) rows: u64,
    /// About how many bytes a row of them has in memory; 0: nobody knows.
    pub(crate) row_bytes: u64,
}

/// What runs over the rows of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowWork {
    /// Nothing that could be slow.
    Reading,
    /// A function, which may take any time.
    Function,
    /// A function that is loaded once per worker, next to which reading is nothing.
    Model,
}

impl RowWork {
    /// Whether user code runs.
    pub(crate) fn is_unknown(self) -> bool {
        self != Self::Reading
    }
}

/// How finely to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplitOptions {
    /// Workers that shall be busy.
    pub(crate) workers: usize,
    /// Rows that the first function gets at once, if that was asked for.
    pub(crate) batch_rows: Option<u64>,
    /// Rows that an input should have at least, where there are enough for all workers.
    pub(crate) window_rows: u64,
    pub(crate) work: RowWork,
    /// How many splits there shall be, if that was asked for: fewer where a function gets more rows at once.
    pub(crate) parts: Option<u64>,
    /// Whether workers run on several nodes: then what lies on different ones is better not put together.
    pub(crate) is_spread: bool,
}

/// How many rows a split shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SplitTarget {
    rows: u64,
    /// A multiple of the batch size, to be kept exactly.
    is_exact: bool,
}

impl SplitTarget {
    /// The same, about kept, and at least so many rows.
    pub(super) fn about(self, least_rows: u64) -> Self {
        Self {
            rows: self.rows.max(least_rows),
            is_exact: false,
        }
    }

    /// The same where runs of so many rows lie on one node each: they stay apart, unless they are short or somebody wants just so many
    /// rows.
    pub(super) fn apart(self, run_rows: u64, run_bytes: u64) -> Self {
        if self.is_exact || run_bytes < MIN_SPLIT_BYTES {
            return self;
        }
        Self {
            rows: self.rows.min(run_rows.max(1)),
            ..self
        }
    }

    /// The same, to be kept exactly.
    pub(super) fn exactly(self) -> Self {
        Self {
            is_exact: true,
            ..self
        }
    }
}

impl SplitOptions {
    /// For a source of so many rows and bytes, in so many runs that are better not cut; as many as rows: it does not matter.
    pub(super) fn target(self, total_rows: u64, total_bytes: u64, runs: u64) -> SplitTarget {
        let workers = self.workers.max(1) as u64;
        let row_bytes = total_bytes.div_ceil(total_rows.max(1)).max(1);
        let per_worker = if self.work == RowWork::Model {
            SPLITS_PER_MODEL
        } else {
            SPLITS_PER_WORKER
        };
        // Whoever reads the middle of a run has to pass over what comes before.
        let uncut = total_rows / runs.max(1);
        let least_parts = total_rows.div_ceil(SPLITS_PER_WORKER * workers);
        let even = total_rows.div_ceil(per_worker * workers);
        let even = even.max(uncut.min(least_parts));
        let least = if self.work.is_unknown() {
            1
        } else {
            MIN_SPLIT_BYTES / row_bytes
        };
        let batch_rows = self.batch_rows.unwrap_or(1).max(1);
        let window = self
            .window_rows
            .max(batch_rows)
            .min(total_rows.div_ceil(workers));
        let by_size = || even.max(least).max(window).min(MAX_SPLIT_BYTES / row_bytes);
        let by_count = |parts: u64| total_rows.div_ceil(parts.max(1)).max(window);
        let rows = self.parts.map_or_else(by_size, by_count).max(1);
        let rows = rows.div_ceil(batch_rows) * batch_rows;
        let is_exact = self.parts.is_some()
            || self
                .batch_rows
                .is_some_and(|batch| rows < MANY_BATCHES * batch);
        SplitTarget { rows, is_exact }
    }
}

/// Cuts runs of rows (row groups, blocks) into pieces and puts pieces together into splits, which hold a `P` each.
pub(super) struct SplitCutter<P> {
    target: SplitTarget,
    rows_left: u64,
    splits: Vec<(P, u64)>,
    current: P,
    current_rows: u64,
}

impl<P: Default> SplitCutter<P> {
    /// Cuts until there are `row_limit` rows.
    pub(super) fn new(target: SplitTarget, row_limit: u64) -> Self {
        Self {
            target,
            rows_left: row_limit,
            splits: Vec::new(),
            current: P::default(),
            current_rows: 0,
        }
    }

    /// Adds a run; `add` puts a piece, given by first row and rows, into a split.
    pub(super) fn run(&mut self, rows: u64, mut add: impl FnMut(&mut P, u64, u64)) {
        let rows = rows.min(self.rows_left);
        self.rows_left -= rows;
        let target = self.target.rows;
        let mut first = 0;
        if self.target.is_exact {
            while first < rows {
                let taken = (rows - first).min(target - self.current_rows);
                self.piece(first, taken, &mut add);
                first += taken;
                if self.current_rows >= target {
                    self.flush();
                }
            }
            return;
        }
        // Runs of up to one and a half targets stay whole.
        let parts = ((rows + target / 2) / target).max(1);
        for part in 0..parts {
            let end = rows * (part + 1) / parts;
            // Whichever is nearer to the target: with the piece or without it.
            if self.current_rows > 0 && self.current_rows + (end - first) / 2 > target {
                self.flush();
            }
            self.piece(first, end - first, &mut add);
            first = end;
        }
    }

    fn piece(&mut self, first: u64, rows: u64, add: &mut impl FnMut(&mut P, u64, u64)) {
        if rows > 0 {
            add(&mut self.current, first, rows);
            self.current_rows += rows;
        }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.current_rows);
        self.splits.push((std::mem::take(&mut self.current), rows));
    }

    /// The splits, with their rows.
    pub(super) fn finish(mut self) -> Vec<(P, u64)> {
        if self.current_rows > 0 {
            self.flush();
        }
        self.splits
    }
}
