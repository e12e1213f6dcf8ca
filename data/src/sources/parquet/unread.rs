//! Parquet files of which most footers have not been read (ADR 169): their columns are those of a sample, what else there is to know
//! of a file is learned by the worker that reads it.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableSource};

use super::ParquetTable;
use super::positions::{batch_rows, columns_of, predicate_of};
use super::prune::kept;
use super::spec::{FilesPosition, ScanSpec, UnreadPart};
use super::table::{footers_of, pushed_down, with_partitions};
use crate::block;
use crate::columns;
use crate::error::PlanError;
use crate::ledger::Trait;
use crate::sources::looks::{self, Looks};
use crate::sources::splits::SplitCutter;
use crate::sources::{Source, Split, SplitOptions, Wanted, identity_of_files};
use crate::storage::{
    DataFile, FileFooter, PathColumns, StoreSpec, files_here, read_footers_here, told_columns,
};

/// So many files are known soon enough,
const FEW_FILES: usize = 64;
/// and so many local ones: a footer takes some 50 microseconds.
const FEW_FILES_HERE: usize = 20_000;
/// Of more, so many are looked at: some at the beginning, the last one, and others evenly between.
const SAMPLE_FILES: usize = 32;
const SAMPLE_FIRST: usize = 8;

/// The table of files in a store. `merges`: whether all footers are read for the columns, or those of some files; `None`: of many files
/// those of some, if these have the same columns.
pub(crate) fn table_of(
    store: StoreSpec,
    files: Vec<DataFile>,
    told: PathColumns,
    merges: Option<bool>,
) -> std::result::Result<Arc<dyn TableSource>, PlanError> {
    let few = match store.definition.is_empty() && merges.is_none() {
        true => FEW_FILES_HERE,
        false => FEW_FILES,
    };
    let read = |store: &StoreSpec, files: &[DataFile]| {
        ParquetTable::new(store.clone(), footers_of(store, files)?, told)
    };
    if merges == Some(true) || files.len() <= few {
        return Ok(Arc::new(read(&store, &files)?));
    }
    let sample = read(&store, &sample_of(&files))?;
    if merges.is_none() && sample.file_schemas.len() > 1 {
        return Ok(Arc::new(read(&store, &files)?));
    }
    Ok(Arc::new(UnreadTable::new(files, sample)?))
}

/// The same of local files.
pub(crate) fn table_here(
    paths: &[String],
    told: PathColumns,
    merges: Option<bool>,
) -> std::result::Result<Arc<dyn TableSource>, PlanError> {
    let few = paths.len() <= FEW_FILES_HERE;
    if merges == Some(true) || (merges.is_none() && few) {
        // Whoever reads a footer learns how long its file is.
        let footers = read_footers_here(paths)?;
        let table = ParquetTable::new(StoreSpec::default(), footers, told)?;
        return Ok(Arc::new(table));
    }
    table_of(StoreSpec::default(), files_here(paths)?, told, merges)
}

/// Columns come and go with time, and names of files mostly tell of it.
fn sample_of(files: &[DataFile]) -> Vec<DataFile> {
    let (first, rest) = files.split_at(SAMPLE_FIRST.min(files.len()));
    let count = SAMPLE_FILES - SAMPLE_FIRST;
    let evenly = (1..=count).map(|number| rest.len() * number / count);
    let mut places: Vec<usize> = evenly.filter_map(|end| end.checked_sub(1)).collect();
    places.dedup();
    let between = places.into_iter().map(|place| rest[place].clone());
    first.iter().cloned().chain(between).collect()
}

/// Parquet files, some of which are known.
#[derive(Debug)]
pub(super) struct UnreadTable {
    files: Vec<DataFile>,
    schema: SchemaRef,
    partitions: Vec<String>,
    told_twice: Vec<String>,
    sample: ParquetTable,
    looks: Looks,
    /// How many rows there are, if somebody has counted them.
    rows: Option<u64>,
}

impl UnreadTable {
    /// The table of `files`, with the columns of those in `sample`.
    fn new(files: Vec<DataFile>, sample: ParquetTable) -> std::result::Result<Self, PlanError> {
        let own = sample.unified()?;
        // Others may lack what these have: each column is as it would be beside a file that has none.
        let none = Arc::new(Schema::empty());
        let own = columns::unify(&own, &none).expect("a column goes with none");
        let paths = files.iter().map(|file| file.path.as_str());
        let told = told_columns(sample.told, paths, &own);
        Ok(Self {
            files,
            schema: with_partitions(&own, &told.beside),
            partitions: told.beside,
            told_twice: told.twice,
            sample,
            looks: Looks::new(),
            rows: None,
        })
    }

