//! The head's file, torn or flipped at every byte: the next head takes up whole transactions, or says which file it is.

#![cfg(test)]

use std::path::Path;

use aktis_gcs::core::{Table, Write};
use aktis_gcs::io::storage::{FileStorage, Storage, StorageError};

/// Rows of transaction `number`, as a head writes them.
fn transaction(number: u64) -> Vec<Write> {
    let write = |table, key: String, value: Option<String>| Write {
        table,
        key: key.into(),
        value: value.map(Into::into),
    };
    vec![
        write(Table::Meta, "number".to_owned(), Some(number.to_string())),
        write(
            Table::KeyValues,
            format!("key {number}"),
            Some(format!("{number:0>64}")),
        ),
        write(
            Table::Actors,
            format!("actor {}", number % 3),
            Some(format!("state {number}")),
        ),
        write(
            Table::KeyValues,
            format!("key {}", number.wrapping_sub(4)),
            None,
        ),
    ]
}

const TRANSACTIONS: u64 = 12;

/// A file after all transactions, as a killed head leaves it: never closed in good order.
async fn killed_file(path: &Path) -> Vec<u8> {
    let mut storage = FileStorage::open(path).unwrap();
    for number in 1..=TRANSACTIONS {
        storage.commit(transaction(number)).await.unwrap();
    }
    // What is in the file while the database is open, is what a kill leaves.
    std::fs::read(path).unwrap()
}

/// What a head finds in a file with these bytes.
async fn reopened(path: &Path, bytes: &[u8]) -> Result<u64, StorageError> {
    std::fs::write(path, bytes).unwrap();
    let mut storage = FileStorage::open(path)?;
    let rows = storage.load().await?;
    let number = rows
        .iter()
        .find(|row| row.table == Table::Meta && row.key == "number");
    let Some(number) = number else {
        assert!(rows.is_empty(), "rows without their transaction: {rows:?}");
        return Ok(0);
    };
    let number: u64 = std::str::from_utf8(&number.value).unwrap().parse().unwrap();
    // Whole transactions: the rows are exactly those of all that came before.
    let mut expected = std::collections::BTreeMap::new();
    for write in (1..=number).flat_map(transaction) {
        match write.value {
            Some(value) => expected.insert((write.table, write.key), value),
            None => expected.remove(&(write.table, write.key)),
        };
    }
    let found = rows
        .into_iter()
        .map(|row| ((row.table, row.key), row.value))
        .collect();
    assert_eq!(expected, found);
    Ok(number)
}

/// Errors name the file.
fn check(outcome: Result<u64, StorageError>, path: &Path) -> Option<u64> {
    match outcome {
        Ok(number) => Some(number),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            None
        }
    }
}

/// Places to look at: all of them where bytes differ from a run of zeros, the rest by steps.
fn places(bytes: &[u8], step: usize) -> Vec<usize> {
    let is_worth_it = |at: &usize| bytes[*at] != 0 || at.is_multiple_of(4096);
    (0..bytes.len()).filter(is_worth_it).step_by(step).collect()
}

fn step() -> usize {
    // `make soak` looks at every byte.
    let every = std::env::var_os("AKTIS_CLUSTER_SEEDS").is_some();
    if every { 1 } else { 197 }
}

async fn each_place(change: impl Fn(&[u8], usize) -> Vec<u8>) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables.redb");
    let whole = killed_file(&path).await;
    let torn = folder.path().join("torn.redb");
    let (mut recovered, mut refused) = (0, 0);
    for at in places(&whole, step()) {
        let bytes = change(&whole, at);
        match check(reopened(&torn, &bytes).await, &torn) {
            Some(_) => recovered += 1,
            None => refused += 1,
        }
    }
    (recovered, refused)
}

#[tokio::test]
async fn file_of_a_killed_head_has_all_that_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables.redb");
    let bytes = killed_file(&path).await;
    let copy = folder.path().join("copy.redb");
    assert_eq!(reopened(&copy, &bytes).await.unwrap(), TRANSACTIONS);
}

#[tokio::test]
async fn file_cut_off_anywhere_is_taken_up_or_named() {
    let (recovered, refused) = each_place(|whole, at| whole[..at].to_vec()).await;
    assert!(recovered + refused > 0);
}

#[tokio::test]
async fn file_with_zeros_from_anywhere_is_taken_up_or_named() {
    let zeros = |whole: &[u8], at: usize| {
        let mut bytes = whole[..at].to_vec();
        bytes.resize(whole.len(), 0);
        bytes
    };
    let (recovered, refused) = each_place(zeros).await;
    assert!(recovered + refused > 0);
}

#[tokio::test]
async fn file_with_a_flipped_byte_anywhere_is_taken_up_or_named() {
    let flip = |whole: &[u8], at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x41;
        bytes
    };
    let (recovered, refused) = each_place(flip).await;
    assert!(recovered > 0 && refused > 0, "{recovered} {refused}");
}

/// The file before and after its last transaction, equally long.
async fn before_and_after(path: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut storage = FileStorage::open(path).unwrap();
    for number in 1..TRANSACTIONS {
        storage.commit(transaction(number)).await.unwrap();
    }
    let mut before = std::fs::read(path).unwrap();
    storage.commit(transaction(TRANSACTIONS)).await.unwrap();
    let after = std::fs::read(path).unwrap();
    before.resize(after.len(), 0);
    (before, after)
}

/// A transaction is on its way to the disk, in either order, and the machine stops: what was kept before is there, with the
/// transaction or without it.
#[tokio::test]
async fn write_that_was_torn_at_any_byte_is_done_or_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = before_and_after(&folder.path().join("tables.redb")).await;
    let torn = folder.path().join("torn.redb");
    let is_written = |at: &usize| before[*at] != after[*at];
    let places: Vec<usize> = (0..after.len())
        .filter(is_written)
        .step_by(step())
        .collect();
    let mut done = 0;
    for at in &places {
        for (first, second) in [(&after, &before), (&before, &after)] {
            let bytes = [&first[..*at], &second[*at..]].concat();
            let number = reopened(&torn, &bytes).await.unwrap();
            assert!(
                number == TRANSACTIONS - 1 || number == TRANSACTIONS,
                "{number}, torn at {at}"
            );
            done += u64::from(number == TRANSACTIONS);
        }
    }
    let tries = 2 * places.len() as u64;
    assert!(done > 0 && done < tries, "{done} of {tries}");
}
