//! Batches of the size that a function wants.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

use super::group_ends::GroupEnds;
use super::growth::{Became, Growth};
use super::sizes::{Filling, Limits, RowSize, Scale};
use crate::block::data_bytes;
use crate::operators::stream::BatchStream;

/// With no batch size asked for, rows of a slow function wait so long at most for others that come to the next with them.
const PATIENCE: Duration = Duration::from_millis(20);
/// With no batch size asked for, smaller batches than this are put together.
const SMALL_BATCH_BYTES: u64 = 1 << 20;

/// Puts batches together and cuts them, without copying where one batch serves.
pub(super) struct Rebatch {
    input: Box<dyn BatchStream>,
    /// How long rows are held at most, if that matters.
    patience: Option<Duration>,
    waits_since: Option<Instant>,
    rows: Option<usize>,
    /// Budgets of a batch, if there are any.
    budget: Option<Budget>,
    enough_bytes: u64,
    /// A batch may not have more bytes, about, however few rows that are.
    most_bytes: Option<u64>,
    /// The same where it is the function's growth that says how many.
    growth: Option<Growth>,
    /// A batch ends where a group does, if rows come in groups.
    groups: Option<GroupEnds>,
    held: VecDeque<HeldRows>,
    held_rows: usize,
    is_over: bool,
}

/// Rows that wait.
struct HeldRows {
    batch: RecordBatch,
    /// Counted when it came, where that matters: what is cut off may not be able to tell.
    bytes: u64,
}

impl HeldRows {
    /// Its first rows; they count alike.
    fn cut_off(&mut self, rows: usize) -> Self {
        let all = self.batch.num_rows();
        let part = u128::from(self.bytes) * rows as u128 / all.max(1) as u128;
        let bytes = u64::try_from(part).unwrap_or(u64::MAX);
        let first = self.batch.slice(0, rows);
        self.batch = self.batch.slice(rows, all - rows);
        self.bytes -= bytes;
        Self {
            batch: first,
            bytes,
        }
    }

    /// How many of its rows have no more bytes than these.
    fn rows_within(&self, bytes: u64) -> usize {
        if self.bytes <= bytes {
            return self.batch.num_rows();
        }
        let rows = self.batch.num_rows() as u128 * u128::from(bytes) / u128::from(self.bytes);
        usize::try_from(rows).unwrap_or(usize::MAX)
    }
}

/// Cuts batches where they are full.
struct Budget {
    limits: Limits,
    scale: Scale,
    /// Of the rows that are held.
    sizes: VecDeque<RowSize>,
    /// The first of these, as far as they were looked at.
    filling: Filling,
    is_full: bool,
}

impl Budget {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), TaskFailure> {
        self.sizes.extend(self.scale.measure(batch)?);
        self.fill();
        Ok(())
    }

    fn fill(&mut self) {
        while !self.is_full
            && let Some(&size) = self.sizes.get(self.rows())
        {
            self.is_full = !self.limits.take(&mut self.filling, size);
        }
        self.is_full |= self.limits.are_reached(&self.filling);
    }

    /// Rows of the next batch.
    fn rows(&self) -> usize {
        usize::try_from(self.filling.rows).unwrap_or(usize::MAX)
    }

    fn taken(&mut self, rows: usize) {
        self.sizes.drain(..rows);
        self.filling = Filling::default();
        self.is_full = false;
        self.fill();
    }
}

impl Rebatch {
    /// Batches of `rows` rows of `input`; `None`: of whatever size there is. `is_patient`: then rows are not held for long.
    pub(super) fn new(
        input: Box<dyn BatchStream>,
        rows: Option<u64>,
        block_bytes: u64,
        is_patient: bool,
    ) -> Self {
        let rows = rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        Self {
            input,
            patience: is_patient.then_some(PATIENCE),
            waits_since: None,
            rows: rows.filter(|&rows| rows > 0),
            budget: None,
            enough_bytes: SMALL_BATCH_BYTES.min(block_bytes),
            most_bytes: None,
            growth: None,
            groups: None,
            held: VecDeque::new(),
            held_rows: 0,
            is_over: false,
        }
    }

    /// The same with batches of so many bytes at most, or of one row.
    pub(super) fn of_bytes(self, most: u64) -> Self {
        Self {
            most_bytes: Some(most),
            ..self
        }
    }

