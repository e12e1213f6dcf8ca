//! What of a job's output is done, told to the ledger while it runs, and left there if it fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{FolderOutput, no_book};
use crate::error::PlanError;
use crate::ledger::keeper::{Keeper, KeeperEnd, News};
use crate::ledger::left_out::LeftOut;
use crate::ledger::ranges::DoneRanges;
use crate::ledger::record::{Begun, Entry, FORMAT, JudgedRows, Member};
use crate::ledger::taken_up::{OutputsLeft, TakenUp};
use crate::ledger::{DonePart, OneOfSeveral, book, durable, journal, keeper, together};
use crate::wire::spec::WrittenFile;

impl FolderOutput {
    /// What an earlier run of this job has left.
    pub(crate) fn left(&self) -> &TakenUp {
        &self.left
    }

    /// The job's input is cut into so many inputs, for so many workers. From here on its progress is kept, if it has an identity.
    pub(crate) fn keep(&mut self, workers: u64, inputs: u64) -> Result<(), PlanError> {
        if self.is_made_as_a_whole {
            return Ok(());
        }
        if let Some(known) = &self.left.begun
            && !known.is_before_its_last_leg()
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
        match &self.left.begun {
            None => {
                let identity = self.identity.as_ref();
                book.write(Entry::Begun(Begun {
                    format: FORMAT,
                    is_new: self.is_new,
                    identity: identity.map_or_else(Vec::new, |identity| identity.traits.clone()),
                    workers,
                    inputs,
                    runs: 0,
                    kept_by: self.kept_by()?,
                    legs: 0,
                }))?;
            }
            Some(begun) if begun.is_before_its_last_leg() => {
                book.write(Entry::Begun(Begun {
                    workers,
                    inputs,
                    ..begun.clone()
                }))?;
            }
            Some(_) => {}
        }
        if self.keeps() {
            let folders = self.kept_folders();
            self.keeper = Some(Keeper::start(book, folders, &self.prefix)?);
        } else {
            self.book = Some(book);
        }
        Ok(())
    }

    /// The output of the job that keeps what is done of this one, if it is another.
    fn kept_by(&self) -> io::Result<Option<Member>> {
        let together = self.identity.as_ref().and_then(|one| one.together.as_ref());
        let Some(OneOfSeveral { folders, .. }) = together.filter(|one| one.place > 0) else {
            return Ok(None);
        };
        let way = together::way(&self.target, &folders[0])?;
        Ok(Some(Member {
            folder: way.display().to_string(),
            prefix: self.prefix.clone(),
        }))
    }

    /// Where an input's journal lies, if there are journals.
    pub(crate) fn journal_folder(&self) -> Option<PathBuf> {
        let identity = self.identity.as_ref();
        // What is noted becomes an output by itself, which would miss the rows of all others.
        let is_one = identity.is_some_and(|identity| identity.together.is_none());
        (is_one && !self.is_made_as_a_whole).then(|| self.job_folder())
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

    /// Files that are all that becomes of rows of the source, in a job of several stages (`LED-2`), and what was found on the way.
    pub(crate) fn add_part(
        &mut self,
        part: DonePart,
        files: &[WrittenFile],
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOut>,
    ) {
        if let Some(keeper) = &self.keeper {
            keeper.add(News {
                parts: vec![part.clone()],
                files: files.to_vec(),
                judged: judged.clone(),
                left_out,
                ..News::default()
            });
        }
        self.parts.push(part);
        self.judged.extend(judged);
    }

    /// A file of a job of several stages, which becomes visible with the others.
    pub(crate) fn add_file(&mut self, file: WrittenFile) {
        self.files.push(file);
    }

    /// Rows of the files so far.
    pub(crate) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Of what an earlier run has left, the files of other outputs of the job.
    pub(crate) fn take_files_of_others(&mut self) -> Vec<WrittenFile> {
        let files = self.left.files.iter().filter(|file| file.output > 0);
        files.cloned().collect()
    }

    /// How far an earlier run has come, where progress is kept by outputs: in a job of so many stages, or one that has had several.
    /// `steps`: of the first stage of two.
    pub(crate) fn outputs_left(
        &mut self,
        stages: usize,
        steps: Option<u32>,
    ) -> Option<OutputsLeft> {
        let is_kept = self.is_kept() && !self.is_made_as_a_whole;
        if !is_kept || !(stages > 1 || self.left.is_by_output()) {
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

    /// The job has failed, or was ended. Leaves what is done, of all outputs that go on with this one, to whoever runs it again; if
    /// nothing is, nothing is left.
    pub(in crate::ledger) fn leave(&mut self, others: &mut [Self]) {
        if !self.keeps() || !self.has_progress() {
            return;
        }
        match self.keep_done(others) {
            // Nobody takes it back.
            Ok(()) => {
                self.take_nothing_back();
                let others = others.iter_mut().filter(|other| other.is_kept());
                others.for_each(Self::take_nothing_back);
            }
            Err(error) => {
                tracing::warn!(%error, folder = %self.target.display(), "what is done could not be kept");
            }
        }
    }

    fn has_progress(&self) -> bool {
        let mut parts = self.parts.iter();
        self.done.count() > 0
            || parts.any(|part| !part.is_end())
            || self.has_journals()
            || self.legs().are_there()
    }

    pub(super) fn has_journals(&self) -> bool {
        let entries = fs::read_dir(self.job_folder());
        entries.is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| journal::is_journal(&entry.file_name().to_string_lossy()))
        })
    }

    fn keep_done(&mut self, others: &[Self]) -> io::Result<()> {
        if self.is_made_as_a_whole {
            return self.sweep_own();
        }
        for other in others.iter().filter(|other| other.is_kept()) {
            other.sync_made()?;
        }
        self.sync_made()?;
        self.write_done(others)?;
        let book = self.book.as_ref().ok_or_else(no_book)?;
        book.sync(&self.target, &self.prefix)
    }

    /// Says of all files, which are on the disk, that they are there (`LED-1`); the disk may lose this until the ledger is synced.
    /// `others`: outputs of the job, some of which may go on with this one.
    pub(super) fn write_done(&mut self, others: &[Self]) -> io::Result<()> {
        let others = others.iter().filter(|other| other.is_kept());
        let files = self.files.iter();
        let files = files.chain(others.flat_map(|other| &other.files));
        let all = News {
            inputs: self.done.clone(),
            parts: self.parts.clone(),
            files: files.cloned().collect(),
            judged: self.judged.clone(),
            left_out: std::mem::take(&mut self.left_out),
        };
        let done = keeper::done(&self.kept_folders(), all);
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
