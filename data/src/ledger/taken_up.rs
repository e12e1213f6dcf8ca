//! What is left of a job that was not finished, for the run that takes it up.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{JOB_FILE, unfinished_folder};
use super::journal::{self, Salvaged};
use super::keeper::folder_of;
use super::left_out::LeftOut;
use super::ranges::DoneRanges;
use super::record::{Begun, JudgedRows, Told};
use super::spans::{DonePart, SourceRange};
use crate::wire::spec::WrittenFile;

/// Attempts of a run are numbered from a multiple of this on, which is its own: a worker of an earlier run, which has not heard yet that
/// its driver is dead, may begin the file of an attempt that nobody has seen; and what was left out is known by its attempt.
const ATTEMPTS_OF_A_RUN: u64 = 1_000_000;

/// What an earlier run has done.
#[derive(Debug, Default)]
pub(crate) struct TakenUp {
    /// `None`: there was none.
    pub(super) begun: Option<Begun>,
    pub(crate) done: DoneRanges,
    pub(crate) files: Vec<WrittenFile>,
    /// What expectations have found in inputs that are done.
    pub(crate) judged: Vec<JudgedRows>,
    /// What the files are made of, where they are not those of one input each.
    pub(super) parts: Vec<DonePart>,
    /// What was left out of rows that are done.
    pub(super) left_out: Vec<LeftOut>,
    /// Inputs that are not done and have journals.
    pub(crate) journaled: HashSet<u64>,
    /// Some of them are of stages behind the first.
    has_spans: bool,
    /// Outputs whose files are not what was said of them.
    broken: HashSet<u64>,
    /// No attempt so far had this number or a larger one.
    pub(crate) next_attempt: u64,
}

/// How far a run has come whose outputs are not those of one input each.
#[derive(Debug, Default)]
pub(crate) struct OutputsLeft {
    /// Of inputs that are not done as a whole: rows that are, and those of which noted rows are a part.
    pub(crate) ranges: HashMap<u64, DoneRanges>,
    /// What is to be written as it was noted; counted among the rows that are done.
    pub(crate) salvaged: Vec<Salvaged>,
    /// No output so far had this number or a larger one.
    pub(crate) next_output: u64,
}

impl TakenUp {
    /// Of an output whose job is told of in the ledger of another one.
    pub(super) fn told_elsewhere(begun: Option<Begun>) -> Self {
        Self {
            begun,
            ..Self::default()
        }
    }

    /// All is made anew, whatever an earlier run has done.
    pub(super) fn forget_rows(&mut self) {
        *self = Self {
            begun: self.begun.take(),
            next_attempt: self.next_attempt,
            ..Self::default()
        };
    }

    /// How many workers the input was cut for.
    pub(crate) fn workers(&self) -> Option<u64> {
        let begun = self.begun.as_ref();
        let begun = begun.filter(|begun| !begun.is_before_its_last_leg());
        begun.map(|begun| begun.workers)
    }
}

/// What counts of what the ledger tells. What does not belong to it in the job's folders is swept. `folders`: of all outputs, of which
/// the first has the ledger.
pub(super) fn take_up(folders: &[PathBuf], prefix: &str, told: Told) -> io::Result<TakenUp> {
    let mut done = told.done;
    let absolute = |file: WrittenFile| {
        let folder = folder_of(folders, &file);
        WrittenFile {
            path: folder.join(&file.path).display().to_string(),
            unfinished: folder.join(&file.unfinished).display().to_string(),
            ..file
        }
    };
    let mut files: Vec<WrittenFile> = told.files.into_values().map(absolute).collect();
    let mut broken = HashSet::new();
    for file in &files {
        // One that was being written anew when the job died, or that somebody has removed: its input is done again.
        let length = fs::metadata(&file.unfinished).map(|described| described.len());
        if !length.is_ok_and(|length| length == file.bytes) {
            done.remove(file.sequence);
            broken.insert(file.sequence);
        }
    }
    let is_whole = |part: &DonePart| part.outputs.iter().all(|output| !broken.contains(output));
    let parts: Vec<DonePart> = told.parts.into_iter().filter(is_whole).collect();
    let outputs: HashSet<u64> = outputs_of(&parts).collect();
    files.retain(|file| done.contains(file.sequence) || outputs.contains(&file.sequence));
    let runs = told.begun.as_ref().map_or(0, |begun| begun.runs);
    let of_letters = told.left_out.values().map(|left_out| left_out.attempt);
    let of_judged = told.judged.values().filter_map(|rows| rows.attempt);
    let attempts = of_letters.chain(of_judged).map(after);
    let next_attempt = attempts.fold(runs * ATTEMPTS_OF_A_RUN, u64::max);
    let has_output = |output: Option<u64>| output.is_none_or(|output| outputs.contains(&output));
    let judged = told.judged.into_values();
    let judged = judged.filter(|rows| match rows.attempt {
        Some(_) => has_output(rows.output),
        None => done.contains(rows.input),
    });
    let judged = judged.collect();
    let left_out = told.left_out.into_values().filter(|left_out| {
        let is_of_input = left_out.input.is_none_or(|input| done.contains(input));
        is_of_input && has_output(left_out.output)
    });
    let left_out = left_out.collect();
    let mut taken = TakenUp {
        begun: told.begun,
        next_attempt,
        done,
        files,
        judged,
        left_out,
        parts,
        broken,
        ..TakenUp::default()
    };
    for folder in folders {
        taken.sweep(&folder.join(unfinished_folder(prefix)), &outputs)?;
    }
    Ok(taken)
}

