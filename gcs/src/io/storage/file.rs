//! Keeps tables in a redb file: one transaction, and one flush to the disk, for each batch of the driver.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Storage, StorageError};
use crate::core::{Row, Table, Write};

/// Tables in a file.
#[derive(Debug)]
pub struct FileStorage {
    database: Arc<Database>,
    path: PathBuf,
}

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Rows {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Nodes => "nodes",
        Table::Jobs => "jobs",
        Table::Actors => "actors",
        Table::KeyValues => "key_values",
    })
}

impl FileStorage {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be made, is no database, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error: &dyn Display| StorageError::Open {
            path: path.to_owned(),
            cause: error.to_string(),
        };
        let database = Database::create(path).map_err(|error| failed(&error))?;
        let storage = Self {
            database: Arc::new(database),
            path: path.to_owned(),
        };
        storage.make_tables().map_err(|error| failed(&error))?;
        Ok(storage)
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        for table in Table::ALL {
            transaction.open_table(definition(table))?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Database calls wait for the disk: not on the runtime's threads.
    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, redb::Error> + Send + 'static,
    ) -> Result<R, StorageError> {
        let database = Arc::clone(&self.database);
        let failed = |cause: String| StorageError::Access {
            path: self.path.clone(),
            cause,
        };
        tokio::task::spawn_blocking(move || work(&database))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
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
