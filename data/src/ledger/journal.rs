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
use super::noted::FoundInRows;
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
    /// What was found of the rows behind the place before.
    #[prost(message, optional, tag = "3")]
    found: Option<FoundInRows>,
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
    attempt_and_input(name).map(|(_, input)| input)
}

fn attempt_and_input(name: &str) -> Option<(u64, u64)> {
    let (attempt, input) = name.strip_suffix(ENDING)?.split_once('-')?;
    Some((attempt.parse().ok()?, input.parse().ok()?))
}

/// Which attempt has written a journal.
fn attempt_of(path: &str) -> Option<u64> {
    let name = Path::new(path).file_name()?.to_str()?;
    attempt_and_input(name).map(|(attempt, _)| attempt)
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
    /// The rows before those of `rest`, what they are made of, and what was found of all that are noted.
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
    let (parts, end) = chain(job, number, u64::MAX);
    let (head, _) = read(Path::new(&parts.first()?.path)).ok()?;
    let Some(Spans {
        spans,
        steps: made_by,
    }) = head.spans
    else {
        // An input of the source, whose rows it counts.
        let (input, from, to) = (number, 0, end);
        let ranges = vec![SourceRange { input, from, to }];
        if !ranges.iter().all(is_free) {
            return None;
        }
        let whole = Span {
            ranges,
            ..Span::default()
        };
        return with_found(number, parts, whole, None);
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
            // What was found of the span is found again with the others of its rows.
            let rest = (is_repeatable && rows > 0).then_some(Span {
                rows,
                ranges: span.ranges,
                ..Span::default()
            });
            if rest.is_some() {
                best = Some((parts, whole, rest));
            }
            break;
        }
        whole.add(span);
        if let Some(parts) = up_to(&parts, whole.rows) {
            best = Some((parts, whole.clone(), None));
        }
    }
    let (parts, whole, rest) = best?;
    with_found(number, parts, whole, rest)
}

/// With what the journals say that was found of their rows; `None`: they cannot be read.
fn with_found(
    number: u64,
    parts: Vec<JournalPart>,
    mut whole: Span,
    rest: Option<Span>,
) -> Option<Salvaged> {
    for part in &parts {
        let found = found_of(part).ok()?;
        let (judged, left_out) = found.of_attempt(attempt_of(&part.path)?);
        whole.judged.extend(judged);
        whole.left_out.extend(left_out);
    }
    Some(Salvaged {
        number,
        parts,
        whole,
        rest,
    })
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

/// The journals that an input is taken up with, in order, and the place where they end: of those that attempts before this one have written.
pub(crate) fn chain(job: &Path, input: u64, before_attempt: u64) -> (Vec<JournalPart>, u64) {
    let mut spans: Vec<(u64, JournalPart)> = Vec::new();
    for path in journals_of(job, input) {
        let attempt = attempt_of(&path.to_string_lossy());
        if attempt.is_none_or(|attempt| attempt >= before_attempt) {
            continue;
        }
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

/// What a journal's part says.
fn counting(part: &JournalPart) -> io::Result<impl Iterator<Item = WrittenRows>> {
    let (_, written) = read(Path::new(&part.path))?;
    if written.last().is_none_or(|last| last.to < part.to) {
        let why = format!(
            "{} ends before the place {} that was found in it",
            part.path, part.to
        );
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    let to = part.to;
    Ok(written
        .into_iter()
        .take_while(move |written| written.to <= to))
}

/// The rows of a journal's part, as Arrow streams.
pub(crate) fn rows_of(part: &JournalPart) -> io::Result<Vec<Bytes>> {
    Ok(counting(part)?.flat_map(|written| written.rows).collect())
}

/// What was found of the rows of a journal's part.
pub(crate) fn found_of(part: &JournalPart) -> io::Result<FoundInRows> {
    let mut found = FoundInRows::default();
    for more in counting(part)?.filter_map(|written| written.found) {
        found.add(more);
    }
    Ok(found)
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

    /// Adds rows: these and those before are all there is up to this place. `found`: what was found behind the place before.
    pub(crate) fn add(
        &mut self,
        to: u64,
        batches: &[RecordBatch],
        found: Option<FoundInRows>,
    ) -> io::Result<()> {
        let alike = batches.chunk_by(|one, other| one.schema() == other.schema());
        let encode = |alike: &[RecordBatch]| {
            block::encode(&alike[0].schema(), alike).map_err(io::Error::other)
        };
        let rows: io::Result<Vec<Bytes>> = alike.map(encode).collect();
        let rows = rows?;
        self.write(JournalEntry::Written(WrittenRows { to, rows, found }))
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
    use crate::ledger::JudgedRows;
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
        first.add(2, &[rows(0, 2)], None).expect("writes");
        first
            .add(4, &[rows(2, 1), rows(3, 1)], None)
            .expect("writes");
        let whole = fs::read(path_of(job.path(), 1, 7)).expect("reads");
        for cut in 0..=whole.len() {
            fs::write(path_of(job.path(), 1, 7), &whole[..cut]).expect("writes");
            let (parts, end) = chain(job.path(), 7, u64::MAX);
            assert_eq!(ids_of(&parts), (0..end as i64).collect::<Vec<_>>());
        }
        // Another attempt that came less far, one that went on, one of another input.
        let mut slow = Journal::begin(&path_of(job.path(), 2, 7), 0, None).expect("begins");
        slow.add(2, &[rows(0, 2)], None).expect("writes");
        let mut next = Journal::begin(&path_of(job.path(), 3, 7), 4, None).expect("begins");
        next.add(5, &[], None).expect("writes");
        next.add(6, &[rows(4, 1)], None).expect("writes");
        Journal::begin(&path_of(job.path(), 4, 8), 0, None).expect("begins");
        let (parts, end) = chain(job.path(), 7, u64::MAX);
        assert_eq!((ids_of(&parts), end), (vec![0, 1, 2, 3, 4], 6));
        remove(job.path(), &HashSet::from([7]));
        assert_eq!(chain(job.path(), 7, u64::MAX), (Vec::new(), 0));
        assert_eq!(journals_of(job.path(), 8).len(), 1);
    }

    fn judged(rows: u64) -> FoundInRows {
        let judged = JudgedRows {
            operator: 2,
            rows,
            ..JudgedRows::default()
        };
        FoundInRows {
            judged: vec![judged],
            left_out: Vec::new(),
        }
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
                judged: judged(from).of_attempt(from).0,
                ..Span::default()
            });
            let spans = Spans {
                spans: spans.to_vec(),
                steps: Some(2),
            };
            let mut journal = Journal::begin(&path, 0, Some(spans)).expect("begins");
            for (place, first, count) in [(3, 0, 3), (4, 3, 1), (6, 4, 2), (9, 6, 3)] {
                let found = judged(count as u64);
                journal
                    .add(place, &[rows(first, count)], Some(found))
                    .expect("writes");
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
                let of_rows = |attempt: u64| {
                    let judged = found.iter().flat_map(|found| &found.whole.judged);
                    let judged = judged.filter(|one| one.attempt == Some(attempt));
                    judged.map(|one| one.rows).sum::<u64>()
                };
                assert_eq!(of_rows(1), rows.len() as u64, "as many as are noted");
                assert_eq!(
                    of_rows(10),
                    if whole > 4 { 10 } else { 0 },
                    "of whole spans"
                );
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
