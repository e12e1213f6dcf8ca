//! Keeps tables in a redb file: one transaction, and one flush to the disk, for each batch of the loop.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Storage, StorageError};
use crate::core::{Row, Table, Write};

/// Tables in a file.
#[derive(Debug)]
pub struct FileStorage {
    /// Nothing after a failure: the database refuses everything then until it is opened again.
    database: Arc<Mutex<Option<Database>>>,
    path: PathBuf,
}

/// How long a head waits for the one before it, which ends a moment after its port is free and its folder gone; so does a child
/// that it has just forked, and that shares its lock.
const HANDOVER: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Rows {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Nodes => "nodes",
        Table::Jobs => "jobs",
        Table::Actors => "actors",
        Table::KeyValues => "key_values",
        Table::KeyJobs => "key_jobs",
    })
}

impl FileStorage {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be made, is no database, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let database = open(path).map_err(|error| StorageError::Open {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Self {
            database: Arc::new(Mutex::new(Some(database))),
            path: path.to_owned(),
        })
    }

    /// Database calls wait for the disk: not on the runtime's threads.
    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, redb::Error> + Send + 'static,
    ) -> Result<R, StorageError> {
        let database = Arc::clone(&self.database);
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut slot = database.lock().unwrap_or_else(PoisonError::into_inner);
            // Taken out, so that a failure, or a panic, leaves nothing that was in the middle of something.
            let database = match slot.take() {
                Some(database) => database,
                None => open(&path)?,
            };
            let result = work(&database)?;
            *slot = Some(database);
            Ok(result)
        });
        let path = self.path.clone();
        match done.await {
            Ok(result) => result.map_err(|error| failed(path, &error)),
            Err(error) => Err(StorageError::Access {
                path,
                cause: error.to_string(),
            }),
        }
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    let database = when_let_go(|| Database::create(path))?;
    // The tables hold what users put there, and maybe a token.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(definition(table))?;
    }
    transaction.commit()?;
    Ok(database)
}

/// Opens what another process may be about to let go of.
fn when_let_go(
    open: impl Fn() -> Result<Database, DatabaseError>,
) -> Result<Database, DatabaseError> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match open() {
            Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < deadline => {
                std::thread::sleep(LOOK_AGAIN);
            }
            opened => return opened,
        }
    }
}

/// Removes the tables in a file, damaged ones too; nothing if there are none.
///
/// # Errors
/// When a running head has them open, or the file cannot be removed.
pub fn forget_tables(path: &Path) -> Result<(), StorageError> {
    let failed = |cause: String| StorageError::Open {
        path: path.to_owned(),
        cause,
    };
    if !path.exists() {
        return Ok(());
    }
    let opened = when_let_go(|| Database::open(path));
    if let Err(error @ DatabaseError::DatabaseAlreadyOpen) = opened {
        return Err(failed(error.to_string()));
    }
    std::fs::remove_file(path).map_err(|error| failed(error.to_string()))
}

fn failed(path: PathBuf, error: &redb::Error) -> StorageError {
    let cause = error.to_string();
    let full = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::FileTooLarge,
    ];
    match error {
        redb::Error::Io(error) if full.contains(&error.kind()) => {
            StorageError::Full { path, cause }
        }
        _ => StorageError::Access { path, cause },
    }
}

#[async_trait]
impl Storage for FileStorage {
    fn name(&self) -> String {
        format!("file {}", self.path.display())
    }

    async fn load(&mut self) -> Result<Vec<Row>, StorageError> {
        self.run(|database| {
            let transaction = database.begin_read()?;
            let mut rows = Vec::new();
            for table in Table::ALL {
                for entry in transaction.open_table(definition(table))?.iter()? {
                    let (key, value) = entry?;
                    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                    rows.push(Row {
                        table,
                        key: copy(key.value()),
                        value: copy(value.value()),
                    });
                }
            }
            Ok(rows)
        })
        .await
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StorageError> {
        self.run(move |database| {
            let transaction = database.begin_write()?;
            for Write { table, key, value } in &writes {
                let mut rows = transaction.open_table(definition(*table))?;
                match value {
                    Some(value) => rows.insert(key.as_ref(), value.as_ref())?,
                    None => rows.remove(key.as_ref())?,
                };
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }
}
