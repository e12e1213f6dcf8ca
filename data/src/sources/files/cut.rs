//! From the sizes of files to splits. How many workers there are plays no part: the same files are cut in the same way.

use super::SourceFile;
use super::part::FileRange;
use crate::sources::SplitOptions;

/// As many splits as files are put together or cut into, if these are not too small or too large.
const SPLITS: u64 = 256;
/// The largest.
const MAX_SPLIT_BYTES: u64 = 64 << 20;
/// The smallest where a function runs over the rows, which may take any time.
const MIN_MAPPED_BYTES: u64 = 64 << 10;
/// The smallest where none does; and no file is cut into smaller parts, as each costs a look at its beginning.
const MIN_SPLIT_BYTES: u64 = 1 << 20;
/// What it costs to open a file, as bytes that could be read meanwhile.
const FILE_BYTES: u64 = 16 << 10;
/// What a row has at least, where nobody knows: a function that wants many rows at once gets about as many.
const ROW_BYTES: u64 = 256;

/// The splits, with their rows as far as they are known. A split of files whose rows are known has all rows of a batch.
pub(super) fn cut(
    files: &[SourceFile],
    rows_per_file: Option<u64>,
    row_limit: u64,
    options: SplitOptions,
) -> Vec<(Vec<FileRange>, u64)> {
    let total = files.iter().map(weight).sum();
    let target = target(total, rows_per_file.is_some(), options);
    let least_part = match options.parts {
        Some(_) => target,
        None => target.max(MIN_SPLIT_BYTES),
    };
    let all_rows = rows_per_file.unwrap_or(0) * files.len() as u64;
    let unit = options.batch_rows.unwrap_or(1).max(1);
    let window = options.window_rows.min(all_rows.div_ceil(4));
    let mut current = Current::default();
    let mut splits = Vec::new();
    let mut rows_left = row_limit;
    for file in files {
        if rows_left == 0 {
            break;
        }
        let rows = rows_per_file.unwrap_or(0);
        if rows_per_file.is_some() {
            rows_left = rows_left.saturating_sub(rows);
        }
        for part in parts_of(file, least_part) {
            current.bytes += FILE_BYTES + part.end - part.start;
            current.rows += rows;
            current.parts.push(part);
            let has_whole_batches =
                rows_per_file.is_none() || (current.rows % unit == 0 && current.rows >= window);
            if current.bytes >= target && has_whole_batches {
                splits.push(current.take());
            }
        }
    }
    if !current.parts.is_empty() {
        splits.push(current.take());
    }
    splits
}

fn weight(file: &SourceFile) -> u64 {
    file.file.size_bytes + FILE_BYTES
}

/// Bytes that a split should have.
fn target(total: u64, knows_rows: bool, options: SplitOptions) -> u64 {
    if let Some(parts) = options.parts {
        return total.div_ceil(parts.max(1)).max(1);
    }
    let least = if options.work.is_unknown() {
        MIN_MAPPED_BYTES
    } else {
        MIN_SPLIT_BYTES
    };
    let batch = if knows_rows {
        0
    } else {
        options.batch_rows.unwrap_or(0).saturating_mul(ROW_BYTES)
    };
    (total / SPLITS).max(least).max(batch).min(MAX_SPLIT_BYTES)
}

/// The file in parts of about so many bytes, or as a whole.
fn parts_of(file: &SourceFile, bytes: u64) -> impl Iterator<Item = FileRange> + '_ {
    let size = file.file.size_bytes;
    let count = if file.has_parts {
        (size.saturating_add(bytes / 2) / bytes).max(1)
    } else {
        1
    };
    let end_of = move |part: u64| {
        let end = u128::from(size) * u128::from(part) / u128::from(count);
        u64::try_from(end).expect("no part ends behind its file")
    };
    (0..count).map(move |part| FileRange {
        path: file.file.path.clone(),
        size_bytes: size,
        start: end_of(part),
        end: end_of(part + 1),
        version: file.file.version,
    })
}

/// The split that is being put together.
#[derive(Default)]
struct Current {
    parts: Vec<FileRange>,
    bytes: u64,
    rows: u64,
}

