//! One suite for all backends.

use bytes::Bytes;

use super::*;
use crate::core::Table;

fn write(table: Table, key: &'static str, value: Option<&'static str>) -> Write {
    Write {
        table,
        key: Bytes::from(key),
        value: value.map(Bytes::from),
    }
}

async fn conforms(storage: &mut dyn Storage) {
    assert!(storage.load().await.unwrap().is_empty());
    let first = vec![
        write(Table::Jobs, "a", Some("1")),
        write(Table::Actors, "a", Some("2")),
        write(Table::Jobs, "b", Some("3")),
    ];
    storage.commit(first).await.unwrap();
    // Later changes of the same row win, also within one batch.
    let second = vec![
        write(Table::Jobs, "a", Some("4")),
        write(Table::Jobs, "a", Some("5")),
        write(Table::Jobs, "b", None),
        write(Table::Nodes, "never", None),
    ];
    storage.commit(second).await.unwrap();
    let mut rows: Vec<(Table, Bytes)> = storage
        .load()
        .await
        .unwrap()
        .into_iter()
        .map(|row| (row.table, row.value))
        .collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            (Table::Jobs, Bytes::from("5")),
            (Table::Actors, Bytes::from("2"))
        ]
    );
}

#[tokio::test]
async fn memory_storage_conforms() {
    conforms(&mut MemoryStorage::recording()).await;
}

#[test]
fn head_waits_for_the_one_before_it_to_let_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gcs.redb");
    let first = FileStorage::open(&path).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| FileStorage::open(&path));
        // Not waited for: the second may come at any moment of this.
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[tokio::test]
async fn file_storage_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&mut FileStorage::open(&folder.path().join("gcs.redb")).unwrap()).await;
}

#[tokio::test]
async fn file_storage_keeps_rows_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gcs.redb");
    let mut storage = FileStorage::open(&path).unwrap();
    storage
        .commit(vec![write(Table::Meta, "k", Some("v"))])
        .await
        .unwrap();
    drop(storage);
    let rows = FileStorage::open(&path).unwrap().load().await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn file_that_is_no_database_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gcs.redb");
    std::fs::write(
        &path,
        "not a database, but long enough to look at".repeat(100),
    )
    .unwrap();
    let error = FileStorage::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("gcs.redb") && error.contains("--fresh"),
        "{error}"
    );
}
