//! Cutting a source into inputs of about equal size, so that all workers are busy until the end.

use std::sync::Arc;

use super::{BlocksTable, ParquetTable, RangeTable, SourceBlock};
use crate::graph::SourcePlan;
use crate::wire::spec::{BlockPart, FilePart, InputSpec, NumberPart};

/// Splits are not made smaller than this where no function runs that might be slow.
const MIN_SPLIT_BYTES: u64 = 1 << 20;
/// Splits are not made larger than this, as a block in Ray.
const MAX_SPLIT_BYTES: u64 = 128 << 20;
/// Splits per worker: the last ones to end then differ by little.
const SPLITS_PER_WORKER: u64 = 4;
/// With so many batches in a split, the last one may be smaller: better than to cut a row group in two.
const MANY_BATCHES: u64 = 16;

/// One input of the first stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Split {
    /// Without its sequence.
    pub(crate) input: InputSpec,
    /// The blocks that the input names, for sources that are blocks.
    pub(crate) blocks: Vec<Arc<SourceBlock>>,
    pub(crate) rows: u64,
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
    /// Whether a function runs over the rows, which may take any time.
    pub(crate) has_map: bool,
    /// How many splits there shall be, if that was asked for: fewer where a function gets more rows at once.
    pub(crate) parts: Option<u64>,
}

/// The splits of a source, in its order.
pub(crate) fn cut_splits(source: &SourcePlan, options: SplitOptions) -> Vec<Split> {
    // With a predicate nobody knows how many rows must be read to find enough.
    let row_limit = source
        .row_limit
        .filter(|_| source.predicate.is_empty())
        .unwrap_or(u64::MAX);
    let Some(table) = &source.table else {
        return Vec::new();
    };
    if let Some(parquet) = table.downcast_ref::<ParquetTable>() {
        cut_files(parquet, row_limit, options)
    } else if let Some(blocks) = table.downcast_ref::<BlocksTable>() {
        cut_blocks(blocks, row_limit, options)
    } else if let Some(range) = table.downcast_ref::<RangeTable>() {
        cut_numbers(range.rows.min(row_limit), options)
    } else {
        Vec::new()
    }
}

/// How many rows a split shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    rows: u64,
    /// A multiple of the batch size, to be kept exactly.
    is_exact: bool,
}

impl SplitOptions {
    fn target(self, total_rows: u64, total_bytes: u64) -> Target {
        let workers = self.workers.max(1) as u64;
        let row_bytes = total_bytes.div_ceil(total_rows.max(1)).max(1);
        let even = total_rows.div_ceil(SPLITS_PER_WORKER * workers);
        let least = if self.has_map {
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
        Target { rows, is_exact }
    }
}

/// Cuts runs of rows (row groups, blocks) into pieces and puts pieces together into splits.
struct Cutter {
    target: Target,
    rows_left: u64,
    splits: Vec<Split>,
    current: Split,
}

impl Cutter {
    fn new(target: Target, row_limit: u64) -> Self {
        Self {
            target,
            rows_left: row_limit,
            splits: Vec::new(),
            current: Split::default(),
        }
    }

    /// Adds a run; `add` puts a piece, given by first row and rows, into a split.
    fn run(&mut self, rows: u64, mut add: impl FnMut(&mut Split, u64, u64)) {
        let rows = rows.min(self.rows_left);
        self.rows_left -= rows;
        let target = self.target.rows;
        let mut first = 0;
        if self.target.is_exact {
            while first < rows {
                let taken = (rows - first).min(target - self.current.rows);
                self.piece(first, taken, &mut add);
                first += taken;
                if self.current.rows >= target {
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
            if self.current.rows > 0 && self.current.rows + (end - first) / 2 > target {
                self.flush();
            }
            self.piece(first, end - first, &mut add);
            first = end;
        }
    }

    fn piece(&mut self, first: u64, rows: u64, add: &mut impl FnMut(&mut Split, u64, u64)) {
        if rows > 0 {
            add(&mut self.current, first, rows);
            self.current.rows += rows;
        }
    }

    fn flush(&mut self) {
        self.splits.push(std::mem::take(&mut self.current));
    }

    fn finish(mut self) -> Vec<Split> {
        if self.current.rows > 0 {
            self.flush();
        }
        self.splits
    }
}

fn cut_files(table: &ParquetTable, row_limit: u64, options: SplitOptions) -> Vec<Split> {
    let groups = || table.files.iter().flat_map(|file| file.row_groups.iter());
    let bytes = groups().map(|group| group.bytes).sum();
    let mut cutter = Cutter::new(options.target(table.rows(), bytes), row_limit);
    for (file_index, file) in table.files.iter().enumerate() {
        for (index, group) in file.row_groups.iter().enumerate() {
            cutter.run(group.rows, |split, first_row, rows| {
                split.input.files.push(FilePart {
                    path: file.file.path.clone(),
                    size_bytes: file.file.size_bytes,
                    row_groups: count(file.row_groups.len()),
                    row_group: count(index),
                    row_group_rows: group.rows,
                    first_row,
                    rows,
                    file_schema: table.schema_of(file_index),
                });
            });
        }
    }
    cutter.finish()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a file has fewer than 2^32 row groups")
}

fn cut_blocks(table: &BlocksTable, row_limit: u64, options: SplitOptions) -> Vec<Split> {
    let rows = table.blocks.iter().map(|block| block.rows).sum();
    let bytes = table.blocks.iter().map(|block| block.bytes).sum();
    let mut cutter = Cutter::new(options.target(rows, bytes), row_limit);
    for block in &table.blocks {
        cutter.run(block.rows, |split, first_row, rows| {
            split.input.blocks.push(BlockPart { first_row, rows });
            split.blocks.push(Arc::clone(block));
        });
    }
    cutter.finish()
}

fn cut_numbers(rows: u64, options: SplitOptions) -> Vec<Split> {
    let target = options.target(rows, rows * size_of::<i64>() as u64);
    let mut cutter = Cutter::new(
        Target {
            is_exact: true,
            ..target
        },
        u64::MAX,
    );
    cutter.run(rows, |split, start, rows| {
        split.input.numbers = Some(NumberPart {
            start,
            end: start + rows,
        });
    });
    cutter.finish()
}
