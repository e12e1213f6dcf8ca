//! Keeps tables as long as the process lives.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Storage, StorageError};
use crate::core::{Row, Table, Write};

/// Tables in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    rows: BTreeMap<(Table, Bytes), Bytes>,
    is_recording: bool,
}

impl MemoryStorage {
    /// A storage that really keeps rows, for tests: the default one, which nobody can read again, keeps none.
    #[cfg(test)]
    pub(crate) fn recording() -> Self {
        Self {
            rows: BTreeMap::new(),
            is_recording: true,
        }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    async fn load(&mut self) -> Result<Vec<Row>, StorageError> {
        let row = |((table, key), value): (&(Table, Bytes), &Bytes)| Row {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        };
        Ok(self.rows.iter().map(row).collect())
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StorageError> {
        if !self.is_recording {
            return Ok(());
        }
        for Write { table, key, value } in writes {
            match value {
                Some(value) => self.rows.insert((table, key), value),
                None => self.rows.remove(&(table, key)),
            };
        }
        Ok(())
    }
}
