//! Relational work over all rows of an input, by DataFusion's physical operators.
//!
//! ```text
//!  step before ──► Feed ──► Slot ──► SortExec, AggregateExec, ... ──► next step
//!                  one schema        polled on this thread; memory from a pool, the rest in spill files
//! ```
//! An operator is made when the columns are known. Work that begins at an exchange has all blocks of its input at hand, so
//! that it knows the columns of all of them and brings their rows into one form first; where they are too many to be read for
//! that, it goes by what those have told who made them ([`KnownRows`]). Work behind a function sees one batch
//! after another: where columns change, it begins anew, which only a partial aggregation may do.

mod aggregate;
#[cfg(test)]
mod beside_tests;
mod bounds;
mod drive;
mod environment;
mod feed;
mod fold;
mod hot;
mod join;
mod keys;
mod order;
mod origins;
mod pool;
#[cfg(test)]
mod range_tests;
mod sampled;
mod shuffled;
pub(crate) mod skip;
mod suffixes;
#[cfg(test)]
mod tests;
mod whole_groups;
mod window;
#[cfg(test)]
mod window_tests;
mod zip;

use aggregate::column;
pub(crate) use aggregate::{key, output_of, over as aggregated};
pub(crate) use bounds::sort_fields;
pub(crate) use environment::{Environment, SpillPlace};
pub(crate) use feed::{KnownRows, cut, nullable};
pub(crate) use fold::{columns_of as folded_columns, over as folded};
pub(crate) use hot::HotKeys;
pub(crate) use join::{How, Layout, output_of as joined};
pub(crate) use order::order_of;
pub(crate) use origins::JoinedSide;
pub(crate) use window::{columns_of as window_columns, over as windowed};
pub(crate) use zip::{output_of as zipped, rows_differ};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;

use crate::error::reason_of;
use crate::graph::{AggregatePhase, Fragment};
use crate::operators::stream::{BatchStream, PickedRows};
use crate::os_error;
use drive::Run;
use feed::FragmentFeed;
use shuffled::{BegunShuffle, Shuffled};

/// Applies relational work to the feeds of one input: to the rows of its only feed, unless it [takes
/// feeds](Fragment::takes_feeds). A batch without rows tells the columns of a feed where there are no rows. Where feeds are too
/// much to be read before work begins, it goes by what is known of them.
pub(crate) fn open_known(
    fragment: &Fragment,
    mut feeds: Vec<(Box<dyn BatchStream>, Option<KnownRows>)>,
    environment: Environment,
) -> Box<dyn BatchStream> {
    if let (Fragment::Skip(rows), [_]) = (fragment, feeds.as_slice()) {
        return skip::open(vec![0, *rows], feeds.remove(0).0);
    }
    match (fragment, feeds.as_slice()) {
        (Fragment::Sample(keys), [_]) => return sampled::open(keys.clone(), feeds.remove(0).0),
        (Fragment::Bounds(wanted), [_]) => {
            return bounds::open(wanted.clone(), feeds.remove(0).0, &environment);
        }
        _ => {}
    }
    let piece_bytes = environment.piece_bytes();
    let feed =
        |(rows, known)| FragmentFeed::new(fragment.step(), rows, piece_bytes).of_known(known);
    let feeds = feeds.into_iter().map(feed).collect();
    if *fragment == Fragment::Zip {
        return zip::open(feeds);
    }
    Box::new(FragmentStream {
        feeds,
        fragment: fragment.clone(),
        environment,
        run: None,
        shuffled: None,
        empty: None,
        has_begun: false,
        is_told: false,
    })
}

/// The same over feeds that are read before.
#[cfg(test)]
pub(crate) fn open(
    fragment: &Fragment,
    feeds: Vec<Box<dyn BatchStream>>,
    environment: Environment,
) -> Box<dyn BatchStream> {
    let feeds = feeds.into_iter().map(|rows| (rows, None)).collect();
    open_known(fragment, feeds, environment)
}

struct FragmentStream {
    fragment: Fragment,
    feeds: Vec<FragmentFeed>,
    environment: Environment,
    run: Option<Run>,
    /// In the place of an operator: rows at hand that are put in an order by chance.
    shuffled: Option<Shuffled>,
    /// The columns that came out, while no row has.
    empty: Option<SchemaRef>,
    has_begun: bool,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
}

impl BatchStream for FragmentStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            if let Some(shuffled) = &mut self.shuffled {
                if let Some(batch) = shuffled.next() {
                    self.is_told = true;
                    return batch.map(Some);
                }
                self.empty = Some(shuffled.schema());
                self.shuffled = None;
            }
            let Some(run) = &mut self.run else {
                if !self.begin()? {
                    return Ok(self.tell_columns());
                }
                continue;
            };
            match run.next(&mut self.feeds)? {
                Some(batch) if batch.num_rows() > 0 => {
                    self.is_told = true;
                    return Ok(Some(batch));
                }
                Some(_) => {}
                None => {
                    self.empty = Some(run.schema());
                    self.run = None;
                    if let Some(totals) = self.totals_of_nothing()? {
                        return Ok(Some(totals));
                    }
                }
            }
        }
    }

    fn next_picked(&mut self, bytes: u64) -> Result<Option<PickedRows>, TaskFailure> {
        let is_shuffle = matches!(self.fragment, Fragment::Shuffle(_));
        if is_shuffle && !self.has_begun {
            self.begin()?;
        }
        let Some(shuffled) = &mut self.shuffled else {
            return Ok(None);
        };
        self.is_told = true;
        Ok(shuffled.next_picked(bytes))
    }
}

