//! What comes along the edges of a stage, as streams.

use std::collections::VecDeque;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::fragment::KnownRows;
use super::stream::BatchStream;
use crate::block;
use crate::columns::unify;
use crate::sources::{Opened, blocks};
use crate::wire::spec::{FeedSize, InputSpec};

/// Rows of one feed of an input.
pub(crate) struct FeedStream {
    pub(crate) stream: Box<dyn BatchStream>,
    /// The columns, as far as those who give them have told; there may be no rows.
    pub(crate) schema: Option<SchemaRef>,
    /// How much there is, where that is too much to be read for its columns.
    pub(crate) size: Option<FeedSize>,
}

/// What a feed of an input is made of, and what [`FeedStream`] tells of it.
pub(crate) struct FeedInput {
    pub(crate) opened: Opened,
    pub(crate) schema: Option<SchemaRef>,
    pub(crate) size: Option<FeedSize>,
}

/// An input as one for each feed; one from a source is one as a whole.
pub(crate) fn apart(opened: Opened, input: &InputSpec) -> Result<Vec<FeedInput>, TaskFailure> {
    let inputs = if input.feed_blocks.len() < 2 {
        vec![opened]
    } else {
        blocks::by_feed(opened, &input.feed_blocks)?
    };
    let with_columns = |(index, opened): (usize, Opened)| {
        let told = input.feed_schemas.get(index);
        let told = told.filter(|told| !told.is_empty());
        let schema = told.map(|told| block::decode_schema(told.clone()));
        let schema = schema.transpose().map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("read columns: {error}"))
        })?;
        let size = input.feed_sizes.get(index).copied();
        Ok(FeedInput {
            opened,
            schema,
            size,
        })
    };
    inputs.into_iter().enumerate().map(with_columns).collect()
}

impl FeedStream {
    /// What is known of rows that are too much to be read first; `None`: they are few, or nobody has told their columns.
    pub(crate) fn known(&self) -> Option<KnownRows> {
        let size = self.size?;
        Some(KnownRows {
            schema: self.schema.clone()?,
            size: (size.rows, size.bytes),
        })
    }
}

/// The same of all feeds together.
pub(crate) fn known(feeds: &[FeedStream]) -> Option<KnownRows> {
    let mut known = feeds.iter().map(FeedStream::known);
    let first = known.next()??;
    known.try_fold(first, |all, one| all.and(&one?))
}

/// The feeds one after another: a union in the order of the edges. Where there is no row at all, the columns are told by a
/// batch without rows.
pub(crate) fn one_after_another(mut feeds: Vec<FeedStream>) -> Box<dyn BatchStream> {
    if feeds.len() == 1 && feeds[0].schema.is_none() {
        return feeds.remove(0).stream;
    }
    let told = feeds.iter().filter_map(|feed| feed.schema.clone());
    // What has nothing in common fails where rows of both come.
    let schema = told.reduce(|all, one| unify(&all, &one).unwrap_or(all));
    Box::new(Chain {
        feeds: feeds.into(),
        untold: schema,
    })
}

/// The rows of one feed. Where there are none, its columns are told by a batch without rows.
pub(crate) fn told(feed: FeedStream) -> Box<dyn BatchStream> {
    one_after_another(vec![feed])
}

struct Chain {
    feeds: VecDeque<FeedStream>,
    /// The columns, until a batch tells them.
    untold: Option<SchemaRef>,
}

impl BatchStream for Chain {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while let Some(feed) = self.feeds.front_mut() {
            if let Some(batch) = feed.stream.next()? {
                self.untold = None;
                return Ok(Some(batch));
            }
            self.feeds.pop_front();
        }
        Ok(self.untold.take().map(RecordBatch::new_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::stream::Batches;
    use crate::testing::{ids, rows, schema};

    fn feed(batches: Vec<RecordBatch>) -> FeedStream {
        FeedStream {
            stream: Box::new(Batches(batches.into_iter())),
            schema: Some(schema()),
            size: None,
        }
    }

    fn read(mut stream: Box<dyn BatchStream>) -> Vec<RecordBatch> {
        std::iter::from_fn(|| stream.next().expect("reads")).collect()
    }

    #[test]
    fn feeds_come_in_the_order_of_their_edges() {
        let feeds = vec![feed(vec![rows(5, 2)]), feed(vec![]), feed(vec![rows(0, 3)])];
        assert_eq!(ids(&read(one_after_another(feeds))), [5, 6, 0, 1, 2]);
    }

    #[test]
    fn columns_are_told_where_there_are_no_rows() {
        let all = read(one_after_another(vec![feed(vec![]), feed(vec![])]));
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].num_rows(), all[0].schema()), (0, schema()));
    }
}