    /// The same table of these files.
    fn of_files(&self, files: Vec<DataFile>) -> Self {
        Self {
            files,
            schema: Arc::clone(&self.schema),
            partitions: self.partitions.clone(),
            told_twice: self.told_twice.clone(),
            sample: self.sample.clone(),
            looks: Looks::new(),
            rows: None,
        }
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// What files of so many bytes hold, if they are like those of the sample: rows, bytes in memory, row groups.
    fn estimate(&self, file_bytes: u64) -> (u64, u64, u64) {
        let files = &self.sample.files;
        let looked_at: u64 = files.iter().map(|file| file.file.size_bytes).sum();
        let groups: usize = files.iter().map(|file| file.row_groups.len()).sum();
        let share = |of: u64| {
            let all = u128::from(of) * u128::from(file_bytes) / u128::from(looked_at.max(1));
            u64::try_from(all).unwrap_or(u64::MAX).max(1)
        };
        (
            share(ParquetTable::rows(&self.sample)),
            share(self.sample.bytes()),
            share(groups as u64),
        )
    }
}

impl TableSource for UnreadTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(pushed_down(&self.schema, filters))
    }
}

impl Source for UnreadTable {
    fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn num_blocks(&self) -> usize {
        self.files.len()
    }

    fn files(&self) -> Vec<String> {
        self.paths().map(str::to_owned).collect()
    }

    fn reads_columns(&self) -> bool {
        true
    }

    fn asks_ahead(&self) -> bool {
        !self.sample.store.definition.is_empty()
    }

    fn pruned(&self, filters: &[Expr]) -> Result<Option<Arc<dyn TableSource>>, DataFusionError> {
        let kept = kept(self.paths(), self.sample.told, &self.partitions, filters)?;
        let Some(kept) = kept else {
            return Ok(None);
        };
        let files = self.files.iter().zip(kept);
        let files = files.filter(|(_, is_kept)| *is_kept);
        let files = files.map(|(file, _)| file.clone()).collect();
        Ok(Some(Arc::new(self.of_files(files))))
    }

    /// Footers are read when it is the turn of their files, and columns are looked at then.
    fn looked_again(&self) -> std::result::Result<Option<Arc<dyn TableSource>>, PlanError> {
        let now = self.looks.again(&self.sample.store, self.files.iter())?;
        Ok(now.map(|files| Arc::new(self.of_files(files)) as _))
    }

    /// Of local files footers are read for it: of others a job counts as fast.
    fn counted(
        &self,
        is_guess: bool,
    ) -> std::result::Result<Option<Arc<dyn TableSource>>, PlanError> {
        if self.asks_ahead() {
            return Ok(None);
        }
        let rows = match is_guess {
            true => 1,
            false => {
                let footers = footers_of(&self.sample.store, &self.files)?;
                footers.iter().map(FileFooter::rows).sum()
            }
        };
        Ok(Some(Arc::new(Self {
            rows: Some(rows),
            ..self.of_files(self.files.clone())
        })))
    }

    fn look(&self) -> u64 {
        looks::number(self.files.iter())
    }

    fn identity(&self) -> std::result::Result<Vec<Trait>, String> {
        let files = self.files.iter();
        let files = files.map(|file| (file.path.as_str(), file.size_bytes));
        let told = format!("{:?} {:?}", self.sample.told, self.partitions);
        Ok(vec![
            identity_of_files(files)?,
            Trait::new("what paths tell", told),
            Trait::new("how much is known of the files", "a sample".to_owned()),
        ])
    }

    /// All of them, whatever the limit: nobody knows how many rows there are.
    fn splits(&self, _row_limit: u64, options: SplitOptions) -> Vec<Split> {
        let (rows, bytes, groups) =
            self.estimate(self.files.iter().map(|file| file.size_bytes).sum());
        let target = options.target(rows, bytes, groups);
        // Parts smaller than a row group would mostly be empty.
        let mut cutter = SplitCutter::<Vec<UnreadPart>>::new(target.about(rows / groups), u64::MAX);
        for file in &self.files {
            let (rows, ..) = self.estimate(file.size_bytes);
            let at = |row: u64| {
                let place = u128::from(file.size_bytes) * u128::from(row) / u128::from(rows);
                u64::try_from(place).expect("no part ends behind its file")
            };
            cutter.run(rows, |parts, first_row, count| {
                parts.push(UnreadPart {
                    path: file.path.clone(),
                    size_bytes: file.size_bytes,
                    start: at(first_row),
                    end: at(first_row + count),
                });
            });
        }
        let split = |(unread, _): (Vec<UnreadPart>, u64)| Split {
            position: crate::sources::encode(&FilesPosition {
                parts: Vec::new(),
                unread,
            }),
            blocks: Vec::new(),
            rows: 0,
            row_bytes: bytes / rows,
        };
        cutter.finish().into_iter().map(split).collect()
    }

