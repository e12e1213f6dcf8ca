//! What is left of a job that was not finished, for the run that takes it up.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::JOB_FILE;
use super::journal;
use super::ranges::DoneRanges;
use super::record::{Begun, JudgedRows, Told};
use crate::wire::spec::WrittenFile;

/// Attempts of a run are numbered from a multiple of this on: a worker of an earlier run, which has not heard yet that its driver is
/// dead, may begin the file of an attempt that nobody has seen.
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
    /// Inputs that are not done and have journals.
    pub(crate) journaled: HashSet<u64>,
    /// No attempt so far had this number or a larger one.
    pub(crate) next_attempt: u64,
}

impl TakenUp {
    /// How many workers the input was cut for.
    pub(crate) fn workers(&self) -> Option<u64> {
        self.begun.as_ref().map(|begun| begun.workers)
    }
}

/// What counts of what the ledger tells. What does not belong to it in the job's folder is swept.
pub(super) fn take_up(target: &Path, job: &Path, told: Told) -> io::Result<TakenUp> {
    let mut done = told.done;
    let absolute = |file: WrittenFile| WrittenFile {
        path: target.join(&file.path).display().to_string(),
        unfinished: target.join(&file.unfinished).display().to_string(),
        ..file
    };
    let mut files: Vec<WrittenFile> = told.files.into_values().map(absolute).collect();
    for file in &files {
        // One that was being written anew when the job died, or that somebody has removed: its input is done again.
        let length = fs::metadata(&file.unfinished).map(|described| described.len());
        if !length.is_ok_and(|length| length == file.bytes) {
            done.remove(file.sequence);
        }
    }
    files.retain(|file| done.contains(file.sequence));
    let judged = told.judged.into_values();
    let judged = judged.filter(|rows| done.contains(rows.input)).collect();
    let mut taken = TakenUp {
        begun: told.begun,
        done,
        files,
        judged,
        ..TakenUp::default()
    };
    taken.sweep(job)?;
    Ok(taken)
}

impl TakenUp {
    /// Removes what nobody needs, and looks at what is left.
    fn sweep(&mut self, job: &Path) -> io::Result<()> {
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
            let after = attempt.map_or(0, |attempt| attempt / ATTEMPTS_OF_A_RUN + 1);
            self.next_attempt = self.next_attempt.max(after * ATTEMPTS_OF_A_RUN);
            let input = journal::input_of(&name).filter(|input| !self.done.contains(*input));
            if input.is_none() && !known.contains(&entry.path()) {
                fs::remove_file(entry.path())?;
            }
            self.journaled.extend(input);
        }
        Ok(())
    }
}
