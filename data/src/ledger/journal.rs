//! Journals: the rows of an input that is not done yet, as they are made.
//!
//! ```text
//!  <attempt>-<input>.journal
//!    Head       from which place in the input on; of a job of several stages also what the input's rows are made of
//!    Written    rows, and the place up to which they are all there is
//!    Written    ...
//! ```
//! A place counts the rows that came to the first function of the job. Whoever takes the input up writes the rows of its journals,
//! passes over as many rows before the first function, and calls no function twice. Frames have checksums ([`frames`]), so that a
//! journal needs no sync: what the disk has lost of it was never written.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use bytes::Bytes;
use prost::{Message, Oneof};

use super::frames;
use super::spans::{SourceRange, Span, Spans};
use crate::block;

const ENDING: &str = ".journal";

/// One entry.
#[derive(Clone, PartialEq, Message)]
struct JournalRecord {
    #[prost(oneof = "JournalEntry", tags = "1, 2")]
    entry: Option<JournalEntry>,
}

#[derive(Clone, PartialEq, Oneof)]
enum JournalEntry {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Written(WrittenRows),
}

/// Always the first.
#[derive(Clone, PartialEq, Message)]
struct Head {
    /// The place that it goes on from.
    #[prost(uint64, tag = "1")]
    from: u64,
    /// What the rows of the input are made of, if it is none of the source's.
    #[prost(message, optional, tag = "2")]
    spans: Option<Spans>,
}

/// Rows that are there.
#[derive(Clone, PartialEq, Message)]
struct WrittenRows {
    /// The place up to which these and the rows before them are all there is.
    #[prost(uint64, tag = "1")]
    to: u64,
    /// Arrow streams: one for rows with the same columns.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    rows: Vec<Bytes>,
}

/// A part of a journal that counts.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JournalPart {
    /// Where it lies.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The place up to which it is read.
    #[prost(uint64, tag = "2")]
    pub to: u64,
}

/// Whether a file in a job's folder is a journal.
pub(super) fn is_journal(name: &str) -> bool {
    input_of(name).is_some()
}

/// Which input a journal is of; `None`: it is none.
pub(super) fn input_of(name: &str) -> Option<u64> {
    let (_, input) = name.strip_suffix(ENDING)?.split_once('-')?;
    input.parse().ok()
}

/// The path of the journal of an attempt.
pub(crate) fn path_of(job: &Path, attempt: u64, input: u64) -> PathBuf {
    job.join(format!("{attempt}-{input}{ENDING}"))
}

/// Whether a journal is of an input of a later stage than the first.
pub(super) fn has_spans(path: &Path) -> bool {
    read(path).is_ok_and(|(head, _)| head.spans.is_some())
}

/// Rows of an input that nobody takes up as it was: what is noted of them is written as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// The number of the output that they would have been part of, and now are.
    pub(crate) number: u64,
    pub(crate) parts: Vec<JournalPart>,
    /// The rows before those of `rest`, and what they are made of.
    pub(crate) whole: Span,
    /// Then the first rows of a span, of which the others are to be made again.
    pub(crate) rest: Option<Span>,
}

/// What the journals of this input are good for by themselves: rows that are all that becomes of rows of the source, none of which are
/// among those that are done, and the first ones of what becomes of others, where a stage of so many steps makes them again. `is_free`:
/// whether they are not done.
pub(super) fn salvage(
    job: &Path,
    number: u64,
    steps: Option<u32>,
    is_free: impl Fn(&SourceRange) -> bool,
) -> Option<Salvaged> {
    let (parts, end) = chain(job, number);
    let (head, _) = read(Path::new(&parts.first()?.path)).ok()?;
    let Some(Spans {
        spans,
        steps: made_by,
    }) = head.spans
    else {
        // An input of the source, whose rows it counts.
        let (input, from, to) = (number, 0, end);
        let ranges = vec![SourceRange { input, from, to }];
        return ranges.iter().all(is_free).then_some(Salvaged {
            number,
            parts,
            whole: Span { rows: 0, ranges },
            rest: None,
        });
    };
    let is_repeatable = steps.is_some() && steps == made_by;
    let mut whole = Span::default();
    let mut best = None;
    for span in spans {
        if !span.ranges.iter().all(&is_free) {
            break;
        }
        if whole.rows + span.rows > end {
            let rows = end - whole.rows;
            let rest = (is_repeatable && rows > 0).then_some(Span { rows, ..span });
            if rest.is_some() {
                best = Some(Salvaged {
                    number,
                    parts,
                    whole,
                    rest,
                });
            }
            break;
        }
        whole.rows += span.rows;
        whole.ranges.extend(span.ranges);
        if let Some(parts) = up_to(&parts, whole.rows) {
            best = Some(Salvaged {
                number,
                parts,
                whole: whole.clone(),
                rest: None,
            });
        }
    }
    best
}