    /// The same with batches that are cut where they have reached a limit.
    pub(super) fn within(self, limits: Limits, scale: Scale) -> Self {
        let budget = Budget {
            limits,
            scale,
            sizes: VecDeque::new(),
            filling: Filling::default(),
            is_full: false,
        };
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// The same with batches of whole groups of rows, which come sorted by these columns. One group may be much.
    pub(super) fn of_groups(self, keys: Vec<String>) -> Self {
        Self {
            groups: Some(GroupEnds::new(keys)),
            ..self
        }
    }

    /// The same with batches that become about a block, where no number of rows is asked for.
    pub(super) fn growing(self, block_bytes: u64) -> Self {
        let is_free = self.rows.is_none() && self.budget.is_none() && self.groups.is_none();
        Self {
            growth: is_free.then(|| Growth::new(block_bytes)),
            ..self
        }
    }

    /// What a batch has become.
    pub(super) fn learn(&mut self, became: Became) {
        if let Some(growth) = &mut self.growth {
            growth.learn(became);
        }
    }

    /// Whether anything is to be learned.
    pub(super) fn learns(&self) -> bool {
        self.growth.is_some()
    }

    fn most_bytes(&self) -> Option<u64> {
        let growth = self.growth.map(|growth| growth.most_bytes());
        self.most_bytes.or(growth)
    }

    /// The next batch; `None`: there are no more rows.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while !self.is_over && !self.is_enough() {
            match self.input.next()? {
                // Other columns than before end a batch, see `take`.
                Some(batch) => {
                    if let Some(budget) = &mut self.budget {
                        budget.add(&batch)?;
                    }
                    if let Some(groups) = &mut self.groups {
                        let added = groups.add(&batch, self.held_rows);
                        added.map_err(|error| wrong("look for the ends of groups", &error))?;
                    }
                    self.waits_since = self.waits_since.or_else(|| Some(Instant::now()));
                    self.held_rows += batch.num_rows();
                    let is_counted = self.rows.is_none() || self.most_bytes.is_some();
                    let bytes = if is_counted { data_bytes(&batch) } else { 0 };
                    self.held.push_back(HeldRows { batch, bytes });
                }
                None => self.is_over = true,
            }
        }
        self.take()
    }

    fn is_enough(&self) -> bool {
        let is_mixed = match (self.held.front(), self.held.back()) {
            (Some(first), Some(last)) => first.batch.schema() != last.batch.schema(),
            _ => false,
        };
        if let Some(groups) = &self.groups {
            return groups.whole_rows() > 0 && self.held_bytes() >= self.enough_bytes;
        }
        is_mixed
            || match (&self.budget, self.rows) {
                (Some(budget), _) => budget.is_full,
                (None, Some(rows)) => {
                    let is_heavy = |most: u64| self.held_bytes() >= most;
                    self.held_rows >= rows || self.most_bytes.is_some_and(is_heavy)
                }
                (None, None) => {
                    let most = self.most_bytes().unwrap_or(u64::MAX);
                    self.held_bytes() >= self.enough_bytes.min(most) || self.has_waited()
                }
            }
    }

    fn held_bytes(&self) -> u64 {
        self.held.iter().map(|held| held.bytes).sum()
    }

    fn has_waited(&self) -> bool {
        match (self.patience, self.waits_since) {
            (Some(patience), Some(since)) => since.elapsed() >= patience,
            _ => false,
        }
    }

    /// As its input's, if it holds no rows.
    pub(super) fn position(&self) -> Option<u64> {
        self.held.is_empty().then(|| self.input.position())?
    }

    fn take(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        self.waits_since = None;
        let Some(first) = self.held.front() else {
            return Ok(None);
        };
        let schema = first.batch.schema();
        let wanted = match (&self.budget, &mut self.groups) {
            (Some(budget), _) if self.held_rows > 0 => budget.rows(),
            (_, Some(groups)) if !self.is_over => groups.take(),
            _ => self.rows.unwrap_or(usize::MAX),
        };
        let most_bytes = self.most_bytes();
        let mut parts = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while rows < wanted
            && let Some(held) = self.held.front_mut()
            && held.batch.schema() == schema
        {
            let room = most_bytes.map_or(u64::MAX, |most| most.saturating_sub(bytes));
            let within = held.rows_within(room).max(usize::from(rows == 0));
            let length = held.batch.num_rows().min(wanted - rows).min(within);
            if length == 0 && held.batch.num_rows() > 0 {
                break;
            }
            let taken = held.cut_off(length);
            if held.batch.num_rows() == 0 {
                self.held.pop_front();
            }
            rows += length;
            bytes += taken.bytes;
            parts.push(taken.batch);
        }
        self.held_rows -= rows;
        if let Some(budget) = &mut self.budget {
            budget.taken(rows);
        }
        if parts.len() == 1 {
            return Ok(parts.pop());
        }
        concat_batches(&schema, &parts)
            .map(Some)
            .map_err(|error| wrong("put batches together", &error))
    }
}

