//! Keeps the changes of the tables, also through times in which the storage takes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::core::{Table, Write};
use crate::inbox::NotKept;
use crate::io::storage::{Storage, StorageError};

/// How soon a storage that failed is tried again when nobody is waiting for it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The storage, and what it has not taken yet.
pub(crate) struct Keeper {
    storage: Box<dyn Storage>,
    /// Rows as they ought to be, by table and key: no more than the tables have.
    owed: BTreeMap<(Table, Bytes), Option<Bytes>>,
    last_failure: Option<(Instant, NotKept)>,
}

impl Keeper {
    pub(crate) fn new(storage: Box<dyn Storage>) -> Self {
        Self {
            storage,
            owed: BTreeMap::new(),
            last_failure: None,
        }
    }

    /// Keeps these changes, and what is owed before them. `is_promise`: somebody waits to hear that they are kept; else the
    /// storage is spared for a moment after a failure.
    ///
    /// # Errors
    /// When the storage does not take them: they are owed then.
    pub(crate) async fn keep(
        &mut self,
        writes: Vec<Write>,
        is_promise: bool,
    ) -> Result<(), NotKept> {
        if self.last_failure.is_none() {
            if writes.is_empty() {
                return Ok(());
            }
            // Cheap: keys and values are counted references.
            return match self.storage.commit(writes.clone()).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.owe(writes);
                    Err(self.failed(error))
                }
            };
        }
        self.owe(writes);
        if let Some((at, error)) = &self.last_failure
            && !is_promise
            && at.elapsed() < RETRY_PAUSE
        {
            return Err(Arc::clone(error));
        }
        let owed = self.owed.iter().map(|((table, key), value)| Write {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        });
        match self.storage.commit(owed.collect()).await {
            Ok(()) => {
                tracing::warn!("the head's storage takes changes again");
                self.owed.clear();
                self.last_failure = None;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Rows are not to be what was asked: `right` knows what they ought to be.
    pub(crate) fn correct(
        &mut self,
        right: impl Fn(Table, &Bytes, Option<Bytes>) -> Option<Bytes>,
    ) {
        for ((table, key), value) in &mut self.owed {
            *value = right(*table, key, value.take());
        }
    }

    /// Whether the storage is behind.
    pub(crate) fn is_behind(&self) -> bool {
        self.last_failure.is_some()
    }

    fn owe(&mut self, writes: Vec<Write>) {
        for Write { table, key, value } in writes {
            self.owed.insert((table, key), value);
        }
    }

    fn failed(&mut self, error: StorageError) -> NotKept {
        if self.last_failure.is_none() {
            tracing::error!(%error, "new actors and values are refused until the head's storage takes changes again");
        }
        let error = Arc::new(error);
        self.last_failure = Some((Instant::now(), Arc::clone(&error)));
        error
    }
}