/// The parts of a chain before a place, if something was noted just there.
fn up_to(parts: &[JournalPart], place: u64) -> Option<Vec<JournalPart>> {
    let last = parts.iter().position(|part| part.to >= place)?;
    let (_, written) = read(Path::new(&parts[last].path)).ok()?;
    let is_noted = written.iter().any(|written| written.to == place);
    let part = JournalPart {
        path: parts[last].path.clone(),
        to: place,
    };
    is_noted.then(|| [&parts[..last], &[part]].concat())
}

/// Removes the journals of inputs that are done.
pub(super) fn remove(job: &Path, inputs: &HashSet<u64>) {
    let Ok(entries) = fs::read_dir(job) else {
        return;
    };
    for entry in entries.flatten() {
        let input = input_of(&entry.file_name().to_string_lossy());
        if input.is_some_and(|input| inputs.contains(&input))
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(%error, path = %entry.path().display(), "a journal goes with its folder");
        }
    }
}

fn journals_of(job: &Path, input: u64) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(job) else {
        return Vec::new();
    };
    let entries = entries.flatten();
    let of_input =
        entries.filter(|entry| input_of(&entry.file_name().to_string_lossy()) == Some(input));
    of_input.map(|entry| entry.path()).collect()
}

/// The journals that an input is taken up with, in order, and the place where they end.
pub(crate) fn chain(job: &Path, input: u64) -> (Vec<JournalPart>, u64) {
    let mut spans: Vec<(u64, JournalPart)> = Vec::new();
    for path in journals_of(job, input) {
        let Ok((head, written)) = read(&path) else {
            continue;
        };
        let ends = written.iter().map(|written| written.to);
        let path = path.display().to_string();
        spans.extend(ends.map(|to| {
            (
                head.from,
                JournalPart {
                    path: path.clone(),
                    to,
                },
            )
        }));
    }
    // The farthest of those that begin where the chain ends: several attempts may have begun at one place.
    let (mut parts, mut end) = (Vec::new(), 0);
    while let Some((_, part)) = spans
        .iter()
        .filter(|(from, part)| *from == end && part.to > end)
        .max_by_key(|(_, part)| part.to)
    {
        end = part.to;
        parts.push(part.clone());
    }
    (parts, end)
}

fn read(path: &Path) -> io::Result<(Head, Vec<WrittenRows>)> {
    let bytes = fs::read(path)?;
    let (records, _) = frames::read::<JournalRecord>(&bytes);
    let mut entries = records.into_iter().filter_map(|record| record.entry);
    let Some(JournalEntry::Head(head)) = entries.next() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a journal without a head",
        ));
    };
    let written = entries.filter_map(|entry| match entry {
        JournalEntry::Written(written) => Some(written),
        JournalEntry::Head(_) => None,
    });
    Ok((head, written.collect()))
}

