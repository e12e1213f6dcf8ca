//! What a worker learns of files whose footers nobody has read: their columns and row groups. Footers are asked for ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;
use parquet::file::metadata::ParquetMetaData;
use tokio::runtime::Runtime as TokioRuntime;
use tokio::task::JoinHandle;

use super::read::{Files, Paths};
use super::small;
use super::spec::{FilePart, UnreadPart};
use crate::storage::{DataFile, KnownColumns, footer_here, row_groups};

/// Footers of files that are far are asked for ahead of what is read: so many of them, as requests are under way at once,
const FAR_AHEAD: u64 = 32;
/// but of the first files fewer: whoever waits for their rows shall not wait for the footers of others.
const FIRST_AHEAD: usize = 4;
/// About what comes with each.
const FOOTER_BYTES: u64 = 64 << 10;

/// Parts of files that are not known, in order.
pub(super) struct UnreadParts {
    waiting: VecDeque<UnreadPart>,
    asked: VecDeque<AskedFooter>,
    /// So many are asked for ahead.
    most_asked: usize,
    /// So many are known.
    learned: usize,
    /// The columns of the file before.
    last: Option<KnownColumns>,
}

impl Drop for UnreadParts {
    fn drop(&mut self) {
        // Nobody wants the rest.
        self.asked.iter().for_each(|asked| asked.footer.abort());
    }
}

type Answer = Result<Arc<ParquetMetaData>, DataFusionError>;

struct AskedFooter {
    part: UnreadPart,
    footer: JoinHandle<Answer>,
}

/// A part whose file is known now.
pub(super) struct LearnedPart {
    pub(super) part: UnreadPart,
    footer: Answer,
}

impl UnreadParts {
    /// `kept_bytes`: what there is memory for, half of it for those that are being read.
    pub(super) fn new(parts: Vec<UnreadPart>, kept_bytes: u64) -> Self {
        let most_asked = (kept_bytes / 2 / FOOTER_BYTES).clamp(1, FAR_AHEAD);
        Self {
            waiting: parts.into(),
            most_asked: usize::try_from(most_asked).expect("is small"),
            asked: VecDeque::new(),
            learned: 0,
            last: None,
        }
    }

    /// Whether there is none left.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// The next part, once its footer is there. `None`: there is none left, or, where `can_wait` is not so, not yet.
    pub(super) fn next(
        &mut self,
        files: &Files,
        runtime: &TokioRuntime,
        can_wait: bool,
    ) -> Option<LearnedPart> {
        if !files.store.is_remote()
            && self.asked.is_empty()
            && let Some(part) = self
                .waiting
                .pop_front_if(|part| small::is_small(part.size_bytes))
        {
            // What else reads it parses its few bytes again, in less time than a footer takes that is kept for many.
            let footer = footer_here(&part.path).map(Arc::new);
            let footer = footer.map_err(DataFusionError::from);
            return Some(LearnedPart { part, footer });
        }
        let ahead = if files.store.is_remote() {
            (FIRST_AHEAD + 2 * self.learned).min(self.most_asked)
        } else {
            1
        };
        while self.asked.len() < ahead
            && let Some(part) = self.waiting.pop_front()
        {
            let footer = runtime.spawn(footer(files.clone(), part.clone()));
            self.asked.push_back(AskedFooter { part, footer });
        }
        if !can_wait && !self.asked.front()?.footer.is_finished() {
            return None;
        }
        let AskedFooter { part, footer } = self.asked.pop_front()?;
        self.learned += 1;
        let footer = runtime
            .block_on(footer)
            .unwrap_or_else(|error| Err(DataFusionError::ExecutionJoin(Box::new(error))));
        Some(LearnedPart { part, footer })
    }

    /// The columns of the part's file, and its row groups that lie in it.
    pub(super) fn read(
        &mut self,
        learned: LearnedPart,
        paths: &Paths,
    ) -> Result<(SchemaRef, Vec<FilePart>), TaskFailure> {
        let LearnedPart { part, footer } = learned;
        let footer = footer.map_err(|error| paths.failure(&error))?;
        let known = self.last.as_ref().and_then(|last| last.of(&footer));
        let schema = match known {
            Some(schema) => schema,
            None => {
                let read = KnownColumns::read(&footer, &part.path);
                let read = read.map_err(|error| {
                    TaskFailure::new(ErrorCode::InvalidArgument, error.to_string())
                })?;
                Arc::clone(&self.last.insert(read).schema)
            }
        };
        Ok((schema, parts_of(&part, &footer)))
    }
}

async fn footer(files: Files, part: UnreadPart) -> Answer {
    let file = DataFile {
        path: part.path,
        size_bytes: part.size_bytes,
        version: 0,
    };
    files.footer(&file).await
}

/// The row groups whose middles lie in the part, as wholes.
fn parts_of(part: &UnreadPart, footer: &ParquetMetaData) -> Vec<FilePart> {
    let groups = row_groups(footer);
    let count = groups.len() as u64;
    let place = |index: u64| {
        let middle =
            u128::from(part.size_bytes) * u128::from(2 * index + 1) / u128::from(2 * count);
        u64::try_from(middle).expect("is in the file")
    };
    let number =
        |number: u64| u32::try_from(number).expect("a file has fewer than 2^32 row groups");
    let groups = (0..count).zip(groups);
    let groups = groups.filter(|(index, _)| (part.start..part.end).contains(&place(*index)));
    groups
        .map(|(index, group)| FilePart {
            path: part.path.clone(),
            size_bytes: part.size_bytes,
            row_groups: number(count),
            row_group: number(index),
            row_group_rows: group.rows,
            first_row: 0,
            rows: group.rows,
            file_schema: 0,
            bytes: group.bytes,
            data_start: group.start,
            data_end: group.end,
        })
        .collect()
}
