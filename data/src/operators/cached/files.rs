//! Results in a folder, two files a part, version 1:
//!
//! - `NAME.arrow`: an Arrow IPC stream with one batch, the results;
//! - `NAME.keys`: whose they are. Numbers are little endian:
//!
//! | bytes | |
//! |---|---|
//! | 8 | `AKTISKEY` |
//! | 4 | the version, 1 |
//! | 4 | the number of rows |
//! | 8 | the length of `NAME.arrow` |
//! | 4 | the CRC-32 of `NAME.arrow` |
//! | 16 each | the keys of the rows, in their order |
//! | 4 | the CRC-32 of all before |
//!
//! The keys are written when the results are whole, both under other names first. Nothing is changed afterwards; parts are merged into
//! another one, and removed then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aktis_common::ids::WorkerId;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;

use super::keys::Key;
use crate::block;

const MAGIC: &[u8; 8] = b"AKTISKEY";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 28;
const KEY_BYTES: usize = 16;

/// A part: what its keys say of its results.
#[derive(Debug, Clone)]
pub(super) struct KeptPart {
    pub(super) results: PathBuf,
    pub(super) bytes: u64,
    crc: u32,
    pub(super) keys: Vec<Key>,
}

/// The name of the file of a part's keys, without the folder.
pub(super) fn is_keys(name: &str) -> bool {
    name.ends_with(".keys")
}

/// Reads the keys of a part; `None`: they are not whole, or of another version (CACHE-2).
pub(super) fn read_keys(path: &Path) -> io::Result<Option<KeptPart>> {
    Ok(parsed(&fs::read(path)?, path))
}

fn parsed(data: &[u8], path: &Path) -> Option<KeptPart> {
    let (said, crc) = data.split_last_chunk::<4>()?;
    if crc32fast::hash(said) != u32::from_le_bytes(*crc) || said.len() < HEAD_BYTES {
        return None;
    }
    let (head, keys) = said.split_at(HEAD_BYTES);
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let rows = usize::try_from(number(12)?).ok()?;
    if &head[..8] != MAGIC || number(8)? != VERSION || keys.len() != rows * KEY_BYTES {
        return None;
    }
    Some(KeptPart {
        results: path.with_extension("arrow"),
        bytes: u64::from_le_bytes(head.get(16..24)?.try_into().ok()?),
        crc: number(24)?,
        keys: keys.as_chunks::<KEY_BYTES>().0.to_vec(),
    })
}

/// Reads the results of a part; `None`: they are gone, or not what its keys say (CACHE-2). Fails where they cannot be read now.
pub(super) fn read_results(part: &KeptPart) -> io::Result<Option<RecordBatch>> {
    let data = match fs::read(&part.results) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        data => data?,
    };
    Ok(results_of(part, data))
}

fn results_of(part: &KeptPart, data: Vec<u8>) -> Option<RecordBatch> {
    if data.len() as u64 != part.bytes || crc32fast::hash(&data) != part.crc {
        return None;
    }
    let (schema, batches) = block::decode(Bytes::from(data)).ok()?;
    let whole = concat_batches(&schema, &batches).ok()?;
    (whole.num_rows() == part.keys.len()).then_some(whole)
}

/// Writes a part.
pub(super) fn write(folder: &Path, keys: Vec<Key>, results: &RecordBatch) -> io::Result<KeptPart> {
    let stream = block::encode(&results.schema(), std::slice::from_ref(results))
        .map_err(io::Error::other)?;
    let path = folder.join(format!("{}.arrow", WorkerId::random()));
    let part = KeptPart {
        results: path.clone(),
        bytes: stream.len() as u64,
        crc: crc32fast::hash(&stream),
        keys,
    };
    let mut said = Vec::with_capacity(HEAD_BYTES + part.keys.len() * KEY_BYTES + 4);
    said.extend_from_slice(MAGIC);
    said.extend_from_slice(&VERSION.to_le_bytes());
    let rows = u32::try_from(part.keys.len()).map_err(io::Error::other)?;
    said.extend_from_slice(&rows.to_le_bytes());
    said.extend_from_slice(&part.bytes.to_le_bytes());
    said.extend_from_slice(&part.crc.to_le_bytes());
    part.keys.iter().for_each(|key| said.extend_from_slice(key));
    let crc = crc32fast::hash(&said);
    said.extend_from_slice(&crc.to_le_bytes());
    let put = put(&path, &stream).and_then(|()| put(&path.with_extension("keys"), &said));
    if let Err(error) = put {
        // On a full disk others need the room.
        remove(&part);
        return Err(error);
    }
    Ok(part)
}

/// Removes a part: whoever has read its keys finds no results, and looks for others.
pub(super) fn remove(part: &KeptPart) {
    for path in [part.results.with_extension("keys"), part.results.clone()] {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(%error, path = %path.display(), "a part of a cache stays");
        }
    }
}

fn put(path: &Path, data: &[u8]) -> io::Result<()> {
    let hidden = path.with_extension("tmp");
    let put = fs::write(&hidden, data).and_then(|()| fs::rename(&hidden, path));
    if put.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    put
}
