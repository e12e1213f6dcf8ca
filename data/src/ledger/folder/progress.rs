//! What of a job's output is done, told to the ledger while it runs, and left there if it fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{FolderOutput, no_book};
use crate::error::PlanError;
use crate::ledger::keeper::{Keeper, KeeperEnd, News};
use crate::ledger::left_out::LeftOut;
use crate::ledger::ranges::DoneRanges;
use crate::ledger::record::{Begun, Entry, FORMAT, JudgedRows};
use crate::ledger::taken_up::{OutputsLeft, TakenUp};
use crate::ledger::{DonePart, book, durable, journal, keeper};
use crate::wire::spec::WrittenFile;

impl FolderOutput {
    /// What an earlier run of this job has left.
    pub(crate) fn left(&self) -> &TakenUp {
        &self.left
    }

    /// The job's input is cut into so many inputs, for so many workers. From here on its progress is kept, if it has an identity.
    pub(crate) fn keep(&mut self, workers: u64, inputs: u64) -> Result<(), PlanError> {
        if let Some(known) = &self.left.begun
            && known.inputs != inputs
        {
            return Err(PlanError::InvalidArgument(format!(
                "{}: the unfinished job in {} has {} inputs, and this one {inputs}; resume=False begins anew",
                self.format.operation(),
                self.target.display(),
                known.inputs
            )));
        }
        let kept = self.begin_to_keep(workers, inputs);
        kept.map_err(|error| PlanError::not_writable(&self.target.display().to_string(), &error))
    }

    fn begin_to_keep(&mut self, workers: u64, inputs: u64) -> io::Result<()> {
        let Some(mut book) = self.book.take() else {
            return Ok(());
        };
        if self.left.begun.is_none() {
            let identity = self.identity.as_ref();
            book.write(Entry::Begun(Begun {
                format: FORMAT,
                is_new: self.is_new,
                identity: identity.map_or_else(Vec::new, |identity| identity.traits.clone()),
                workers,
                inputs,
                runs: 0,
            }))?;
        }
        if self.identity.is_some() {
            self.keeper = Some(Keeper::start(book, &self.target, &self.prefix)?);
        } else {
            self.book = Some(book);
        }
        Ok(())
    }

    /// Where an input's journal lies, if there are journals.
    pub(crate) fn journal_folder(&self) -> Option<PathBuf> {
        self.identity.as_ref().map(|_| self.job_folder())
    }

    /// Whether what is done is kept for a later run.
    pub(crate) fn is_kept(&self) -> bool {
        self.identity.is_some()
    }

    /// What an earlier run has left out of rows that are done.
    pub(crate) fn take_left_out(&mut self) -> Vec<LeftOut> {
        std::mem::take(&mut self.left.left_out)
    }

    /// Files that an input gave, which is used up, what expectations have found in it, and what was left out of it.
    pub(crate) fn add(
        &mut self,
        input: u64,
        files: impl IntoIterator<Item = WrittenFile>,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOut>,
    ) {
        let files: Vec<WrittenFile> = files.into_iter().collect();
        self.done.add(input, input + 1);
        if let Some(keeper) = &self.keeper {
            let mut inputs = DoneRanges::default();
            inputs.add(input, input + 1);
            keeper.add(News {
                inputs,
                files: files.clone(),
                judged: judged.clone(),
                left_out,
                parts: Vec::new(),
            });
        }
        self.files.extend(files);
        self.judged.extend(judged);
    }

    /// Files that are all that becomes of rows of the source, in a job of several stages (`LED-2`).
    pub(crate) fn add_part(
        &mut self,
        part: DonePart,
        files: Vec<WrittenFile>,
        left_out: Vec<LeftOut>,
    ) {
        if let Some(keeper) = &self.keeper {
            keeper.add(News {
                parts: vec![part.clone()],
                files: files.clone(),
                left_out,
                ..News::default()
            });
        }
        self.parts.push(part);
        self.files.extend(files);
    }

    /// Files of a job of several stages that nobody told of so far: all rows have come.
    pub(crate) fn add_rest(&mut self, files: impl IntoIterator<Item = WrittenFile>) {
        self.files.extend(files);
    }

    /// How far an earlier run has come, where progress is kept by outputs: in a job of so many stages, or one that has had several.
    /// `steps`: of the first stage of two.
    pub(crate) fn outputs_left(
        &mut self,
        stages: usize,
        steps: Option<u32>,
    ) -> Option<OutputsLeft> {
        if self.identity.is_none() || !(stages > 1 || self.left.is_by_output()) {
            return None;
        }
        let job = self.job_folder();
        Some(self.left.outputs_left(&job, stages > 1, steps))
    }

    /// From here on nobody but this one says what is done.
    pub(in crate::ledger) fn end_keeper(&mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        let KeeperEnd {
            book,
            synced,
            left_out,
        } = keeper.end();
        self.book = book;
        self.left_out = left_out;
        self.synced = synced;
    }

    /// The job has failed, or was ended. Leaves what is done to whoever runs it again.
    pub(in crate::ledger) fn leave(&mut self) {
        let has_progress = self.identity.is_some()
            && (self.done.count() > 0 || !self.parts.is_empty() || self.has_journals());
        if !has_progress {
            return;
        }
        match self.keep_done() {
            // Nobody takes it back.
            Ok(()) => self.job_file = None,
            Err(error) => {
                tracing::warn!(%error, folder = %self.target.display(), "what is done could not be kept");
            }
        }
    }

    fn has_journals(&self) -> bool {
        let entries = fs::read_dir(self.job_folder());
        entries.is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| journal::is_journal(&entry.file_name().to_string_lossy()))
        })
    }

    fn keep_done(&mut self) -> io::Result<()> {
        self.sync_made()?;
        self.write_done()?;
        let book = self.book.as_ref().ok_or_else(no_book)?;
        book.sync(&self.target, &self.prefix)
    }

    /// Says of all files, which are on the disk, that they are there (`LED-1`); the disk may lose this until the ledger is synced.
    pub(super) fn write_done(&mut self) -> io::Result<()> {
        let all = News {
            inputs: self.done.clone(),
            parts: self.parts.clone(),
            files: self.files.clone(),
            judged: self.judged.clone(),
            left_out: std::mem::take(&mut self.left_out),
        };
        let done = keeper::done(&self.target, all);
        self.book
            .as_mut()
            .ok_or_else(no_book)?
            .write(Entry::Done(done))
    }

    /// Brings to the disk what was made, and the names by which it and the ledger are found.
    pub(super) fn sync_made(&self) -> io::Result<()> {
        let all = self.files.iter().chain(&self.letters);
        let others = all.map(|file| file.unfinished.as_str());
        let others = others
            .filter(|path| !self.synced.contains(*path))
            .map(Path::new);
        let (job, [ledgers, target]) = (self.job_folder(), book::folders(&self.target));
        durable::sync_together(&others.collect::<Vec<_>>(), &[&job, &ledgers, &target])
    }
}
