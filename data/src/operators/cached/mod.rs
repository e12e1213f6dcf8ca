//! Functions whose results are kept: a row that one was called with is looked up, and the function called with the others.
//!
//! ```text
//!  batch ─► a key for each row ─► kept ──────────────────────┐
//!                              └► not kept ─► function ─► keep ┴► rows, in the order of the batch
//! ```
//! - CACHE-1 (same-row-same-result): a result is found by all that the function got of its row, and by what the function is.
//! - CACHE-2 (torn-is-not-there): files are believed when what says of them how long they are, and what is in them, is whole
//!   ([`files`]).

mod compact;
mod files;
mod keys;
mod store;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::error::ArrowError;

use crate::block;
use crate::operators::packed::take_rows;
use crate::operators::relational::assemble;
use crate::operators::udf::{BatchFunction, FailedRow, FunctionCounts};
use crate::plan::CacheSpec;
use keys::Key;
use store::ResultStore;

/// A function that gives one row for one row, with what it gave before.
pub(crate) struct CachedFunction {
    inner: Box<dyn BatchFunction>,
    name: String,
    store: ResultStore,
    calls: VecDeque<CachedCall>,
    /// Rows of the first call, or of the one that has just ended, that it has failed for.
    failed: Vec<FailedRow>,
    hits: u64,
    misses: u64,
    /// Rows that the call which ended last was made with.
    last_asked: usize,
}

/// Rows of one call.
struct CachedCall {
    keys: Vec<Key>,
    /// Where the result of each row is.
    results: Vec<ResultPlace>,
    /// Rows that the function is called with: the first of each key.
    asked: Vec<usize>,
    /// What it gave, once it has ended.
    ready: Option<VecDeque<RecordBatch>>,
}

/// Where the result of a row is.
#[derive(Clone)]
enum ResultPlace {
    /// In a file.
    Kept(Arc<RecordBatch>, usize),
    /// It will be that of this one of the rows asked for.
    Asked(usize),
}

impl CachedFunction {
    /// `inner`, called `name` for people, whose results are kept as `spec` says.
    pub(crate) fn new(
        inner: Box<dyn BatchFunction>,
        name: &str,
        spec: &CacheSpec,
    ) -> Result<Self, TaskFailure> {
        Ok(Self {
            inner,
            name: name.to_owned(),
            store: ResultStore::open(spec)?,
            calls: VecDeque::new(),
            failed: Vec::new(),
            hits: 0,
            misses: 0,
            last_asked: 0,
        })
    }

    /// Looks rows up.
    fn look_up(&mut self, batch: &RecordBatch) -> Result<CachedCall, TaskFailure> {
        let keys = keys::of_rows(&self.name, batch)?;
        let mut asked = Vec::new();
        let mut results = Vec::with_capacity(keys.len());
        let mut seen: HashMap<Key, usize> = HashMap::new();
        for (row, key) in keys.iter().enumerate() {
            if let Some((kept, at)) = self.store.find(key) {
                results.push(ResultPlace::Kept(kept, at));
                continue;
            }
            let number = *seen.entry(*key).or_insert_with(|| {
                asked.push(row);
                asked.len() - 1
            });
            results.push(ResultPlace::Asked(number));
        }
        self.misses += asked.len() as u64;
        self.hits += (keys.len() - asked.len()) as u64;
        Ok(CachedCall {
            keys,
            results,
            asked,
            ready: None,
        })
    }

    /// All that the function gives for the first call, with what was kept.
    fn collect(&mut self) -> Result<VecDeque<RecordBatch>, TaskFailure> {
        let call = self.calls.front().expect("there is a call under way");
        let (asked, mut made) = (call.asked.len(), Vec::new());
        self.last_asked = asked;
        let outcome = loop {
            if asked == 0 {
                break Ok(());
            }
            match self.inner.next_output() {
                Ok(Some(batch)) => made.push(batch),
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        let lost = if asked == 0 {
            Vec::new()
        } else {
            self.inner.take_failed()?
        };
        let numbers: HashSet<usize> = lost.iter().map(|row| row.position).collect();
        self.failed = failed_rows(&call.results, &lost);
        outcome?;
        let good: Vec<usize> = (0..asked)
            .filter(|number| !numbers.contains(number))
            .collect();
        let rows: usize = made.iter().map(RecordBatch::num_rows).sum();
        if rows != good.len() {
            return Err(TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{}: the function got {} rows and returned {rows}; with cache= it must return one row for one row",
                    self.name,
                    good.len()
                ),
            ));
        }
        let places = self.keep(good, made);
        let call = self.calls.front().expect("it is still there");
        let rows = call.results.iter().filter_map(|found| match found {
            ResultPlace::Kept(batch, row) => Some((Arc::clone(batch), *row)),
            ResultPlace::Asked(number) => places.get(number).cloned(),
        });
        together(&rows.collect::<Vec<_>>(), &self.name)
    }

    /// Keeps what was made of these of the rows asked for; where it is now.
    fn keep(
        &mut self,
        good: Vec<usize>,
        made: Vec<RecordBatch>,
    ) -> HashMap<usize, (Arc<RecordBatch>, usize)> {
        let call = self.calls.front().expect("there is a call under way");
        let mut numbers = good.into_iter();
        let mut places = HashMap::new();
        for batch in made {
            let of_batch: Vec<usize> = numbers.by_ref().take(batch.num_rows()).collect();
            let keys = of_batch.iter().map(|&number| call.keys[call.asked[number]]);
            self.store.keep(keys.collect(), &batch);
            let batch = Arc::new(batch);
            let rows = of_batch.into_iter().enumerate();
            places.extend(rows.map(|(row, number)| (number, (Arc::clone(&batch), row))));
        }
        places
    }
}

