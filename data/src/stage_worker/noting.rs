//! Notes rows that a sink has taken, so that nobody has to make them again when the input is taken up ([`journal`]).
//!
//! What is noted is written twice, so it must be worth it: only while noting takes a small part of the time that the rows take.
//! Rows that are made faster than they are noted are made again, and so are those of an input that was just begun.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use crate::block::{self, data_bytes};
use crate::ledger::journal::{self, Journal, JournalPart};
use crate::ledger::{FoundInRows, Spans};
use crate::operators::failing::FailingInput;

/// An input that is over by then is made again as fast as its rows would be read again.
const WORTH_IT: Duration = Duration::from_millis(100);
/// Rows wait so long to be noted together.
const PATIENCE: Duration = Duration::from_millis(20);
/// Of this part of the time, at most.
const PART: u32 = 50;
/// What noting takes, about: it is not tried to find out.
const NANOS_PER_BYTE: u64 = 2;
/// Rows that wait, at most. What makes more of them in [`PATIENCE`], or while it rests, is too fast.
const MAX_WAITING_BYTES: u64 = 16 << 20;
/// So many of them say nothing yet of how fast they are made.
const SOON_BYTES: u64 = 1 << 20;

/// What is found of the rows of an input, beside those that come out.
pub(super) struct Finds {
    pub(super) input: Arc<FailingInput>,
    /// Steps before those of the stage.
    pub(super) steps_before: u32,
}

impl Finds {
    /// What was found since this was last asked: of the rows that have come out, and none behind these.
    fn take(&self) -> io::Result<Option<FoundInRows>> {
        let found = self.input.take_handed_on(self.steps_before);
        let found = found.map_err(io::Error::other)?;
        Ok(Some(found).filter(|found| !found.is_empty()))
    }
}

/// Notes the rows of an input.
pub(super) struct Noting {
    path: PathBuf,
    /// The place from which on it notes.
    from: u64,
    /// What the rows of the input are made of.
    spans: Option<Spans>,
    /// Where steps and expectations say what they have found, if they do.
    finds: Option<Finds>,
    /// `None`: nothing is noted yet.
    journal: Option<Journal>,
    waiting: Vec<RecordBatch>,
    waiting_bytes: u64,
    /// Up to here all is noted.
    noted: u64,
    began: Instant,
    noted_at: Instant,
    spent: Duration,
}

impl Noting {
    /// Notes what comes behind `from`.
    pub(super) fn new(path: PathBuf, from: u64, spans: Option<Spans>) -> Self {
        let now = Instant::now();
        Self {
            path,
            from,
            spans,
            finds: None,
            journal: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            noted: from,
            began: now,
            noted_at: now,
            spent: Duration::ZERO,
        }
    }

    /// The same, with what is found of the rows.
    pub(super) fn with_finds(self, finds: Option<Finds>) -> Self {
        Self { finds, ..self }
    }

    /// The sink has taken a batch. `before`: what was written before it is all that becomes of the rows before that place; `after`:
    /// so is what is written now. Returns whether noting goes on.
    pub(super) fn took(
        &mut self,
        batch: &RecordBatch,
        before: Option<u64>,
        after: Option<u64>,
    ) -> bool {
        // The rows of the batch were judged by now.
        let before = before.filter(|_| self.finds.is_none());
        if before.is_some_and(|place| !self.reached(place)) {
            return false;
        }
        self.waiting_bytes += data_bytes(batch);
        // Before it is copied: what is given up would be copied for nothing.
        let is_due = after.is_some_and(|place| self.is_due(place));
        if !is_due && self.waiting_bytes > self.most_waiting() {
            return false;
        }
        // A copy: a batch of Python's holds all that its function was given, columns that are not among its own included.
        let Ok(alone) = block::alone(batch) else {
            return false;
        };
        self.waiting.push(alone);
        after.is_none_or(|place| self.reached(place))
    }

    /// Rows that are made faster than they can ever be noted are given up soon: they would only keep memory from being used again.
    fn most_waiting(&self) -> u64 {
        let noted_meanwhile =
            self.began.elapsed().as_nanos() / u128::from(PART) / u128::from(NANOS_PER_BYTE);
        let noted_meanwhile = u64::try_from(noted_meanwhile).unwrap_or(u64::MAX);
        noted_meanwhile
            .saturating_add(SOON_BYTES)
            .min(MAX_WAITING_BYTES)
    }

    /// What was written so far is all that becomes of the rows before `place`. Returns whether noting goes on.
    fn reached(&mut self, place: u64) -> bool {
        if !self.is_due(place) {
            return true;
        }
        let (began, waited) = (Instant::now(), waited_for_processor());
        let outcome = self.note(place);
        self.spent += taken(began.elapsed(), waited, waited_for_processor());
        self.noted_at = Instant::now();
        match outcome {
            Ok(()) => true,
            Err(error) => {
                // The sink will say so if its disk is full.
                tracing::warn!(%error, path = %self.path.display(), "rows are not noted any more");
                false
            }
        }
    }

    /// Whether what waits is to be noted up to this place, by what that takes.
    fn is_due(&self, place: u64) -> bool {
        let next = Duration::from_nanos(self.waiting_bytes.saturating_mul(NANOS_PER_BYTE));
        let runs = self.began.elapsed();
        place != self.noted
            && runs >= WORTH_IT
            && self.noted_at.elapsed() >= PATIENCE
            && (self.spent + next).saturating_mul(PART) <= runs
    }

