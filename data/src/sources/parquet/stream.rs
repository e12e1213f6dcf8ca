//! The rows of an input, file by file: what is far is asked for ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use tokio::runtime::Runtime as TokioRuntime;

use super::adapt::{Adapter, ScanColumns};
use super::chosen::ChosenRows;
use super::learned::UnreadParts;
use super::read::{Files, Paths};
use super::small;
use super::spec::{FilePart, FilesPosition, ScanSpec};
use super::views::Viewed;
use crate::operators::stream::BatchStream;
use crate::panics;
use crate::sources::Asked;
use crate::storage::DataFile;

/// Of files that are far, so many bytes (before compression) are one run, or one row group: each is asked for by itself.
const FAR_RUN_BYTES: u64 = 4 << 20;
/// Runs of files that are far are asked for ahead until they have so many bytes, before compression: more is of no use. One that is larger
/// has another one behind it, if there is memory for that.
const AHEAD_BYTES: u64 = 64 << 20;
/// Runs that are under way at most: as many as there are requests under way in a process.
const AHEAD_RUNS: usize = 32;

/// Before the first rows have come, so much is asked for beside them: what is more would take from their connections.
const FIRST_BYTES: u64 = 1 << 20;

/// Of local files whose footers nobody has read, those of so many are read at once: one stream reads them all.
const LEARNED_TOGETHER: usize = 32;

/// The rows of parts of files, run by run: those of a run have the same columns.
pub(super) struct FileStream {
    files: Files,
    columns: ScanColumns,
    batch_rows: u64,
    row_limit: Option<usize>,
    /// What there is memory for.
    ahead_bytes: u64,
    /// Somebody waits for the first rows of all: nothing has been read here.
    is_first: bool,
    /// The rows of all runs that were begun.
    rows_begun: u64,
    runs: VecDeque<Vec<FilePart>>,
    /// What comes after `runs`. Before `runtime`, as `open`.
    unread: UnreadParts,
    /// Why the file behind `runs` cannot be read.
    unlearned: Option<TaskFailure>,
    /// Runs that are being read, in order. Before `runtime`, which their tasks belong to.
    open: VecDeque<RowRun>,
    /// Bytes of `open`, once nothing is left to be asked for.
    asked: Asked,
    runtime: Arc<TokioRuntime>,
}

/// What is wanted of an input.
pub(super) struct WantedRows {
    pub(super) position: FilesPosition,
    /// More rows are not needed.
    pub(super) row_limit: Option<usize>,
    /// Nothing has been read here before: somebody may wait for the first rows of all.
    pub(super) is_first: bool,
}

/// A run that is being read.
struct RowRun {
    stream: SendableRecordBatchStream,
    adapter: Adapter,
    chosen: ChosenRows,
    /// What is left of the batch that was read last.
    viewed: Option<Viewed>,
    /// All of the stream was read.
    is_over: bool,
    paths: Paths,
    bytes: u64,
}

impl BatchStream for FileStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            self.open_ahead(true)?;
            let Some(run) = self.open.front_mut() else {
                return Ok(None);
            };
            match run.next(&self.runtime)? {
                Some(batch) => {
                    if std::mem::take(&mut self.is_first) {
                        // Whoever gets them may take a while: a function that loads its model.
                        self.open_ahead(false)?;
                    }
                    return Ok(Some(batch));
                }
                None => self.open.pop_front(),
            };
        }
    }
}

impl RowRun {
    fn next(&mut self, runtime: &TokioRuntime) -> Result<Option<RecordBatch>, TaskFailure> {
        let Self {
            stream,
            adapter,
            chosen,
            viewed,
            is_over,
            paths,
            ..
        } = self;
        loop {
            if let Some(batch) = chosen.next() {
                return Ok(Some(batch));
            }
            if let Some(left) = viewed.take() {
                let (piece, rest) = left.piece().map_err(|error| paths.failure(&error.into()))?;
                *viewed = rest;
                match adapter.adapt(piece, || paths.names())? {
                    (batch, None) => return Ok(Some(batch)),
                    (batch, Some(mask)) => chosen.add(batch, &mask)?,
                }
                continue;
            }
            if *is_over {
                return chosen.rest();
            }
            let read = || {
                let batch = runtime.block_on(stream.next());
                batch.transpose().map_err(|error| paths.failure(&error))
            };
            match panics::caught(|text| paths.panicked(text), read)? {
                None => *is_over = true,
                Some(batch) => *viewed = Some(adapter.viewed(batch)),
            }
        }
    }
}