impl Current {
    fn take(&mut self) -> (Vec<FileRange>, u64) {
        let Self { parts, rows, .. } = std::mem::take(self);
        (parts, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::RowWork;
    use crate::storage::DataFile;

    const MIB: u64 = 1 << 20;

    fn files(count: usize, size_bytes: u64, has_parts: bool) -> Vec<SourceFile> {
        let file = |number| SourceFile {
            file: DataFile {
                path: format!("/in/{number:06}"),
                size_bytes,
                version: 0,
            },
            has_parts,
        };
        (0..count).map(file).collect()
    }

    fn options() -> SplitOptions {
        SplitOptions {
            workers: 2,
            batch_rows: None,
            window_rows: 0,
            work: RowWork::Function,
            parts: None,
            is_spread: false,
        }
    }

    /// Every byte of every file is in one part, in order.
    fn assert_whole(files: &[SourceFile], splits: &[(Vec<FileRange>, u64)]) {
        let mut parts = splits.iter().flat_map(|(parts, _)| parts).peekable();
        for SourceFile { file, .. } in files {
            let mut next = 0;
            while let Some(part) = parts.next_if(|part| part.path == file.path) {
                assert_eq!((part.start, part.size_bytes), (next, file.size_bytes));
                next = part.end;
            }
            assert_eq!(next, file.size_bytes);
        }
        assert!(parts.next().is_none());
    }

    #[test]
    fn large_file_is_cut_and_one_that_cannot_be_is_not() {
        let (huge, whole) = (files(1, 1000 * MIB, true), files(1, 1000 * MIB, false));
        let splits = cut(&huge, None, u64::MAX, options());
        assert_whole(&huge, &splits);
        assert_eq!(splits.len(), 256);
        let splits = cut(&whole, None, u64::MAX, options());
        assert_whole(&whole, &splits);
        assert_eq!(splits.len(), 1);
    }

    #[test]
    fn workers_play_no_part() {
        let many = files(1000, 3 * MIB, true);
        let of = |workers| {
            let options = SplitOptions {
                workers,
                ..options()
            };
            cut(&many, None, u64::MAX, options)
        };
        assert_eq!(of(1), of(1000));
        assert_whole(&many, &of(1));
    }

    #[test]
    fn small_files_are_put_together_but_not_all_of_them_where_a_function_runs() {
        let small = files(5000, 10_000, false);
        let splits = cut(&small, None, u64::MAX, options());
        assert_whole(&small, &splits);
        assert!((128..=256).contains(&splits.len()), "{}", splits.len());
        let few = files(12, 10_000, false);
        let mapped = cut(&few, None, u64::MAX, options()).len();
        assert!((3..=12).contains(&mapped), "{mapped}");
        let plain = SplitOptions {
            work: RowWork::Reading,
            ..options()
        };
        assert_eq!(cut(&few, None, u64::MAX, plain).len(), 1);
    }

    #[test]
    fn splits_have_whole_batches_where_rows_are_known() {
        let images = files(1000, 30_000, false);
        let batches = SplitOptions {
            batch_rows: Some(32),
            ..options()
        };
        let splits = cut(&images, Some(1), u64::MAX, batches);
        assert_whole(&images, &splits);
        let (_, whole) = splits.split_last().expect("there are some");
        assert!(whole.iter().all(|(_, rows)| rows % 32 == 0));
        assert_eq!(splits.iter().map(|(_, rows)| rows).sum::<u64>(), 1000);
    }

    #[test]
    fn number_of_parts_can_be_asked_for_and_rows_be_limited() {
        let one = files(1, 100_000, true);
        let four = SplitOptions {
            parts: Some(4),
            ..options()
        };
        let splits = cut(&one, None, u64::MAX, four);
        assert_whole(&one, &splits);
        assert!((3..=5).contains(&splits.len()), "{}", splits.len());
        let limited = cut(&files(1000, 10, false), Some(1), 5, options());
        assert_eq!(limited.iter().map(|(_, rows)| rows).sum::<u64>(), 5);
    }

    #[test]
    fn empty_files_are_parts_too() {
        let empty = files(3, 0, true);
        let splits = cut(&empty, None, u64::MAX, options());
        assert_eq!(
            splits.iter().map(|(parts, _)| parts.len()).sum::<usize>(),
            3
        );
        assert!(cut(&[], None, u64::MAX, options()).is_empty());
    }
}
