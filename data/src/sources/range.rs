//! The numbers from zero up.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_expr::TableSource;
use prost::Message;

use super::splits::SplitCutter;
use super::{
    Opened, PartPlace, Places, Source, SourceKind, SourceReader, Split, SplitOptions, Wanted,
};
use crate::ledger::Trait;
use crate::operators::stream::BatchStream;

pub(super) const KIND: SourceKind = SourceKind {
    name: "range",
    of_table: |table| Some(table.downcast_ref::<RangeTable>()?),
    reader: |_| Ok(Box::new(RangeReader)),
    calls_python: false,
    reaches_by_python: |_| false,
};

/// Numbers per batch.
const NUMBERS_PER_BATCH: u64 = 64 << 10;

/// The numbers from zero up, in the column `id`.
#[derive(Debug)]
pub struct RangeTable {
    /// How many.
    pub rows: u64,
    schema: SchemaRef,
}

impl RangeTable {
    /// The first `rows` numbers.
    pub fn new(rows: u64) -> Self {
        let schema = schema();
        Self { rows, schema }
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

impl TableSource for RangeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// The numbers from `start` until `end`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NumberPart {
    /// First number.
    #[prost(uint64, tag = "1")]
    pub(crate) start: u64,
    /// One after the last.
    #[prost(uint64, tag = "2")]
    pub(crate) end: u64,
}

impl Source for RangeTable {
    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn num_blocks(&self) -> usize {
        1
    }

    fn identity(&self) -> Result<Vec<Trait>, String> {
        Ok(vec![Trait::new(
            "the length of the range",
            self.rows.to_string(),
        )])
    }

    fn splits(&self, row_limit: u64, options: SplitOptions) -> Vec<Split> {
        let rows = self.rows.min(row_limit);
        let target = options.target(rows, rows * size_of::<i64>() as u64, rows);
        let mut cutter = SplitCutter::<Option<NumberPart>>::new(target.exactly(), u64::MAX);
        cutter.run(rows, |number, start, rows| {
            *number = Some(NumberPart {
                start,
                end: start + rows,
            });
        });
        let split = |(part, rows): (Option<NumberPart>, u64)| Split {
            position: super::encode(&part.unwrap_or_default()),
            blocks: Vec::new(),
            rows,
            row_bytes: size_of::<i64>() as u64,
        };
        cutter.finish().into_iter().map(split).collect()
    }

    fn settings(&self, _wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError> {
        Ok(Bytes::new())
    }
}

struct RangeReader;

impl SourceReader for RangeReader {
    fn open(
        &mut self,
        input: Opened,
        _row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let part: NumberPart = super::decode(&input.position)?;
        Ok(Box::new(Numbers {
            schema: schema(),
            next: part.start,
            end: part.end,
        }))
    }

    fn places(&self, position: &Bytes) -> Result<Option<Places>, TaskFailure> {
        let NumberPart { start, end } = super::decode(position)?;
        let part = PartPlace {
            file: None,
            row_group: None,
            first_row: start,
            rows: end.saturating_sub(start),
        };
        Ok(Some(Places {
            parts: vec![part],
            is_exact: true,
        }))
    }
}

struct Numbers {
    schema: SchemaRef,
    next: u64,
    end: u64,
}

impl BatchStream for Numbers {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if self.next >= self.end {
            return Ok(None);
        }
        let end = self.end.min(self.next + NUMBERS_PER_BATCH);
        let number = |n: u64| i64::try_from(n).expect("range() refuses more than 2^63 rows");
        let ids = Int64Array::from_iter_values(number(self.next)..number(end));
        self.next = end;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(ids)]);
        batch.map(Some).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("make numbers: {error}"))
        })
    }
}
