//! What one worker of a stage does with every input that it gets: read, steps, sink.

use arrow::datatypes::SchemaRef;

use super::edge::Edge;
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
    /// The first blocks of so many inputs are smaller.
    pub growing_inputs: u64,
    /// Most rows that leave per input.
    pub row_limit: Option<u64>,
    /// Rows that relational work holds at once, in bytes; the rest goes to disk.
    pub memory_bytes: u64,
    /// What comes out goes on in so many rows at once, before it is cut; 0: as it comes.
    pub even_rows: u64,
    /// Reading runs ahead on a thread of its own, by this many batches; 0: it does not.
    pub prefetch_batches: u32,
    /// Which partition a row that leaves belongs to; `None`: all belong to the first.
    pub partitioner: Option<Partitioner>,
    /// Stages that give the rows of its inputs, in the place of a source.
    pub group: Option<GroupTask>,
}

/// As [`StageGroup`](super::StageGroup).
#[derive(Debug, Clone, PartialEq)]
pub struct GroupTask {
    /// Each after those that its rows come from.
    pub members: Vec<GroupMember>,
    /// Between them.
    pub edges: Vec<Edge>,
    /// Threads that work at once.
    pub threads: u32,
}

/// A stage of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupMember {
    /// How its rows are read, and the columns that they have; `None`: they come along edges.
    pub source: Option<(Registered, SchemaRef)>,
    /// In order.
    pub steps: Vec<Operator>,
    /// Most rows that leave.
    pub row_limit: Option<u64>,
    /// The columns that tell its rows apart where an exchange comes next.
    pub keys: Vec<String>,
}

impl StageTask {
    /// Rows that a source needs to give at most, where every row that is read leaves the stage.
    pub(crate) fn row_limit_of_source(&self) -> Option<usize> {
        let limit = self.row_limit.and_then(|rows| usize::try_from(rows).ok());
        limit.filter(|_| self.steps.iter().all(Operator::keeps_rows))
    }

    /// Whether its source, a step or its sink calls Python.
    pub(crate) fn calls_python(&self) -> bool {
        let members = self.group.iter().flat_map(|group| &group.members);
        let mut members = members.filter_map(|member| member.source.as_ref());
        sources::calls_python(&self.source)
            || members.any(|(source, _)| sources::calls_python(source))
            || self.steps.iter().any(Operator::calls_python)
            || self.sink.as_ref().is_some_and(sinks::calls_python)
    }
}