/// The rows of a journal's part, as Arrow streams.
pub(crate) fn rows_of(part: &JournalPart) -> io::Result<Vec<Bytes>> {
    let (_, written) = read(Path::new(&part.path))?;
    if written.last().is_none_or(|last| last.to < part.to) {
        let why = format!(
            "{} ends before the place {} that was found in it",
            part.path, part.to
        );
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    let counting = written
        .into_iter()
        .take_while(|written| written.to <= part.to);
    Ok(counting.flat_map(|written| written.rows).collect())
}

/// A journal that is being written.
pub(crate) struct Journal(File);

impl Journal {
    /// Begins one that goes on from this place, of an input whose rows are made of these, if it is none of the source's.
    pub(crate) fn begin(path: &Path, from: u64, spans: Option<Spans>) -> io::Result<Self> {
        let mut made = Self(File::create_new(path)?);
        made.write(JournalEntry::Head(Head { from, spans }))?;
        Ok(made)
    }

    /// Adds rows: these and those before are all there is up to this place.
    pub(crate) fn add(&mut self, to: u64, batches: &[RecordBatch]) -> io::Result<()> {
        let alike = batches.chunk_by(|one, other| one.schema() == other.schema());
        let encode = |alike: &[RecordBatch]| {
            block::encode(&alike[0].schema(), alike).map_err(io::Error::other)
        };
        let rows: io::Result<Vec<Bytes>> = alike.map(encode).collect();
        self.write(JournalEntry::Written(WrittenRows { to, rows: rows? }))
    }

    fn write(&mut self, entry: JournalEntry) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames::push(&mut bytes, &JournalRecord { entry: Some(entry) });
        self.0.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ids, rows};

    fn ids_of(parts: &[JournalPart]) -> Vec<i64> {
        let streams = parts.iter().flat_map(|part| rows_of(part).expect("reads"));
        let batches = streams.flat_map(|stream| block::decode(stream).expect("is a stream").1);
        ids(&batches.collect::<Vec<_>>())
    }

    #[test]
    fn journals_go_on_where_others_end_and_are_cut_off_anywhere() {
        let job = tempfile::tempdir().expect("a temporary folder");
        let mut first = Journal::begin(&path_of(job.path(), 1, 7), 0, None).expect("begins");
        first.add(2, &[rows(0, 2)]).expect("writes");
        first.add(4, &[rows(2, 1), rows(3, 1)]).expect("writes");
        let whole = fs::read(path_of(job.path(), 1, 7)).expect("reads");
        for cut in 0..=whole.len() {
            fs::write(path_of(job.path(), 1, 7), &whole[..cut]).expect("writes");
            let (parts, end) = chain(job.path(), 7);
            assert_eq!(ids_of(&parts), (0..end as i64).collect::<Vec<_>>());
        }
        // Another attempt that came less far, one that went on, one of another input.
        let mut slow = Journal::begin(&path_of(job.path(), 2, 7), 0, None).expect("begins");
        slow.add(2, &[rows(0, 2)]).expect("writes");
        let mut next = Journal::begin(&path_of(job.path(), 3, 7), 4, None).expect("begins");
        next.add(5, &[]).expect("writes");
        next.add(6, &[rows(4, 1)]).expect("writes");
        Journal::begin(&path_of(job.path(), 4, 8), 0, None).expect("begins");
        let (parts, end) = chain(job.path(), 7);
        assert_eq!((ids_of(&parts), end), (vec![0, 1, 2, 3, 4], 6));
        remove(job.path(), &HashSet::from([7]));
        assert_eq!(chain(job.path(), 7), (Vec::new(), 0));
        assert_eq!(journals_of(job.path(), 8).len(), 1);
    }
    #[test]
    fn journal_that_is_cut_off_anywhere_is_good_for_the_rows_that_it_has() {
        let range = |from| SourceRange {
            input: 3,
            from,
            to: from + 10,
        };
        for steps in [None, Some(1), Some(2)] {
            let is_repeatable = steps == Some(2);
            let job = tempfile::tempdir().expect("a temporary folder");
            let path = path_of(job.path(), 1, 7);
            let spans = [0, 10, 20].map(|from| Span {
                rows: 4,
                ranges: vec![range(from)],
            });
            let spans = Spans {
                spans: spans.to_vec(),
                steps: Some(2),
            };
            let mut journal = Journal::begin(&path, 0, Some(spans)).expect("begins");
            for (place, first, count) in [(3, 0, 3), (4, 3, 1), (6, 4, 2), (9, 6, 3)] {
                journal.add(place, &[rows(first, count)]).expect("writes");
            }
            let written = fs::read(&path).expect("reads");
            let mut seen = Vec::new();
            for cut in (0..written.len()).step_by(31).chain([written.len()]) {
                fs::write(&path, &written[..cut]).expect("writes");
                let found = salvage(job.path(), 7, steps, |_| true);
                let rows = found
                    .as_ref()
                    .map_or(Vec::new(), |found| ids_of(&found.parts));
                let whole = found.as_ref().map_or(0, |found| found.whole.rows);
                let rest = found
                    .and_then(|found| found.rest)
                    .map_or(0, |rest| rest.rows);
                assert_eq!(rows, (0..(whole + rest) as i64).collect::<Vec<_>>());
                if seen.last() != Some(&(whole, rest)) {
                    seen.push((whole, rest));
                }
            }
            let all = [(0, 0), (0, 3), (4, 0), (4, 2), (8, 1)];
            let aligned = [(0, 0), (4, 0)];
            let expected: &[(u64, u64)] = if is_repeatable { &all } else { &aligned };
            assert_eq!(seen, expected);
            // What is done is not written a second time.
            let found = salvage(job.path(), 7, steps, |range| range.from < 10);
            assert_eq!(
                found.map(|found| (found.whole.rows, found.rest)),
                Some((4, None))
            );
            assert_eq!(
                salvage(job.path(), 7, steps, |range| range.from >= 10),
                None
            );
        }
    }
}