/// The first attempt of a run behind the one that this attempt was of.
fn after(attempt: u64) -> u64 {
    (attempt / ATTEMPTS_OF_A_RUN + 1) * ATTEMPTS_OF_A_RUN
}

fn outputs_of(parts: &[DonePart]) -> impl Iterator<Item = u64> {
    parts.iter().flat_map(|part| &part.outputs).copied()
}

impl TakenUp {
    /// Removes what nobody needs, and looks at what is left. `outputs`: that are done.
    fn sweep(&mut self, job: &Path, outputs: &HashSet<u64>) -> io::Result<()> {
        let known = self
            .files
            .iter()
            .map(|file| PathBuf::from(&file.unfinished));
        let known: HashSet<PathBuf> = known.collect();
        for entry in fs::read_dir(job)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == JOB_FILE || !entry.file_type()?.is_file() {
                continue;
            }
            let attempt = name
                .split('-')
                .next()
                .and_then(|attempt| attempt.parse::<u64>().ok());
            self.next_attempt = self.next_attempt.max(attempt.map_or(0, after));
            let input = journal::input_of(&name);
            let input =
                input.filter(|input| !self.done.contains(*input) && !outputs.contains(input));
            if input.is_none() && !known.contains(&entry.path()) {
                fs::remove_file(entry.path())?;
            }
            if input.is_some() {
                self.has_spans |= journal::has_spans(&entry.path());
            }
            self.journaled.extend(input);
        }
        Ok(())
    }

    /// Whether a run before has had several stages.
    pub(super) fn is_by_output(&self) -> bool {
        self.has_spans || !self.parts.is_empty()
    }

    /// How far it has come, by rows of the source. Journals that do not count are removed, also where nobody can
    /// write what they have. `steps`: of the first stage of two.
    pub(super) fn outputs_left(
        &mut self,
        job: &Path,
        can_write_noted: bool,
        steps: Option<u32>,
    ) -> OutputsLeft {
        let mut left = OutputsLeft {
            next_output: self.next_output(),
            ..OutputsLeft::default()
        };
        for range in self.parts.iter().flat_map(|part| &part.ranges) {
            left.add(range);
        }
        let mut journaled: Vec<u64> = self.journaled.drain().collect();
        journaled.sort_unstable();
        for number in journaled {
            let is_free = |range: &SourceRange| {
                let done = left.ranges.get(&range.input);
                !self.done.contains(range.input)
                    && !done.is_some_and(|done| done.overlaps(range.from, range.to))
            };
            let salvaged = if self.broken.contains(&number) || !can_write_noted {
                None
            } else {
                journal::salvage(job, number, steps, is_free)
            };
            match salvaged {
                Some(salvaged) => {
                    let rest = salvaged.rest.iter().flat_map(|rest| &rest.ranges);
                    let ranges = salvaged.whole.ranges.iter().chain(rest);
                    ranges.for_each(|range| left.add(range));
                    left.salvaged.push(salvaged);
                }
                None => journal::remove(job, &HashSet::from([number])),
            }
        }
        left.ranges.retain(|&input, ranges| {
            if ranges.is_whole() {
                self.done.add(input, input + 1);
            }
            !ranges.is_whole()
        });
        left
    }

    /// Behind all that files and journals have, and all inputs of the source: a run of one stage gives its outputs their numbers.
    fn next_output(&self) -> u64 {
        let Some(begun) = &self.begun else {
            return 0;
        };
        let files = self.files.iter().map(|file| file.sequence);
        let others = self.journaled.iter().chain(&self.broken).copied();
        let most = files.chain(others).chain(outputs_of(&self.parts)).max();
        begun.inputs.max(most.map_or(0, |most| most + 1))
    }
}

impl OutputsLeft {
    fn add(&mut self, range: &SourceRange) {
        let done = self.ranges.entry(range.input).or_default();
        done.add(range.from, range.to);
    }
}
