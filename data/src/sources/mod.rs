//! Where rows come from.
//!
//! ```text
//!  plan      a table: its columns                             TableSource of DataFusion
//!  graph     its rows, what of it is not wanted, positions    Source
//!            │ settings, positions: bytes that only the source understands
//!  worker    opens positions                                  SourceReader
//! ```
//! A source is a file (or a folder) here that has all three, and a line in [`KINDS`]. A format of files that Python reads
//! ([`files`]) is one line of registration in Python.

mod asked;
pub(crate) mod blocks;
pub mod files;
mod input_block;
mod looks;
pub(crate) mod parquet;
mod places;
mod python;
mod range;
mod splits;
mod tasks;

pub(crate) use asked::Asked;
pub use blocks::{BlocksTable, SourceBlock};
pub use files::FilesTable;
pub use input_block::InputBlock;
pub(crate) use input_block::block_bytes;
pub use parquet::ParquetTable;
pub(crate) use parquet::{table_here, table_of};
pub(crate) use places::{PartPlace, Places, Position};
pub use python::PythonReader;
pub use range::RangeTable;
pub(crate) use splits::{RowWork, Split, SplitOptions};
pub use tasks::{ReadTask, TasksTable};

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_expr::{Expr, TableSource};
use prost::Message;

use crate::digest::Digest;
use crate::error::PlanError;
use crate::ledger::Trait;
use crate::operators::stream::BatchStream;
use crate::registered::Registered;
use crate::storage::in_order;

/// All sources.
static KINDS: [SourceKind; 5] = [
    parquet::KIND,
    blocks::KIND,
    range::KIND,
    files::KIND,
    tasks::KIND,
];

/// A source, as it is registered.
pub(crate) struct SourceKind {
    /// What workers know it by.
    pub(crate) name: &'static str,
    /// The table, if it is one of this source.
    pub(crate) of_table: fn(&dyn TableSource) -> Option<&dyn Source>,
    /// Reads the settings that [`Source::settings`] made.
    pub(crate) reader: fn(&Bytes) -> Result<Box<dyn SourceReader>, TaskFailure>,
    /// Whether its reader calls Python for rows.
    pub(crate) calls_python: bool,
    /// Whether it reaches files through Python, by the same settings.
    pub(crate) reaches_by_python: fn(&Bytes) -> bool,
}

/// A table, as the graph of stages knows it.
pub(crate) trait Source: Send + Sync {
    /// Whether it may have columns that only reading will show: then its table has none.
    fn is_open(&self) -> bool {
        false
    }

    /// Rows, where they are known before it is read.
    fn rows(&self) -> Option<u64>;

    /// Pieces that it has by itself: blocks, row groups.
    fn num_blocks(&self) -> usize;

    /// The files that are read.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    /// The table of its files as they are now, if one of them has changed since it was made. Fails if one has gone, or has other columns.
    fn looked_again(&self) -> Result<Option<Arc<dyn TableSource>>, PlanError> {
        Ok(None)
    }

    /// The table with its rows counted, if it does not know them and needs not read them for that. `is_guess`: it counts nothing, and says
    /// a number that is wrong.
    fn counted(&self, _is_guess: bool) -> Result<Option<Arc<dyn TableSource>>, PlanError> {
        Ok(None)
    }

    /// A number for what it read when it was made: that of the table that [`looked_again`](Self::looked_again) gives is another one.
    fn look(&self) -> u64 {
        0
    }

    /// Whether only the wanted columns are read; if not, the others are dropped afterwards.
    fn reads_columns(&self) -> bool {
        false
    }

    /// The table without what certainly has no row for which all filters are true; `None`: just as it is.
    fn pruned(&self, _filters: &[Expr]) -> Result<Option<Arc<dyn TableSource>>, DataFusionError> {
        Ok(None)
    }

    /// Whether its workers hold what they have asked for before somebody takes it: answers take long.
    fn asks_ahead(&self) -> bool {
        false
    }

    /// What tells its rows from others; or why nothing does, in words that fit behind "because". The same rows are cut into the
    /// same inputs.
    fn identity(&self) -> Result<Vec<Trait>, String>;

    /// Its rows as inputs, in order: the first `row_limit` of them at least.
    fn splits(&self, row_limit: u64, options: SplitOptions) -> Vec<Split>;