    fn note(&mut self, place: u64) -> io::Result<()> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => none.insert(Journal::begin(&self.path, self.from, self.spans.take())?),
        };
        let found = self.finds.as_ref().map(Finds::take).transpose()?;
        journal.add(place, &self.waiting, found.flatten())?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.noted = place;
        Ok(())
    }
}

/// What noting took of `wall`: not the time in which others had the processor, of which the rows lose as much. On a machine that has
/// much to do a single note would else count for as long as hundreds, and a second of rows would not be noted.
fn taken(wall: Duration, before: Option<Duration>, after: Option<Duration>) -> Duration {
    let waited = before.zip(after).map_or(Duration::ZERO, |(before, after)| {
        after.saturating_sub(before)
    });
    wall.saturating_sub(waited)
}

/// How long this thread has been ready to run and has not; `None`: the system does not tell.
fn waited_for_processor() -> Option<Duration> {
    waited_of(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// The second of the numbers: nanoseconds on a run queue.
fn waited_of(told: &str) -> Option<Duration> {
    let nanos = told.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// The rows that earlier attempts have noted.
pub(super) struct Noted {
    parts: VecDeque<JournalPart>,
    batches: VecDeque<RecordBatch>,
}

impl Noted {
    pub(super) fn new(parts: Vec<JournalPart>) -> Self {
        Self {
            parts: parts.into(),
            batches: VecDeque::new(),
        }
    }

    /// The next of them.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while self.batches.is_empty() {
            let Some(part) = self.parts.pop_front() else {
                return Ok(None);
            };
            let failed = |error: &dyn std::fmt::Display| {
                let message = format!("read the journal {}: {error}", part.path);
                TaskFailure::new(ErrorCode::Internal, message)
            };
            for stream in journal::rows_of(&part).map_err(|error| failed(&error))? {
                let (_, batches) = block::decode(stream).map_err(|error| failed(&error))?;
                self.batches.extend(batches);
            }
        }
        Ok(self.batches.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows;

    #[test]
    fn rows_that_are_made_faster_than_they_are_noted_are_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = journal::path_of(folder.path(), 1, 0);
        let mut noting = Noting::new(path.clone(), 0, None);
        // However long it takes to make them here, they are made in no time.
        noting.began = Instant::now() + Duration::from_secs(3600);
        let fast = rows(0, 1 << 16);
        let places = 1..1000;
        let taken = places.take_while(|&place| noting.took(&fast, None, Some(place)));
        let bytes = taken.count() as u64 * data_bytes(&fast);
        assert!(bytes <= 2 * SOON_BYTES && !path.exists(), "{bytes}");
    }

    #[test]
    fn time_that_others_had_the_processor_is_none_of_what_noting_took() {
        let ms = Duration::from_millis;
        assert_eq!(taken(ms(50), Some(ms(1000)), Some(ms(1048))), ms(2));
        assert_eq!(taken(ms(50), None, None), ms(50));
        // Two clocks that are read one after the other.
        assert_eq!(taken(ms(50), Some(ms(0)), Some(ms(51))), ms(0));
        assert_eq!(
            waited_of("1100176 852576 4\n"),
            Some(Duration::from_nanos(852_576))
        );
        assert_eq!(waited_of(""), None);
    }

    #[test]
    fn rows_that_are_given_up_are_not_copied() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = journal::path_of(folder.path(), 1, 0);
        let mut noting = Noting::new(path, 0, None);
        noting.began = Instant::now() + Duration::from_secs(3600);
        let many = rows(0, 1 << 11);
        assert!(data_bytes(&many) > SOON_BYTES);
        assert!(!noting.took(&many, None, Some(1 << 11)));
        assert!(noting.waiting.is_empty());
    }

    #[test]
    fn rows_of_an_input_that_was_just_begun_are_not_noted_yet() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = journal::path_of(folder.path(), 1, 0);
        let mut noting = Noting::new(path.clone(), 0, None);
        noting.began = Instant::now() + Duration::from_secs(3600);
        noting.noted_at -= Duration::from_secs(1);
        assert!(noting.took(&rows(0, 2), None, Some(2)));
        assert!(!path.exists());
        noting.began -= Duration::from_secs(2 * 3600);
        assert!(noting.took(&rows(2, 2), None, Some(4)));
        assert!(path.exists(), "with the rows that were not noted before");
    }

    #[test]
    fn rows_of_slow_functions_are_noted_up_to_places_that_are_known() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = journal::path_of(folder.path(), 1, 0);
        let mut noting = Noting::new(path.clone(), 10, None);
        noting.began -= Duration::from_secs(10);
        let mut took = |first: i64, before, after| {
            noting.noted_at -= Duration::from_secs(1);
            assert!(noting.took(&rows(first, 2), before, after));
        };
        took(0, Some(10), None);
        assert!(!path.exists(), "nothing was known to be all");
        took(2, Some(12), None);
        took(4, None, Some(16));
        took(6, None, None);
        let mut noted = Noted::new(vec![JournalPart {
            path: path.display().to_string(),
            to: 16,
        }]);
        let mut batches = Vec::new();
        while let Some(batch) = noted.next().expect("reads") {
            batches.push(batch);
        }
        assert_eq!(crate::testing::ids(&batches), [0, 1, 2, 3, 4, 5]);
    }
}
