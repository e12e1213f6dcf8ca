//! Sources of users: what is read is cut into tasks by Python, and read by them.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_expr::TableSource;
use prost::Message;

use super::python::{LoadedReader, ReaderSpec};
use super::{Opened, Source, SourceKind, SourceReader, Split, SplitOptions, Wanted};
use crate::ledger::Trait;
use crate::operators::stream::BatchStream;

pub(super) const KIND: SourceKind = SourceKind {
    name: "tasks",
    of_table: |table| Some(table.downcast_ref::<TasksTable>()?),
    reader: |settings| {
        let spec: ReaderSpec = super::decode(settings)?;
        Ok(Box::new(TasksReader(LoadedReader::new(spec))))
    },
    calls_python: true,
    reaches_by_python: |_| true,
};

/// A part of what is read.
#[derive(Debug, Clone)]
pub struct ReadTask {
    /// As the reader understands it.
    pub position: Bytes,
    /// About how many rows it gives: only progress is told by it.
    pub rows: u64,
}

/// What tasks give, one after another. Their columns are seen when they run.
#[derive(Debug)]
pub struct TasksTable {
    /// In order.
    pub tasks: Vec<ReadTask>,
    /// What the `UdfHost` makes ready to run them.
    pub definition: Bytes,
}

impl TableSource for TasksTable {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }
}

impl Source for TasksTable {
    fn is_open(&self) -> bool {
        true
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn num_blocks(&self) -> usize {
        self.tasks.len()
    }

    fn identity(&self) -> Result<Vec<Trait>, String> {
        Err("a Datasource does not say whether its rows are still the same".to_owned())
    }

    fn splits(&self, _row_limit: u64, _options: SplitOptions) -> Vec<Split> {
        let split = |task: &ReadTask| Split {
            position: super::encode(&TaskPosition {
                task: task.position.clone(),
            }),
            blocks: Vec::new(),
            rows: task.rows,
            row_bytes: 0,
        };
        self.tasks.iter().map(split).collect()
    }

    fn settings(&self, _wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError> {
        Ok(super::encode(&ReaderSpec {
            definition: self.definition.clone(),
            schema: Bytes::new(),
        }))
    }
}

#[derive(Clone, PartialEq, Message)]
struct TaskPosition {
    #[prost(bytes = "bytes", tag = "1")]
    task: Bytes,
}

struct TasksReader(LoadedReader);

impl SourceReader for TasksReader {
    fn open(
        &mut self,
        input: Opened,
        _row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let Self(reader) = self;
        let TaskPosition { task } = super::decode(&input.position)?;
        let column: ArrayRef = Arc::new(BinaryArray::from_iter_values([task]));
        let positions = RecordBatch::try_from_iter([("task", column)]);
        let positions = positions.map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("hand a task on: {error}"))
        })?;
        reader.rows(positions)
    }

    fn may_run_ahead(&self) -> bool {
        true
    }
}
