//! What the core calls an input, as a message with its blocks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use bytes::Bytes;

use super::main_loop::ExecutionLoop;
use crate::block::BlockHandle;
use crate::executor::core::event::{BlockSlice, InputContent, StartInput};
use crate::ledger::FoundInRows;
use crate::ledger::journal::{self, JournalPart};
use crate::sources::SourceBlock;
use crate::sources::blocks::{self, BlockPart};
use crate::stage_worker::SeenColumns;
use crate::wire::failing::FailingSpec;
use crate::wire::spec::{FeedSize, InputSpec};

/// So many blocks a worker may have at once.
const BLOCKS_AT_ONCE: u64 = 4;

/// The columns of a stage, as its workers have told them.
#[derive(Default)]
pub(crate) struct ToldColumns {
    seen: SeenColumns,
    bytes: Bytes,
}

impl ToldColumns {
    /// Takes what a worker has told.
    pub(super) fn hear(&mut self, told: &Bytes) {
        if told.is_empty() {
            return;
        }
        self.seen.hear(told);
        let all = self.seen.tell();
        if !all.is_empty() {
            self.bytes = all;
        }
    }
}

/// Where the rows of inputs are noted.
#[derive(Default)]
pub(crate) struct Journals {
    /// `None`: they are not.
    pub(super) folder: Option<PathBuf>,
    /// Inputs that may have journals.
    pub(super) inputs: HashSet<u64>,
    /// Where rows may be left out or are judged: attempts of this run, from this one on. Their journals are for later runs, since what
    /// workers have told of rows is known by numbers that hold for all attempts of a run.
    pub(super) counts_from: Option<u64>,
}

/// What an input has in journals.
#[derive(Default)]
pub(super) struct NotedOfInput {
    parts: Vec<JournalPart>,
    rows: u64,
    found: FoundInRows,
}

impl NotedOfInput {
    /// What was found of these rows.
    pub(super) fn take_found(&mut self) -> FoundInRows {
        std::mem::take(&mut self.found)
    }
}

/// Bytes of a row, about, of the feed whose rows are longest.
fn row_bytes(feeds: &[Vec<BlockSlice>]) -> u64 {
    let parts = feeds.iter().flatten();
    parts.map(BlockSlice::row_bytes).max().unwrap_or(0)
}

/// How much of its blocks is in a feed.
fn size_of(feed: &[BlockSlice]) -> FeedSize {
    FeedSize {
        rows: feed.iter().map(|part| part.rows).sum(),
        bytes: feed.iter().map(BlockSlice::own_bytes).sum(),
    }
}

impl ExecutionLoop {
    /// The message for the worker, and the blocks that come along.
    pub(super) fn input_of(
        &self,
        start: StartInput,
        failing: Option<FailingSpec>,
        noted: NotedOfInput,
    ) -> Result<(InputSpec, Vec<BlockHandle>), TaskFailure> {
        let input = InputSpec {
            sequence: self.place_of(&start),
            skip_blocks: start.skip_blocks,
            skip_rows: start.skip_rows,
            attempt: self.next_attempt,
            wanted_blocks: start.wanted.clone(),
            failing,
            ..InputSpec::default()
        };
        let input = match &self.progress {
            Some(progress) => progress.told(&start, input),
            None => input,
        };
        let input = self.with_journal(&start, input, noted);
        match start.content {
            InputContent::Split(index) => {
                let split = &self.splits[start.stage][index];
                let blocks = split.blocks.iter().map(|block| self.stored(block));
                let blocks: Result<_, TaskFailure> = blocks.collect();
                let input = InputSpec {
                    position: split.position.clone(),
                    rows: split.rows,
                    row_bytes: split.row_bytes,
                    ..input
                };
                Ok((input, blocks?))
            }
            InputContent::Blocks {
                feeds,
                partition,
                is_piece,
            } => {
                let parts = || feeds.iter().flatten();
                let count = |feed: &Vec<BlockSlice>| u32::try_from(feed.len()).unwrap_or(u32::MAX);
                let part = |part: &BlockSlice| BlockPart {
                    first_row: part.first_row,
                    rows: part.rows,
                };
                let is_large = self.is_large(start.stage, parts().map(BlockSlice::own_bytes).sum());
                // Keys with very many rows are looked for in all of them.
                let sizes = feeds.iter().filter(|_| is_large && !is_piece);
                let input = InputSpec {
                    position: blocks::position_of(parts().map(part)),
                    rows: parts().map(|part| part.rows).sum(),
                    feed_blocks: feeds.iter().map(count).collect(),
                    partition,
                    is_piece,
                    feed_schemas: self.columns_of_feeds(start.stage, &feeds, is_large),
                    feed_sizes: sizes.map(|feed| size_of(feed)).collect(),
                    is_large,
                    row_bytes: row_bytes(&feeds),
                    ..input
                };
                Ok((input, self.handles(parts())?))
            }
        }
    }

