//! Cutting a source into inputs of about equal size, so that all workers are busy until the end.

use std::sync::Arc;

use super::cut::SourcePlan;
use super::spec::{BlockPart, FilePart, InputSpec, NumberPart};
use crate::plan::{BlocksTable, ParquetTable, RangeTable, SourceBlock};

/// Splits are not made smaller than this.
const MIN_SPLIT_BYTES: u64 = 1 << 20;
/// Splits are not made larger than this, as a block in Ray.
const MAX_SPLIT_BYTES: u64 = 128 << 20;
/// Splits per worker: the last ones to end then differ by little.
const SPLITS_PER_WORKER: u64 = 4;

/// One input of the first stage.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    /// Without its sequence.
    pub(crate) input: InputSpec,
    /// The blocks that the input names, for sources that are blocks.
    pub(crate) blocks: Vec<Arc<SourceBlock>>,
    pub(crate) rows: u64,
}

/// How finely to cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitOptions {
    /// Workers that shall be busy.
    pub(crate) workers: usize,
    /// Rows that an input should have at least, where there are enough for all workers.
    pub(crate) window_rows: u64,
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
        cut_blocks(blocks, row_limit)
    } else if let Some(range) = table.downcast_ref::<RangeTable>() {
        cut_numbers(range.rows.min(row_limit), options)
    } else {
        Vec::new()
    }
}

/// Bytes per split for so much data.
fn target_bytes(total_bytes: u64, total_rows: u64, options: SplitOptions) -> u64 {
    let workers = options.workers.max(1) as u64;
    let even = (total_bytes / (SPLITS_PER_WORKER * workers)).max(MIN_SPLIT_BYTES);
    let window_rows = options.window_rows.min(total_rows.div_ceil(workers));
    let window = window_rows * total_bytes.div_ceil(total_rows.max(1));
    even.max(window).min(MAX_SPLIT_BYTES)
}

fn cut_files(table: &ParquetTable, row_limit: u64, options: SplitOptions) -> Vec<Split> {
    let groups = || table.files.iter().flat_map(|file| file.row_groups.iter());
    let target = target_bytes(
        groups().map(|group| group.bytes).sum(),
        table.rows(),
        options,
    );
    let mut splits = Vec::new();
    let mut current = empty_split();
    let mut current_bytes = 0;
    let mut rows_left = row_limit;
    for file in &table.files {
        for (index, group) in file.row_groups.iter().enumerate() {
            // Row groups of up to one and a half targets stay whole: cutting one costs reading its pages twice.
            let parts = ((group.bytes + target / 2) / target)
                .max(1)
                .min(group.rows.max(1));
            for part in 0..parts {
                let first_row = group.rows * part / parts;
                let rows = (group.rows * (part + 1) / parts - first_row).min(rows_left);
                if rows == 0 {
                    continue;
                }
                rows_left -= rows;
                let bytes = group.bytes / parts;
                if current_bytes > 0 && current_bytes + bytes > target + target / 4 {
                    splits.push(std::mem::replace(&mut current, empty_split()));
                    current_bytes = 0;
                }
                current_bytes += bytes.max(1);
                current.rows += rows;
                current.input.files.push(FilePart {
                    path: file.file.path.clone(),
                    size_bytes: file.file.size_bytes,
                    row_groups: count(file.row_groups.len()),
                    row_group: count(index),
                    row_group_rows: group.rows,
                    first_row,
                    rows,
                });
            }
        }
    }
    if !current.input.files.is_empty() {
        splits.push(current);
    }
    splits
}

fn empty_split() -> Split {
    Split {
        input: InputSpec::default(),
        blocks: Vec::new(),
        rows: 0,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a file has fewer than 2^32 row groups")
}

fn cut_blocks(table: &BlocksTable, row_limit: u64) -> Vec<Split> {
    let mut rows_left = row_limit;
    let mut splits = Vec::new();
    for block in &table.blocks {
        let rows = block.rows.min(rows_left);
        if rows == 0 {
            continue;
        }
        rows_left -= rows;
        let input = InputSpec {
            blocks: vec![BlockPart { first_row: 0, rows }],
            ..InputSpec::default()
        };
        splits.push(Split {
            input,
            blocks: vec![Arc::clone(block)],
            rows,
        });
    }
    splits
}

fn cut_numbers(rows: u64, options: SplitOptions) -> Vec<Split> {
    if rows == 0 {
        return Vec::new();
    }
    // Few numbers are one split: starting more workers would take longer than making the numbers.
    let bytes = rows * 8;
    let splits = (SPLITS_PER_WORKER * options.workers.max(1) as u64).max(bytes / MAX_SPLIT_BYTES);
    let splits = splits.min(rows.div_ceil(1000)).max(1);
    (0..splits)
        .map(|index| {
            let (start, end) = (rows * index / splits, rows * (index + 1) / splits);
            let numbers = Some(NumberPart { start, end });
            let input = InputSpec {
                numbers,
                ..InputSpec::default()
            };
            Split {
                input,
                blocks: Vec::new(),
                rows: end - start,
            }
        })
        .collect()
}
