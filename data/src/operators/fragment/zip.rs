//! Rows of several feeds side by side, in their order.

use std::collections::HashSet;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use super::feed::FragmentFeed;
use crate::operators::relational::assemble;
use crate::operators::stream::BatchStream;

/// The columns of all, one dataset after the other; a name that is taken gets the first number that makes it another one.
pub(crate) fn output_of<'a>(all: impl IntoIterator<Item = &'a SchemaRef>) -> SchemaRef {
    let mut taken: HashSet<String> = HashSet::new();
    let mut fields: Vec<FieldRef> = Vec::new();
    for field in all.into_iter().flat_map(|schema| schema.fields()) {
        let mut name = field.name().clone();
        for number in 1.. {
            if taken.insert(name.clone()) {
                break;
            }
            name = format!("{}_{number}", field.name());
        }
        fields.push(Arc::new(
            Field::clone(field).with_name(name).with_nullable(true),
        ));
    }
    Arc::new(Schema::new(fields))
}

/// Why datasets of so many rows do not go together.
pub(crate) fn rows_differ(counts: &[u64]) -> String {
    let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
    format!(
        "zip(): rows go together by their place, and the datasets have {} rows; use join() where keys say what belongs together",
        counts.join(" and ")
    )
}

/// Begins when it is asked for rows.
pub(super) fn open(feeds: Vec<FragmentFeed>) -> Box<dyn BatchStream> {
    let heads = feeds.iter().map(|_| None).collect();
    Box::new(ZipStream {
        feeds,
        heads,
        schema: None,
        is_told: false,
    })
}

struct ZipStream {
    feeds: Vec<FragmentFeed>,
    /// Of each feed, rows that others have none beside yet.
    heads: Vec<Option<RecordBatch>>,
    /// What comes out, once it has begun.
    schema: Option<SchemaRef>,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
}

impl BatchStream for ZipStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let schema = match &self.schema {
            Some(schema) => Arc::clone(schema),
            None => self.begin()?,
        };
        let mut rows = usize::MAX;
        for (feed, head) in self.feeds.iter_mut().zip(&mut self.heads) {
            while head.as_ref().is_none_or(|head| head.num_rows() == 0) {
                match feed.next()? {
                    Some(batch) => *head = Some(batch),
                    None => return Ok(self.end(schema)),
                }
            }
            rows = rows.min(head.as_ref().map_or(0, RecordBatch::num_rows));
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for head in self.heads.iter_mut().flatten() {
            columns.extend_from_slice(head.slice(0, rows).columns());
            *head = head.slice(rows, head.num_rows() - rows);
        }
        self.is_told = true;
        assemble(schema, columns, rows).map(Some)
    }
}

impl ZipStream {
    fn begin(&mut self) -> Result<SchemaRef, TaskFailure> {
        let mut schemas = Vec::with_capacity(self.feeds.len());
        let mut counts = Vec::with_capacity(self.feeds.len());
        for feed in &mut self.feeds {
            // Nobody has told a column, so there is no row.
            schemas.push(feed.whole()?.unwrap_or_else(|| Arc::new(Schema::empty())));
            counts.push(feed.held().0);
        }
        if counts.windows(2).any(|pair| pair[0] != pair[1]) {
            let text = rows_differ(&counts);
            return Err(TaskFailure::new(ErrorCode::InvalidArgument, text));
        }
        let schema = output_of(&schemas);
        self.schema = Some(Arc::clone(&schema));
        Ok(schema)
    }

    /// Where no row came out, the columns do.
    fn end(&mut self, schema: SchemaRef) -> Option<RecordBatch> {
        let is_told = std::mem::replace(&mut self.is_told, true);
        (!is_told && !schema.fields().is_empty()).then(|| RecordBatch::new_empty(schema))
    }
}
