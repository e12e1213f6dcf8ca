//! What one worker of a stage does with every input that it gets: read, steps, sink.

use super::operator::Operator;
use super::partition::Partitioner;
use crate::registered::Registered;
use crate::{sinks, sources};

/// What one worker of a stage does.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTask {
    /// For messages.
    pub name: String,
    /// How inputs are opened.
    pub source: Registered,
    /// In order.
    pub steps: Vec<Operator>,
    /// How rows are written; `None`: they leave as blocks.
    pub sink: Option<Registered>,
    /// Blocks are cut at this size.
    pub block_bytes: u64,
    /// Most rows that leave per input.
    pub row_limit: Option<u64>,
    /// Rows that relational work holds at once, in bytes; the rest goes to disk.
    pub memory_bytes: u64,
    /// Reading runs ahead on a thread of its own, by this many batches; 0: it does not.
    pub prefetch_batches: u32,
    /// Which partition a row that leaves belongs to; `None`: all belong to the first.
    pub partitioner: Option<Partitioner>,
}

impl StageTask {
    /// Rows that a source needs to give at most, where every row that is read leaves the stage.
    pub(crate) fn row_limit_of_source(&self) -> Option<usize> {
        let limit = self.row_limit.and_then(|rows| usize::try_from(rows).ok());
        limit.filter(|_| self.steps.iter().all(Operator::keeps_rows))
    }

    /// Whether its source, a step or its sink calls Python.
    pub(crate) fn calls_python(&self) -> bool {
        sources::calls_python(&self.source)
            || self.steps.iter().any(Operator::calls_python)
            || self.sink.as_ref().is_some_and(sinks::calls_python)
    }
}