fn wrong(what: &str, error: &ArrowError) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Float64Array};
    use arrow::datatypes::Float64Type;

    use super::*;
    use crate::operators::stream::Batches;
    use crate::testing::{ids, rows};

    /// Of a hundred rows that come in batches of thirty.
    fn sizes(rows_wanted: u64, most_bytes: u64) -> Vec<usize> {
        let whole = rows(0, 100);
        let given = [(0, 30), (30, 30), (60, 30), (90, 10)];
        let given = given.map(|(first, count)| whole.slice(first, count));
        let input = Box::new(Batches(Vec::from(given).into_iter()));
        let rebatch = Rebatch::new(input, Some(rows_wanted), 1 << 20, false);
        let mut rebatch = rebatch.of_bytes(most_bytes);
        let mut made = Vec::new();
        while let Some(batch) = rebatch.next().expect("goes on") {
            made.push(batch);
        }
        assert_eq!(ids(&made), (0..100).collect::<Vec<_>>());
        made.iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn frames_of_large_rows_have_fewer_of_them() {
        assert_eq!(sizes(64, 1 << 30), [64, 36]);
        // A row has a thousand bytes and some.
        let few = sizes(64, 20_500);
        assert!(few.iter().all(|rows| (1..=20).contains(rows)), "{few:?}");
        assert!(few.len() <= 9, "{few:?}");
        assert_eq!(sizes(64, 1), [1; 100]);
    }

    /// Rows of groups, which come in batches of so many rows; the groups of each batch that comes out.
    fn groups(keys: &[f64], rows: usize, least_bytes: u64) -> Vec<Vec<f64>> {
        let column: ArrayRef = Arc::new(Float64Array::from(keys.to_vec()));
        let whole = RecordBatch::try_from_iter([("key", column)]).expect("is a batch");
        let firsts = (0..keys.len()).step_by(rows);
        let given = firsts.map(|first| whole.slice(first, rows.min(keys.len() - first)));
        let input = Box::new(Batches(given.collect::<Vec<_>>().into_iter()));
        let rebatch = Rebatch::new(input, None, least_bytes, false);
        let mut rebatch = rebatch.of_groups(vec!["key".to_owned()]);
        let mut made = Vec::new();
        while let Some(batch) = rebatch.next().expect("goes on") {
            made.push(
                batch
                    .column(0)
                    .as_primitive::<Float64Type>()
                    .values()
                    .to_vec(),
            );
        }
        made
    }

    #[test]
    fn batches_of_groups_have_whole_groups() {
        let keys = [1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 4.0];
        let each = vec![vec![1.0; 2], vec![2.0], vec![3.0; 4], vec![4.0]];
        assert_eq!(groups(&keys, 1, 1), each);
        let two = vec![vec![1.0, 1.0, 2.0], vec![3.0; 4], vec![4.0]];
        assert_eq!(
            groups(&keys, 2, 1),
            two,
            "the last group of a batch may go on"
        );
        assert_eq!(groups(&keys, 8, 1), [keys[..7].to_vec(), vec![4.0]]);
        assert_eq!(groups(&keys, 1, 1 << 20), [keys.to_vec()]);
        assert_eq!(
            groups(&[7.0; 9], 2, 1),
            [vec![7.0; 9]],
            "one group, however much it is"
        );
        assert_eq!(groups(&[], 2, 1), Vec::<Vec<f64>>::new());
    }

    #[test]
    fn both_zeros_are_one_group() {
        assert_eq!(groups(&[-0.0, 0.0, 1.0], 1, 1), [vec![0.0; 2], vec![1.0]]);
    }
}
