//! Parquet files as a source: rows, positions, and what workers must know.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, TableSource};

use super::ParquetTable;
use super::prune::kept;
use super::spec::{FilePart, FilesPosition, ScanSpec};
use crate::block;
use crate::error::PlanError;
use crate::ledger::Trait;
use crate::plan::Expression;
use crate::sources::splits::SplitCutter;
use crate::sources::{Source, Split, SplitOptions, Wanted, identity_of_files, looks};
use crate::storage::FileFooter;
use crate::wire::expression::ExpressionSpec;

/// Batches that were asked for smaller than this are read together and cut without copying.
const MIN_READ_BYTES: u64 = 1 << 20;

impl Source for ParquetTable {
    fn rows(&self) -> Option<u64> {
        Some(Self::rows(self))
    }

    fn num_blocks(&self) -> usize {
        self.files.iter().map(|file| file.row_groups.len()).sum()
    }

    fn files(&self) -> Vec<String> {
        let path = |file: &FileFooter| file.file.path.clone();
        self.files.iter().map(path).collect()
    }

    fn looked_again(&self) -> Result<Option<Arc<dyn TableSource>>, PlanError> {
        Ok(self.again()?.map(|table| Arc::new(table) as _))
    }

    fn look(&self) -> u64 {
        looks::number(self.files.iter().map(|file| &file.file))
    }

    fn reads_columns(&self) -> bool {
        true
    }

    fn asks_ahead(&self) -> bool {
        !self.store.definition.is_empty()
    }

    fn pruned(&self, filters: &[Expr]) -> Result<Option<Arc<dyn TableSource>>, DataFusionError> {
        let paths = self.files.iter().map(|file| file.file.path.as_str());
        let kept = kept(paths, self.told, &self.partitions, filters)?;
        Ok(kept.map(|kept| Arc::new(self.with_files(&kept)) as _))
    }

    fn identity(&self) -> Result<Vec<Trait>, String> {
        let files = self.files.iter().map(|file| &file.file);
        let files = files.map(|file| (file.path.as_str(), file.size_bytes));
        let told = format!("{:?} {:?}", self.told, self.partitions);
        Ok(vec![
            identity_of_files(files)?,
            Trait::new("what paths tell", told),
        ])
    }

    fn splits(&self, row_limit: u64, options: SplitOptions) -> Vec<Split> {
        let groups = self.files.iter().map(|file| file.row_groups.len() as u64);
        let target = options.target(Self::rows(self), self.bytes(), groups.sum());
        let mut cutter = SplitCutter::<Vec<FilePart>>::new(target, row_limit);
        for (file, footer) in self.files.iter().enumerate() {
            for (group, info) in footer.row_groups.iter().enumerate() {
                cutter.run(info.rows, |parts, first_row, rows| {
                    parts.push(self.part(file, group, first_row, rows));
                });
            }
        }
        cutter.finish().into_iter().map(split_of).collect()
    }

    fn settings(&self, wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError> {
        let encode = |schema: &SchemaRef| block::encode_schema(schema);
        let file_schemas: Result<_, _> = if self.is_uniform() {
            Ok(Vec::new())
        } else {
            self.file_schemas.iter().map(encode).collect()
        };
        let row_bytes = self.bytes() / Self::rows(self).max(1);
        Ok(crate::sources::encode(&ScanSpec {
            schema: encode(&self.schema)?,
            file_schemas: file_schemas?,
            partitions: self.partitions.clone(),
            has_path: self.told.has_path,
            store: self.store.definition.clone(),
            is_unread: false,
            columns: columns_of(wanted),
            predicate: predicate_of(wanted)?,
            batch_rows: batch_rows(row_bytes.max(1), wanted),
            ahead_bytes: wanted.room.ahead_bytes,
            batch_bytes: wanted.room.batch_bytes,
            row_group_bytes: wanted.room.row_group_bytes,
            told_twice: self.told_twice.clone(),
        }))
    }
}

impl ParquetTable {
    /// A split for each file that has rows.
    pub(crate) fn split_by_file(&self) -> Vec<Split> {
        let parts = |(file, footer): (usize, &FileFooter)| {
            let groups = footer.row_groups.iter().enumerate();
            let parts = groups.map(|(group, info)| self.part(file, group, 0, info.rows));
            (parts.collect(), footer.rows())
        };
        let files = self.files.iter().enumerate().map(parts);
        files.filter(|(_, rows)| *rows > 0).map(split_of).collect()
    }

    /// Rows of a row group of a file.
    fn part(&self, file: usize, group: usize, first_row: u64, rows: u64) -> FilePart {
        let FileFooter {
            file: described,
            row_groups,
            ..
        } = &self.files[file];
        let info = &row_groups[group];
        FilePart {
            path: described.path.clone(),
            size_bytes: described.size_bytes,
            row_groups: count(row_groups.len()),
            row_group: count(group),
            row_group_rows: info.rows,
            first_row,
            rows,
            file_schema: self.schema_of(file),
            bytes: info.bytes / info.rows.max(1) * rows,
            data_start: info.start,
            data_end: info.end,
        }
    }

    /// Bytes of all row groups before compression.
    pub(super) fn bytes(&self) -> u64 {
        let groups = self.files.iter().flat_map(|file| file.row_groups.iter());
        groups.map(|group| group.bytes).sum()
    }
}

/// The wanted columns, as they travel.
pub(super) fn columns_of(wanted: &Wanted<'_>) -> Vec<u32> {
    let column = |&column: &usize| u32::try_from(column).expect("fewer than 2^32 columns");
    wanted.columns.iter().map(column).collect()
}

/// Which rows are wanted, as it travels.
pub(super) fn predicate_of(wanted: &Wanted<'_>) -> Result<Option<ExpressionSpec>, DataFusionError> {
    let predicate = conjunction(wanted.filters.iter().cloned());
    let predicate = predicate.map(|all| ExpressionSpec::of(&Expression::planned(&all)?));
    predicate.transpose()
}

fn split_of((parts, rows): (Vec<FilePart>, u64)) -> Split {
    Split {
        row_bytes: parts.iter().map(|part| part.bytes).sum::<u64>() / rows.max(1),
        position: crate::sources::encode(&FilesPosition {
            parts,
            unread: Vec::new(),
        }),
        blocks: Vec::new(),
        rows,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a file has fewer than 2^32 row groups")
}

/// Rows to read at once: a multiple of what the first function wants.
pub(super) fn batch_rows(row_bytes: u64, wanted: &Wanted<'_>) -> u64 {
    let rows = match wanted.batch_rows {
        Some(rows) => {
            let rows = rows.max(1) as u64;
            let read_bytes = MIN_READ_BYTES.min(wanted.room.batch_bytes);
            rows.saturating_mul((read_bytes / rows.saturating_mul(row_bytes)).clamp(1, 1024))
        }
        None => (wanted.room.batch_bytes / row_bytes).clamp(1, 1 << 20),
    };
    rows.min(wanted.room.most_rows)
}