impl FileStream {
    /// The rows at `position`.
    pub(super) fn new(
        scan: &ScanSpec,
        files: Files,
        wanted: WantedRows,
        runtime: Arc<TokioRuntime>,
    ) -> Result<Self, TaskFailure> {
        let WantedRows {
            position: FilesPosition { parts, unread },
            row_limit,
            is_first,
        } = wanted;
        let columns = ScanColumns::new(scan)
            .map_err(|error| Paths::of(&parts, &files.store).failure(&error))?;
        let mut stream = Self {
            files,
            batch_rows: scan.batch_rows,
            row_limit,
            ahead_bytes: scan.run_bytes(),
            is_first,
            rows_begun: 0,
            runs: VecDeque::new(),
            columns,
            runtime,
            unread: UnreadParts::new(unread, scan.kept_bytes()),
            unlearned: None,
            open: VecDeque::new(),
            asked: Asked::new(scan.run_bytes()),
        };
        stream.runs = stream.runs_of(&parts);
        if stream.files.store.is_remote() {
            // Answers come while whoever is before this one is still at work.
            stream.open_ahead(false)?;
        }
        Ok(stream)
    }

    #[cfg(test)]
    pub(super) fn bytes_under_way(&self) -> u64 {
        self.open.iter().map(|run| run.bytes).sum()
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// Begins the next run if none is under way, and more of them where answers take long. `can_wait`: for the footer of the first one.
    fn open_ahead(&mut self, can_wait: bool) -> Result<(), TaskFailure> {
        let is_far = self.files.store.is_remote();
        loop {
            let bytes: u64 = self.open.iter().map(|run| run.bytes).sum();
            let is_enough = match self.open.len() {
                0 => false,
                _ if !is_far || self.has_enough_rows() => true,
                _ if self.is_first => bytes >= FIRST_BYTES.min(self.ahead_bytes),
                1 => bytes >= self.ahead_bytes,
                count => count >= AHEAD_RUNS || bytes >= self.ahead_bytes.min(AHEAD_BYTES),
            };
            if is_enough {
                return Ok(());
            }
            let can_wait = can_wait && self.open.is_empty();
            let Some(parts) = self.next_run(can_wait)? else {
                self.asked.say(self.unread.is_empty().then_some(bytes));
                return Ok(());
            };
            self.rows_begun += parts.iter().map(|part| part.rows).sum::<u64>();
            self.open.push_back(self.begin(&parts)?);
        }
    }

    /// Whether what was begun has all rows that are wanted.
    fn has_enough_rows(&self) -> bool {
        let limit = self.row_limit.filter(|_| !self.columns.has_predicate());
        limit.is_some_and(|limit| self.rows_begun >= limit as u64)
    }

    /// The run after those that are under way; `None`: there is none, or its file is not known yet and others are read meanwhile.
    fn next_run(&mut self, can_wait: bool) -> Result<Option<Vec<FilePart>>, TaskFailure> {
        while self.runs.is_empty() {
            let Some(parts) = self.learn(can_wait)? else {
                return Ok(None);
            };
            self.runs = self.runs_of(&parts);
        }
        Ok(self.runs.pop_front())
    }

    /// The row groups of the next files that are not known; `None`: there are no more, or, where it cannot wait, not yet.
    fn learn(&mut self, can_wait: bool) -> Result<Option<Vec<FilePart>>, TaskFailure> {
        let most_files = if self.files.store.is_remote() {
            1
        } else {
            LEARNED_TOGETHER
        };
        let mut parts: Option<Vec<FilePart>> = None;
        if let Some(failure) = self.unlearned.take() {
            return Err(failure);
        }
        for _ in 0..most_files {
            let next = self.unread.next(&self.files, &self.runtime, can_wait);
            let Some(learned) = next else {
                break;
            };
            let paths = Paths::new(vec![learned.part.path.clone()], &self.files.store);
            let read = self.unread.read(learned, &paths);
            let known = read.and_then(|(schema, parts)| {
                let known = self.columns.know(&schema, || paths.names())?;
                Ok((known, parts))
            });
            match known {
                Ok((known, found)) => {
                    let found = found.into_iter().map(|part| FilePart {
                        file_schema: known,
                        ..part
                    });
                    parts.get_or_insert_default().extend(found);
                }
                Err(failure) if parts.is_none() => return Err(failure),
                // Rows of those before it come first.
                Err(failure) => {
                    self.unlearned = Some(failure);
                    break;
                }
            }
        }
        Ok(parts)
    }

    /// Parts that one stream reads: those of files that are far are few, so that several streams wait for answers at once. Small files
    /// that are read as a whole are told apart.
    fn runs_of(&self, parts: &[FilePart]) -> VecDeque<Vec<FilePart>> {
        let (is_far, are_told_apart) =
            (self.files.store.is_remote(), !self.columns.has_predicate());
        let mut bytes = 0;
        let is_one_run = |one: &FilePart, next: &FilePart| {
            bytes += one.bytes;
            let run_bytes = FAR_RUN_BYTES.min(self.ahead_bytes);
            let is_enough = is_far && (one.path != next.path || bytes >= run_bytes);
            let is_alike =
                !are_told_apart || small::is_all_of_one(one) == small::is_all_of_one(next);
            let is_one = !is_enough && is_alike && self.columns.is_one_run(one, next);
            if !is_one {
                bytes = 0;
            }
            is_one
        };
        let runs = parts.chunk_by(is_one_run);
        runs.map(<[FilePart]>::to_vec).collect()
    }

    fn begin(&self, parts: &[FilePart]) -> Result<RowRun, TaskFailure> {
        let paths = Paths::of(parts, &self.files.store);
        let open = || {
            let is_far = self.files.store.is_remote();
            let adapter = self.columns.adapter(&parts[0], is_far);
            let stream = adapter.and_then(|adapter| {
                let stream = self
                    .files
                    .stream(&adapter, parts, self.batch_rows, self.row_limit)?;
                let place = self.place_of(&adapter, parts);
                Ok((adapter, self.under_way(parts, place, stream)))
            });
            stream.map_err(|error| paths.failure(&error))
        };
        let (adapter, stream) = panics::caught(|text| paths.panicked(text), open)?;
        Ok(RowRun {
            stream,
            adapter,
            chosen: ChosenRows::new(self.batch_rows, self.row_limit),
            viewed: None,
            is_over: false,
            paths,
            bytes: parts.iter().map(|part| part.bytes).sum(),
        })
    }

    /// Where in its file all lies that is read for `parts`; `None`: that hangs on what the footer says.
    fn place_of(&self, adapter: &Adapter, parts: &[FilePart]) -> Option<Range<u64>> {
        let reads_all =
            adapter.read.len() == adapter.as_read.fields().len() && adapter.pushed.is_none();
        let is_whole = |part: &FilePart| part.rows == part.row_group_rows && part.data_end > 0;
        let is_one = parts
            .windows(2)
            .all(|pair| pair[0].path == pair[1].path && pair[0].row_group + 1 == pair[1].row_group);
        let is_known =
            self.row_limit.is_none() && reads_all && is_one && parts.iter().all(is_whole);
        let (first, last) = (parts.first()?, parts.last()?);
        (is_known && first.data_start < last.data_end && last.data_end <= last.size_bytes)
            .then_some(first.data_start..last.data_end)
    }

    /// The stream, which goes on by itself whenever this thread waits for another, where answers take long.
    fn under_way(
        &self,
        parts: &[FilePart],
        place: Option<Range<u64>>,
        mut stream: SendableRecordBatchStream,
    ) -> SendableRecordBatchStream {
        if !self.files.store.is_remote() {
            return stream;
        }
        let mut builder = RecordBatchReceiverStream::builder(stream.schema(), 1);
        let sender = builder.tx();
        let files = self.files.clone();
        // All of a small file comes along with its footer.
        let large = parts.iter().find(|part| !small::is_all_of_one(part));
        let large = large.map(|part| DataFile {
            path: part.path.clone(),
            size_bytes: part.size_bytes,
            version: 0,
        });
        let read = async move {
            let ahead = match &large {
                Some(file) => files.footer_and(file, place).await,
                None => Ok(None),
            };
            let _ahead = match ahead {
                Ok(ahead) => ahead,
                Err(error) => {
                    // The reader has gone: nobody wants to know.
                    let _ = sender.send(Err(error)).await;
                    return Ok(());
                }
            };
            while let Some(batch) = stream.next().await {
                // The reader has gone: nobody wants the rest.
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        builder.spawn_on(read, self.runtime.handle());
        builder.build()
    }
}