    fn settings(&self, wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError> {
        let row_bytes = self.sample.bytes() / ParquetTable::rows(&self.sample).max(1);
        Ok(crate::sources::encode(&ScanSpec {
            schema: block::encode_schema(&self.schema)?,
            file_schemas: Vec::new(),
            partitions: self.partitions.clone(),
            has_path: self.sample.told.has_path,
            told_twice: self.told_twice.clone(),
            store: self.sample.store.definition.clone(),
            is_unread: true,
            columns: columns_of(wanted),
            predicate: predicate_of(wanted)?,
            batch_rows: batch_rows(row_bytes.max(1), wanted),
            ahead_bytes: wanted.room.ahead_bytes,
            batch_bytes: wanted.room.batch_bytes,
            row_group_bytes: wanted.room.row_group_bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::sources::RowWork;
    use crate::storage::RowGroupInfo;

    const MIB: u64 = 1 << 20;

    fn table(files: usize, size_bytes: u64, groups: usize) -> UnreadTable {
        let file = |number: usize| DataFile {
            path: format!("far:/in/{number:04}"),
            size_bytes,
            version: 0,
        };
        let files: Vec<DataFile> = (0..files).map(file).collect();
        let footer = |file: &DataFile| FileFooter {
            file: file.clone(),
            schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)])),
            row_groups: vec![
                RowGroupInfo {
                    rows: 1000,
                    bytes: size_bytes / groups as u64,
                    start: 0,
                    end: 0,
                };
                groups
            ],
        };
        let sample = files[..2].iter().map(footer).collect();
        let sample = ParquetTable::new(StoreSpec::default(), sample, PathColumns::default());
        UnreadTable::new(files, sample.expect("one kind")).expect("one kind")
    }

    fn parts(table: &UnreadTable, parts: Option<u64>) -> Vec<Vec<UnreadPart>> {
        let options = SplitOptions {
            workers: 2,
            batch_rows: Some(7),
            window_rows: 0,
            work: RowWork::Function,
            parts,
            is_spread: false,
        };
        let splits = table.splits(3, options).into_iter();
        let position = |split: Split| crate::sources::decode::<FilesPosition>(&split.position);
        splits
            .map(|split| position(split).expect("is one").unread)
            .collect()
    }

    #[test]
    fn sample_has_the_first_and_the_last_files_and_each_once() {
        for count in [1, 8, 9, 31, 65, 5000] {
            let files = table(count.max(2), 10, 1).files;
            let sample = sample_of(&files);
            assert!(sample.len() <= SAMPLE_FILES);
            assert_eq!(sample.first(), files.first());
            assert_eq!(sample.last(), files.last());
            assert!(sample.is_sorted_by(|one, next| one.path < next.path));
        }
    }

    #[test]
    fn every_byte_of_every_file_is_in_one_part_in_order_whatever_the_limit() {
        for (files, size, groups) in [(100, 3000, 1), (100, 300 * MIB, 5), (7, 13, 1)] {
            for asked in [None, Some(3), Some(1000)] {
                let mut next = (String::new(), 0, 0);
                let mut seen = 0;
                for part in parts(&table(files, size, groups), asked).concat() {
                    if part.path != next.0 {
                        assert_eq!(next.1, next.2, "the file before ends");
                        seen += 1;
                        next = (part.path.clone(), 0, part.size_bytes);
                    }
                    assert_eq!(part.start, next.1);
                    next.1 = part.end;
                }
                assert_eq!((next.1, seen), (size, files), "{asked:?}");
            }
        }
    }

    #[test]
    fn small_files_are_put_together_and_large_ones_are_cut_no_smaller_than_their_row_groups() {
        let small = parts(&table(1000, 3000, 1), None);
        assert_eq!(small.concat().len(), 1000, "none is cut");
        assert!((4..=16).contains(&small.len()), "{}", small.len());
        let large = parts(&table(4, 4000 * MIB, 100), Some(10_000));
        assert!(large.len() > 40, "{}", large.len());
        for part in large.concat() {
            assert!(part.end - part.start >= 39 * MIB, "{part:?}");
        }
    }
}