    /// Whether an input of so many bytes is more than a worker of the stage should have at once, beside what it makes of it.
    fn is_large(&self, stage: usize, bytes: u64) -> bool {
        let spec = self.stages[stage].spec();
        bytes > spec.memory_bytes.max(BLOCKS_AT_ONCE * spec.block_bytes)
    }

    /// The place of an input in the order of its stage, also where those before it were done by an earlier run.
    pub(super) fn place_of(&self, start: &StartInput) -> u64 {
        match start.content {
            InputContent::Split(index) => {
                let place = self.places.get(index).copied();
                place.unwrap_or(start.sequence)
            }
            InputContent::Blocks { .. } => start.sequence,
        }
    }

    /// Where rows of the input are noted, if they are.
    fn notes(&self, start: &StartInput) -> Option<&Path> {
        let progress = self.progress.as_ref();
        let is_noted = progress.is_none_or(|progress| progress.is_to_note(start));
        self.journals.folder.as_deref().filter(|_| is_noted)
    }

    /// What is noted of an input with this number.
    pub(super) fn noted_of(&self, start: &StartInput, number: u64) -> NotedOfInput {
        let folder = self.notes(start);
        let Some(folder) = folder.filter(|_| self.journals.inputs.contains(&number)) else {
            return NotedOfInput::default();
        };
        let before = self.journals.counts_from.unwrap_or(u64::MAX);
        let (parts, rows) = journal::chain(folder, number, before);
        let mut found = FoundInRows::default();
        for part in &parts {
            match journal::found_of(part) {
                Ok(more) => found.add(more),
                // What is not noted is made again.
                Err(error) => {
                    tracing::warn!(%error, path = part.path, "a journal cannot be read");
                    return NotedOfInput::default();
                }
            }
        }
        NotedOfInput { parts, rows, found }
    }

    /// The same input, whose rows are noted, and which goes on from what was noted before.
    fn with_journal(&self, start: &StartInput, input: InputSpec, noted: NotedOfInput) -> InputSpec {
        let Some(folder) = self.notes(start) else {
            return input;
        };
        let progress = self.progress.as_ref();
        let number = input.output.unwrap_or(input.sequence);
        // Of rows that an attempt before has told of, this one says nothing: its journal would not have them.
        let is_told = input
            .failing
            .as_ref()
            .is_some_and(|one| !one.told.is_empty());
        let journal = match is_told {
            true => String::new(),
            false => {
                let path = journal::path_of(folder, input.attempt, number);
                path.display().to_string()
            }
        };
        let before = self.stages[..start.stage].iter();
        let steps_before = before.map(|start| start.spec().steps.len()).sum::<usize>();
        let input = InputSpec {
            journal,
            noted: noted.parts,
            noted_rows: noted.rows,
            steps_before: u32::try_from(steps_before).unwrap_or(u32::MAX),
            ..input
        };
        match progress {
            Some(progress) => progress.with_spans(start, input),
            None => input,
        }
    }

    fn handles<'a>(
        &self,
        parts: impl Iterator<Item = &'a BlockSlice>,
    ) -> Result<Vec<BlockHandle>, TaskFailure> {
        let handle = |part: &BlockSlice| self.blocks.get(part.block).cloned();
        let handles: Option<Vec<BlockHandle>> = parts.map(handle).collect();
        handles.ok_or_else(|| {
            TaskFailure::new(
                ErrorCode::Internal,
                "an input names a block that was released",
            )
        })
    }

    /// What is known of the columns of each feed, where blocks alone may not tell, or are too much to be read for that.
    fn columns_of_feeds(
        &self,
        stage: usize,
        feeds: &[Vec<BlockSlice>],
        is_large: bool,
    ) -> Vec<Bytes> {
        if let [feed] = feeds
            && !feed.is_empty()
            && !is_large
        {
            return Vec::new();
        }
        let told = |&giver: &usize| {
            let columns = self.stages[giver].columns.as_ref();
            columns.map_or_else(Bytes::new, |columns| columns.bytes.clone())
        };
        self.stages[stage].givers.iter().map(told).collect()
    }

    /// Where the block lies; puts it there if this is its first use.
    fn stored(&self, block: &SourceBlock) -> Result<BlockHandle, TaskFailure> {
        let session = self.pool.session();
        if let Some(handle) = block.handle(&session) {
            return Ok(handle);
        }
        let handle = self.pool.put(block)?;
        block.set_handle(session, handle.clone());
        Ok(handle)
    }
}
