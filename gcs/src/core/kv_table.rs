//! Keys and values of the cluster's processes: exported functions, small shared facts.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The table.
#[derive(Debug, Default)]
pub struct KvTable {
    rows: BTreeMap<Bytes, Bytes>,
}

impl KvTable {
    /// Puts a row; says whether the table changed. Without `overwrite` an existing row stays.
    pub fn put(&mut self, key: Bytes, value: Bytes, overwrite: bool) -> PutOutcome {
        match self.rows.get_mut(&key) {
            Some(_) if !overwrite => PutOutcome::Kept,
            Some(existing) => {
                *existing = value;
                PutOutcome::Replaced
            }
            None => {
                self.rows.insert(key, value);
                PutOutcome::Added
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.rows.get(key).cloned()
    }

    /// Removes a row; says whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        self.rows.remove(key).is_some()
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