impl FragmentStream {
    /// Begins with the rows that come next; false: there are none.
    fn begin(&mut self) -> Result<bool, TaskFailure> {
        if let Fragment::Shuffle(seed) = self.fragment {
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            let schema = if is_first {
                self.feeds[0].whole()?
            } else {
                None
            };
            let Some(schema) = schema else {
                return Ok(false);
            };
            match shuffled::begin(seed, &mut self.feeds[0], &schema, &self.environment)? {
                BegunShuffle::AtHand(rows) => self.shuffled = Some(rows),
                BegunShuffle::Sorted(run) => self.run = Some(run),
            }
            return Ok(true);
        }
        self.run = self.operator()?;
        Ok(self.run.is_some())
    }

    /// An operator for the rows that come next; `None`: there are none.
    fn operator(&mut self) -> Result<Option<Run>, TaskFailure> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if let Fragment::Join(join) = &self.fragment {
            return match is_first {
                true => join::begin(join, &mut self.feeds, &self.environment),
                false => Ok(None),
            };
        }
        let feed = &mut self.feeds[0];
        let begun = match &self.fragment {
            Fragment::Fold(fold) => {
                Some(is_first.then(|| fold::begin(fold, feed, &self.environment)))
            }
            Fragment::Window(window) => {
                Some(is_first.then(|| window::begin(window, feed, &self.environment)))
            }
            _ => None,
        };
        if let Some(begun) = begun {
            return begun
                .transpose()
                .map_err(|error| failure(self.fragment.step(), &error));
        }
        let schema = match &self.fragment {
            Fragment::First(_) => feed.next_run()?,
            Fragment::Aggregate(aggregate) if aggregate.phase == AggregatePhase::Partial => {
                feed.next_run()?
            }
            _ if is_first => feed.whole()?,
            _ => None,
        };
        let (rows, environment) = (feed.held(), &self.environment);
        let begun = match (&self.fragment, schema) {
            (Fragment::Sort(sort), Some(schema)) => order::sort(sort, &schema, rows, environment),
            (Fragment::First(sort), Some(schema)) => {
                order::first_rows(sort, &schema, rows, environment)
            }
            (Fragment::Aggregate(aggregate), Some(schema)) => {
                aggregate::begin(aggregate, &schema, environment)
            }
            // Nobody has told any column, so there is no row: but a total of no rows is a row.
            (Fragment::Aggregate(aggregate), None)
                if is_first && aggregate.phase == AggregatePhase::Final =>
            {
                aggregate::begin_without_columns(aggregate, environment)
            }
            _ => return Ok(None),
        };
        begun
            .map(Some)
            .map_err(|error| failure(self.fragment.step(), &error))
    }

    /// The rows that a fold has of no rows at all. Behind an exchange an input has none only where nothing came along it.
    fn totals_of_nothing(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Fragment::Fold(fold) = &self.fragment else {
            return Ok(None);
        };
        if self.is_told {
            return Ok(None);
        }
        let totals = fold::totals_of_nothing(fold, &self.environment)
            .map_err(|error| failure(self.fragment.step(), &error))?;
        self.is_told = totals.is_some();
        Ok(totals)
    }

    /// Where no row came out, the columns do.
    fn tell_columns(&mut self) -> Option<RecordBatch> {
        let schema = self.empty.take()?;
        let is_told = std::mem::replace(&mut self.is_told, true);
        (!is_told).then(|| RecordBatch::new_empty(schema))
    }
}

/// What it says when files would take more of the disk than they may.
const NO_DISK_LEFT: &str = "max_temp_directory_size";

/// What DataFusion says, for the user.
pub(crate) fn failure(step: &str, error: &DataFusionError) -> TaskFailure {
    if error.to_string().contains(NO_DISK_LEFT) {
        let text = format!(
            "{step}: the disk that rows are spilled to is nearly full; make room, or name another folder with AKTIS_SPILL_DIR"
        );
        return TaskFailure::new(ErrorCode::OutOfDisk, text);
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(detail) => TaskFailure::new(
            // Not a lack of memory of the node, which another try might get around.
            ErrorCode::Application,
            format!(
                "{step}: the rows of one group or key do not fit into this worker's part of the memory budget \
                 ({detail}); raise execution_options.resource_limits.object_store_memory"
            ),
        ),
        // Rows are spilled: the disk, or a right, is missing.
        DataFusionError::IoError(error) => os_error::failure(
            &format!("{step}: spill rows into the node's folder (AKTIS_SPILL_DIR)"),
            error,
            ErrorCode::Application,
        ),
        other => TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!("{step}: {}", reason_of(other)),
        ),
    }
}
