//! The disk under the head's tables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aktis_gcs::core::{Row, Table, Write};
use aktis_gcs::io::storage::{FileStorage, Storage, StorageError};
use async_trait::async_trait;
use bytes::Bytes;

/// What lies on it, and how it does. Cheap to clone; outlives the heads that use it.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<(Table, Bytes), Bytes>,
    is_full: bool,
    delay: Duration,
    /// Heads that may write: a crashed one is behind this.
    opened: u64,
}

impl Disk {
    /// From now on there is no room, or room again.
    pub fn set_full(&self, is_full: bool) {
        self.state.lock().unwrap().is_full = is_full;
    }

    /// Every flush takes so long.
    pub fn set_delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// The head that has it open writes nothing any more: its process is gone.
    pub fn cut_off(&self) {
        self.state.lock().unwrap().opened += 1;
    }

    /// A storage for a new head.
    pub fn open(&self) -> Box<dyn Storage> {
        let mut state = self.state.lock().unwrap();
        state.opened += 1;
        Box::new(OnDisk {
            disk: self.clone(),
            opened: state.opened,
        })
    }
}

struct OnDisk {
    disk: Disk,
    opened: u64,
}

#[async_trait]
impl Storage for OnDisk {
    fn name(&self) -> String {
        "a disk in the test's hands".to_owned()
    }

    async fn load(&mut self) -> Result<Vec<Row>, StorageError> {
        let state = self.disk.state.lock().unwrap();
        let row = |((table, key), value): (&(Table, Bytes), &Bytes)| Row {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        };
        Ok(state.rows.iter().map(row).collect())
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StorageError> {
        let delay = self.disk.state.lock().unwrap().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.disk.state.lock().unwrap().opened != self.opened {
            // A process that was killed in here never comes out.
            std::future::pending::<()>().await;
        }
        let mut state = self.disk.state.lock().unwrap();
        if state.is_full {
            return Err(StorageError::Access {
                path: PathBuf::from("tables"),
                cause: "No space left on device".to_owned(),
            });
        }
        for Write { table, key, value } in writes {
            match value {
                Some(value) => state.rows.insert((table, key), value),
                None => state.rows.remove(&(table, key)),
            };
        }
        Ok(())
    }
}

/// The real file.
pub struct InFile(pub FileStorage);

#[async_trait]
impl Storage for InFile {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn load(&mut self) -> Result<Vec<Row>, StorageError> {
        self.0.load().await
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StorageError> {
        self.0.commit(writes).await
    }
}
