//! Rows that are counted and forgotten.

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use bytes::Bytes;

use super::{SinkKind, SinkWriter, Written};
use crate::registered::Registered;
use crate::wire::spec::WrittenFile;

pub(super) const NAME: &str = "count";

pub(super) struct Count;

impl SinkKind for Count {
    fn step(&self) -> Option<&'static str> {
        Some("Count")
    }

    fn settings(&self) -> Option<Registered> {
        Some(Registered {
            kind: NAME.to_owned(),
            settings: Bytes::new(),
        })
    }

    fn wants_columns(&self) -> bool {
        false
    }
}

pub(super) fn open(_settings: &Bytes, _input: Written) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    Ok(Box::new(Count))
}

impl SinkWriter for Count {
    fn write(&mut self, _batch: RecordBatch) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        Ok(Vec::new())
    }
}
