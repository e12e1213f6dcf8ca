//! Many small parts made few: a worker writes one each second, and each is looked at when a function is loaded.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use rustix::fs::{FlockOperation, flock};

use super::files::{self, KeptPart};

/// So many small parts are merged.
pub(super) const MANY: usize = 64;
/// A part that is not small.
const LARGE_BYTES: u64 = 4 << 20;
/// What writers that have died leave is old by then.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// Merges parts, if there are many small ones and nobody else does.
pub(super) fn run(folder: &Path) {
    if small_parts(folder).len() < MANY {
        return;
    }
    let lock = File::create(folder.join("lock"));
    let Ok(lock) = lock else {
        return;
    };
    // It goes with the file, whatever ends this process.
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    remove_leftovers(folder);
    let mut forms: Vec<Vec<(KeptPart, RecordBatch)>> = Vec::new();
    for part in small_parts(folder) {
        let results = match files::read_results(&part) {
            Ok(Some(results)) => results,
            Ok(None) => {
                files::remove(&part);
                continue;
            }
            // It may be read another time: what was asked for it is not made again for nothing.
            Err(error) => {
                tracing::warn!(%error, path = %part.results.display(), "results of a cache cannot be read");
                continue;
            }
        };
        let form = forms
            .iter_mut()
            .find(|form| form[0].1.schema() == results.schema());
        match form {
            Some(form) => form.push((part, results)),
            None => forms.push(vec![(part, results)]),
        }
    }
    for form in forms {
        let mut merged: Vec<(KeptPart, RecordBatch)> = Vec::new();
        for one in form {
            merged.push(one);
            let bytes: u64 = merged.iter().map(|one| one.0.bytes).sum();
            if bytes >= LARGE_BYTES {
                merge(folder, std::mem::take(&mut merged));
            }
        }
        merge(folder, merged);
    }
}

fn merge(folder: &Path, parts: Vec<(KeptPart, RecordBatch)>) {
    if parts.len() < 2 {
        return;
    }
    let batches: Vec<&RecordBatch> = parts.iter().map(|part| &part.1).collect();
    let keys = parts.iter().flat_map(|part| part.0.keys.iter().copied());
    let whole = concat_batches(&batches[0].schema(), batches);
    let written = whole.map(|whole| files::write(folder, keys.collect(), &whole));
    match written {
        Ok(Ok(_)) => parts.iter().for_each(|part| files::remove(&part.0)),
        _ => tracing::warn!(folder = %folder.display(), "parts of a cache could not be merged"),
    }
}

fn small_parts(folder: &Path) -> Vec<KeptPart> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let keys = entries
        .flatten()
        .filter(|entry| files::is_keys(&entry.file_name().to_string_lossy()));
    let parts = keys.filter_map(|entry| files::read_keys(&entry.path()).ok().flatten());
    parts.filter(|part| part.bytes < LARGE_BYTES).collect()
}

/// Results without keys, and what was not finished: of writers that have died.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|known| known.modified()).ok();
        let is_old = age
            .and_then(|age| age.elapsed().ok())
            .is_some_and(|age| age > OLD);
        let is_alone = match path.extension().and_then(|name| name.to_str()) {
            Some("tmp") => true,
            Some("arrow") => !path.with_extension("keys").exists(),
            _ => false,
        };
        if is_old
            && is_alone
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::debug!(%error, path = %path.display(), "a leftover of a cache stays");
        }
    }
}
