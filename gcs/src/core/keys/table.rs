//! Keys and values of the cluster's processes: exported functions, small shared facts.
//!
//! - `KV-1 (rows-end-with-their-jobs)`: a row that jobs put goes with the last of them that anybody needs. One that was put on
//!   behalf of no job stays until it is deleted.

use std::collections::{BTreeMap, BTreeSet};

use aktis_common::ids::JobId;
use bytes::Bytes;

/// The table.
#[derive(Debug, Default)]
pub struct KvTable {
    rows: BTreeMap<Bytes, KvRow>,
}

/// A value, and the jobs that put it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvRow {
    /// The value.
    pub value: Bytes,
    /// Nobody's: then it stays.
    pub jobs: BTreeSet<JobId>,
}

impl KvTable {
    /// Puts a row; says whether the table changed. Without `overwrite` an existing row stays.
    pub fn put(&mut self, key: Bytes, value: Bytes, overwrite: bool) -> PutOutcome {
        match self.rows.get_mut(&key) {
            Some(_) if !overwrite => PutOutcome::Kept,
            Some(existing) => {
                existing.value = value;
                PutOutcome::Replaced
            }
            None => {
                let jobs = BTreeSet::new();
                self.rows.insert(key, KvRow { value, jobs });
                PutOutcome::Added
            }
        }
    }

    /// A job needs the row; says whether that is news. A row that had been nobody's when it was found stays nobody's.
    pub fn claim(&mut self, key: &[u8], job: JobId) -> bool {
        let row = self.rows.get_mut(key);
        row.is_some_and(|row| row.jobs.insert(job))
    }

    /// The job needs nothing any more: gives its keys, each with whether the row went (`KV-1`).
    pub fn release(&mut self, job: JobId) -> Vec<(Bytes, bool)> {
        let mut released = Vec::new();
        self.rows.retain(|key, row| {
            if !row.jobs.remove(&job) {
                return true;
            }
            let is_gone = row.jobs.is_empty();
            released.push((key.clone(), is_gone));
            !is_gone
        });
        released
    }

    /// The jobs that put something.
    pub fn jobs(&self) -> BTreeSet<JobId> {
        let rows = self.rows.values();
        rows.flat_map(|row| row.jobs.iter().copied()).collect()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.rows.get(key).map(|row| row.value.clone())
    }

    /// The whole row.
    pub fn row(&self, key: &[u8]) -> Option<&KvRow> {
        self.rows.get(key)
    }

    /// Makes the row what it was.
    pub fn put_back(&mut self, key: Bytes, row: Option<KvRow>) {
        match row {
            Some(row) => {
                self.rows.insert(key, row);
            }
            None => {
                self.rows.remove(&key);
            }
        }
    }

    /// Removes a row; gives it if it was there.
    pub fn delete(&mut self, key: &[u8]) -> Option<KvRow> {
        self.rows.remove(key)
    }

    /// All keys that begin with `prefix`, in order.
    pub fn keys(&self, prefix: &Bytes) -> Vec<Bytes> {
        let from = self.rows.range(prefix.clone()..);
        from.map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The key is new.
    Added,
    /// The key had another value.
    Replaced,
    /// The key has a value, which stays.
    Kept,
}