impl BatchFunction for CachedFunction {
    fn calls_ahead(&self) -> usize {
        self.inner.calls_ahead()
    }

    fn limits_calls(&self) -> bool {
        self.inner.limits_calls()
    }

    fn is_lazy(&self) -> bool {
        // What a call gives is put together when it has ended.
        false
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let call = self.look_up(&batch)?;
        if !call.asked.is_empty() {
            let rows = call.asked.iter().map(|&row| row as u64);
            let asked = if call.asked.len() == batch.num_rows() {
                batch
            } else {
                take_rows(&batch, &UInt64Array::from_iter_values(rows))
                    .map_err(|error| failed_step(&self.name, &error))?
            };
            self.inner.begin(asked)?;
        }
        self.calls.push_back(call);
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Some(first) = self.calls.front_mut() else {
            return Ok(None);
        };
        if let Some(ready) = &mut first.ready {
            let next = ready.pop_front();
            if next.is_none() {
                self.calls.pop_front();
            }
            return Ok(next);
        }
        let collected = self.collect();
        match collected {
            Ok(mut ready) => {
                let next = ready.pop_front();
                match (&next, self.calls.front_mut()) {
                    (Some(_), Some(first)) => first.ready = Some(ready),
                    _ => drop(self.calls.pop_front()),
                }
                Ok(next)
            }
            Err(failure) => {
                // A call that fails has ended.
                self.calls.pop_front();
                Err(failure)
            }
        }
    }

    fn has_output_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        match self.calls.front() {
            Some(first) if first.ready.is_none() && !first.asked.is_empty() => {
                self.inner.has_output_within(patience)
            }
            _ => Ok(true),
        }
    }

    fn forget_calls(&mut self) {
        self.inner.forget_calls();
        self.calls.clear();
        self.failed.clear();
        self.store.write();
    }

    fn end_input(&mut self) {
        self.store.write();
    }

    fn catch_rows(&mut self) {
        self.inner.catch_rows();
    }

    fn count_tokens(&mut self, batch: RecordBatch) -> Result<Vec<u64>, TaskFailure> {
        self.inner.count_tokens(batch)
    }

    fn free_memory(&mut self) {
        self.inner.free_memory();
    }

    fn take_failed(&mut self) -> Result<Vec<FailedRow>, TaskFailure> {
        Ok(std::mem::take(&mut self.failed))
    }

    fn rows_asked(&self) -> Option<usize> {
        Some(self.last_asked)
    }

    fn take_counts(&mut self) -> FunctionCounts {
        FunctionCounts {
            cache_hits: std::mem::take(&mut self.hits),
            cache_misses: std::mem::take(&mut self.misses),
            ..self.inner.take_counts()
        }
    }
}

/// The rows of the whole batch that have failed with those asked for.
fn failed_rows(results: &[ResultPlace], lost: &[FailedRow]) -> Vec<FailedRow> {
    let lost: HashMap<usize, &FailedRow> = lost.iter().map(|row| (row.position, row)).collect();
    let failed = results
        .iter()
        .enumerate()
        .filter_map(|(position, found)| match found {
            ResultPlace::Asked(number) => lost.get(number).map(|&row| FailedRow {
                position,
                ..row.clone()
            }),
            ResultPlace::Kept(..) => None,
        });
    failed.collect()
}

/// Rows of several batches as one, in this order; where columns differ, as several. They are laid out alike, whichever batches they come
/// from: where blocks are cut follows from that (STG-2).
fn together(
    rows: &[(Arc<RecordBatch>, usize)],
    name: &str,
) -> Result<VecDeque<RecordBatch>, TaskFailure> {
    let mut whole = VecDeque::new();
    for run in rows.chunk_by(|one, next| one.0.schema() == next.0.schema()) {
        let schema = run[0].0.schema();
        if schema.fields().is_empty() {
            whole.push_back(assemble(schema, Vec::new(), run.len())?);
            continue;
        }
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut numbers: HashMap<*const RecordBatch, usize> = HashMap::new();
        let places: Vec<(usize, usize)> = run
            .iter()
            .map(|(batch, row)| {
                let number = *numbers.entry(Arc::as_ptr(batch)).or_insert_with(|| {
                    batches.push(batch);
                    batches.len() - 1
                });
                (number, *row)
            })
            .collect();
        let picked = interleave_record_batch(&batches, &places);
        let alike = picked.and_then(|picked| laid_out(&picked));
        whole.push_back(alike.map_err(|error| failed_step(name, &error))?);
    }
    Ok(whole)
}

/// The same rows as they are when they are read from a file: nulls are marked in columns that have some, and in no others.
fn laid_out(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (schema, batches) =
        block::decode(block::encode(&batch.schema(), std::slice::from_ref(batch))?)?;
    concat_batches(&schema, &batches)
}

fn failed_step(name: &str, error: &dyn std::fmt::Display) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("{name}: put results from its cache together: {error}"),
    )
}

#[cfg(test)]
mod tests;