    /// What workers must know to open positions.
    fn settings(&self, wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError>;
}

/// Files by path, length and the time of their last change, if they are here.
fn identity_of_files<'a>(files: impl Iterator<Item = (&'a str, u64)>) -> Result<Trait, String> {
    let files: Vec<(&str, u64)> = files.collect();
    let changed = in_order(
        &files,
        || (),
        |(), (path, _)| {
            let changed = std::fs::metadata(path).and_then(|described| described.modified());
            changed.map_err(|_| format!("nobody can tell when {path} was changed last"))
        },
    )?;
    let (mut digest, mut bytes) = (Digest::new(), 0);
    for ((path, length), changed) in files.iter().zip(changed) {
        digest.add(*path);
        digest.add(&(*length, Some(changed)));
        bytes += length;
    }
    let count = files.len();
    let value = format!("{count} files of {bytes} bytes, {}", digest.text());
    Ok(Trait::new("the files that are read", value))
}

/// What is wanted of a source.
pub(crate) struct Wanted<'a> {
    /// Columns by position.
    pub(crate) columns: &'a [usize],
    /// Only rows for which all of these are true.
    pub(crate) filters: &'a [Expr],
    /// Rows that the first function gets at once, if that was asked for.
    pub(crate) batch_rows: Option<usize>,
    pub(crate) room: ReadRoom,
}

/// What a worker may hold of what it reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRoom {
    /// No batch needs to have more.
    pub(crate) most_rows: u64,
    /// What a batch has where no number of rows was asked for.
    pub(crate) batch_bytes: u64,
    /// What is read as a whole has no more, where it can be read in pieces.
    pub(crate) row_group_bytes: u64,
    /// What was asked for ahead of an input may be so much, and one piece more.
    pub(crate) ahead_bytes: u64,
}

#[cfg(test)]
impl ReadRoom {
    /// Where nothing is asked for ahead.
    pub(crate) const OF_TESTS: Self = Self {
        most_rows: u64::MAX,
        batch_bytes: 8 << 20,
        row_group_bytes: 64 << 20,
        ahead_bytes: 0,
    };
}

/// What one worker reads a source with; may keep what it learns between inputs.
pub(crate) trait SourceReader: Send {
    /// The rows of an input. `row_limit`: more of them are not needed.
    fn open(
        &mut self,
        input: Opened,
        row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure>;

    /// Where the rows of an input lie, if they lie somewhere.
    fn places(&self, _position: &Bytes) -> Result<Option<Places>, TaskFailure> {
        Ok(None)
    }

    /// Bytes read from storage so far.
    fn bytes_read(&self) -> u64 {
        0
    }

    /// Whether reading takes a while, so that it is worth a thread that runs ahead.
    fn may_run_ahead(&self) -> bool {
        false
    }

    /// What of the input that was opened last is asked for, where answers take long.
    fn asked(&self) -> Option<Asked> {
        None
    }
}

/// An input in a worker.
pub(crate) struct Opened {
    /// As the source's splits say it.
    pub(crate) position: Bytes,
    /// The blocks that came with it.
    pub(crate) blocks: Vec<InputBlock>,
}

fn registered(table: &dyn TableSource) -> Option<(&'static SourceKind, &dyn Source)> {
    KINDS
        .iter()
        .find_map(|kind| Some((kind, (kind.of_table)(table)?)))
}

/// The table as a source; `None`: the plan cannot be run.
pub(crate) fn of_table(table: &dyn TableSource) -> Option<&dyn Source> {
    registered(table).map(|(_, source)| source)
}

/// Whether the table is read without Python.
pub(crate) fn is_native(table: &dyn TableSource) -> bool {
    registered(table).is_some_and(|(kind, _)| !kind.calls_python)
}

/// How workers open positions of the table.
pub(crate) fn settings_of(
    table: &dyn TableSource,
    wanted: &Wanted<'_>,
) -> Result<Registered, DataFusionError> {
    let Some((kind, source)) = registered(table) else {
        return Err(DataFusionError::Plan(
            "this table cannot be read".to_owned(),
        ));
    };
    Ok(Registered {
        kind: kind.name.to_owned(),
        settings: source.settings(wanted)?,
    })
}

fn kind_of(source: &Registered) -> Option<&'static SourceKind> {
    KINDS.iter().find(|kind| kind.name == source.kind)
}

/// Whether reading calls Python: for rows, or for the files that they lie in.
pub(crate) fn calls_python(source: &Registered) -> bool {
    let calls = |kind: &SourceKind| kind.calls_python || (kind.reaches_by_python)(&source.settings);
    kind_of(source).is_some_and(calls)
}

/// The reader of a registered source.
pub(crate) fn reader_of(source: &Registered) -> Result<Box<dyn SourceReader>, TaskFailure> {
    let kind = kind_of(source).ok_or_else(|| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("a stage worker knows no source {:?}", source.kind),
        )
    })?;
    (kind.reader)(&source.settings)
}

/// A message of a source that another process of this build has written.
fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, TaskFailure> {
    M::decode(bytes.clone()).map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("read a message for a stage worker: {error}"),
        )
    })
}

fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}
