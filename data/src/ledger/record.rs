//! What a ledger says: `docs/ledger.md` describes it for others.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::{Message, Oneof};

use super::frames;
use super::left_out::LeftOut;
use super::ranges::DoneRanges;
use super::spans::DonePart;
use crate::wire::spec::WrittenFile;

/// The folder in a target that has the ledgers of its jobs. Readers pass over names that begin so.
pub(super) const LEDGERS: &str = "_aktis";
/// The form that this build writes and reads.
pub(super) const FORMAT: u32 = 3;

/// One entry.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(oneof = "Entry", tags = "1, 2, 3, 4, 5")]
    pub(super) entry: Option<Entry>,
}

/// What is said.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Entry {
    /// Always the first. Each run that goes on says it once more.
    #[prost(message, tag = "1")]
    Begun(Begun),
    /// These inputs are done, and their files are on the disk.
    #[prost(message, tag = "2")]
    Done(Done),
    /// From here on names change.
    #[prost(message, tag = "3")]
    Committing(Committing),
    /// The output is final.
    #[prost(message, tag = "4")]
    Finished(Finished),
    /// What `Committing` had begun was undone.
    #[prost(message, tag = "5")]
    Undone(Finished),
}

/// What job this is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Begun {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// The target was not there before.
    #[prost(bool, tag = "2")]
    pub(super) is_new: bool,
    /// What tells it from other jobs; nothing: it is not taken up again.
    #[prost(message, repeated, tag = "3")]
    pub(super) identity: Vec<Trait>,
    /// How many workers its input was cut for.
    #[prost(uint64, tag = "4")]
    pub(super) workers: u64,
    /// How many inputs that gave.
    #[prost(uint64, tag = "5")]
    pub(super) inputs: u64,
    /// How many runs have gone on with it.
    #[prost(uint64, tag = "6")]
    pub(super) runs: u64,
    /// The output of the same job whose ledger says what is done of this one.
    #[prost(message, optional, tag = "7")]
    pub(super) kept_by: Option<Member>,
    /// In how many legs it runs before the one that writes its output.
    #[prost(uint64, tag = "8")]
    pub(super) legs: u64,
}

impl Begun {
    /// Whether nobody knows yet what its output is made of: it has not come to its last leg.
    pub(super) fn is_before_its_last_leg(&self) -> bool {
        self.legs > 0 && self.inputs == 0
    }
}

/// One thing that makes a job what it is: `function embed`, and a digest of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Trait {
    /// For people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Equal if and only if the thing is the same.
    #[prost(string, tag = "2")]
    pub value: String,
}

impl Trait {
    /// Of this name.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// Of something that has parts: each for people, and a sign of it that says nothing to them. Of what is different it is told which part is.
    pub fn of_parts(name: impl Into<String>, parts: Vec<(String, String)>) -> Self {
        let line = |(words, sign): (String, String)| {
            let words = words.replace(['\n', PARTED], " ");
            format!("{words}{PARTED}{sign}")
        };
        let lines: Vec<String> = parts.into_iter().map(line).collect();
        Self::new(name, lines.join("\n"))
    }

    /// Each part for people, and its sign; none: it has none.
    pub(super) fn parts(&self) -> Vec<(&str, &str)> {
        let lines = self.value.lines();
        lines.filter_map(|line| line.split_once(PARTED)).collect()
    }
}

/// Between what people read of a part and its sign.
const PARTED: char = '\t';

/// Inputs that are done.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Done {
    /// Their places in the order of the source, as ranges: begin and end, begin and end.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) inputs: Vec<u64>,
    /// Paths are from the folder of their output on.
    #[prost(message, repeated, tag = "2")]
    pub(super) files: Vec<WrittenFile>,
    /// What expectations have found in them.
    #[prost(message, repeated, tag = "3")]
    pub(super) judged: Vec<JudgedRows>,
    /// Of jobs of several stages, in the place of inputs.
    #[prost(message, repeated, tag = "4")]
    pub(super) parts: Vec<DonePart>,
    /// Rows that were left out of inputs.
    #[prost(message, repeated, tag = "5")]
    pub(super) left_out: Vec<LeftOut>,
}

/// Rows of an input that an expectation has judged.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct JudgedRows {
    /// In a job of one stage: the input, by its place in the order of the source.
    #[prost(uint64, tag = "1")]
    pub(crate) input: u64,
    /// The expectation, by the place of its step, counted through all stages; what is read has 0.
    #[prost(uint32, tag = "2")]
    pub(crate) operator: u32,
    /// How many.
    #[prost(uint64, tag = "3")]
    pub(crate) rows: u64,
    /// For how many of these it does not hold.
    #[prost(uint64, tag = "4")]
    pub(crate) violations: u64,
    /// In a job of several stages, in the place of the input: the attempt that has used it up.
    #[prost(uint64, optional, tag = "5")]
    pub(crate) attempt: Option<u64>,
    /// With that: an output that counts together with this, if there is one.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) output: Option<u64>,
}

impl JudgedRows {
    /// The last word on what has the same counts.
    fn key(&self) -> (Option<u64>, u64, u32) {
        (self.attempt, self.input, self.operator)
    }
}

/// Names that change.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Committing {
    /// Entries of the target that go into the job's folder `old`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) replaced: Vec<Bytes>,
    /// Files that become visible.
    #[prost(message, repeated, tag = "2")]
    pub(super) renames: Vec<Rename>,
    /// The output of the same job whose ledger says that this one is final.
    #[prost(message, optional, tag = "3")]
    pub(super) decided_by: Option<Member>,
    /// The outputs of the same job that this ledger decides for.
    #[prost(message, repeated, tag = "4")]
    pub(super) decides_for: Vec<Member>,
}

/// Another output of the same job.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Member {
    /// The way from the folder of whose ledger says this to its folder: so both may be moved together.
    #[prost(string, tag = "1")]
    pub(super) folder: String,
    #[prost(string, tag = "2")]
    pub(super) prefix: String,
}

/// A file's two names, from the target on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rename {
    #[prost(string, tag = "1")]
    pub(super) unfinished: String,
    #[prost(string, tag = "2")]
    pub(super) path: String,
}

/// Nothing more to say.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Finished {}

/// The path of a job's ledger.
pub(super) fn path_of(target: &Path, prefix: &str) -> PathBuf {
    target.join(LEDGERS).join(format!("{prefix}.ledger"))
}

/// What a ledger says, taken together.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// `None`: it ends before that.
    pub(super) begun: Option<Begun>,
    pub(super) done: DoneRanges,
    /// By their output, and the name that they have until they are visible; the last word on a file counts.
    pub(super) files: BTreeMap<(u64, String), WrittenFile>,
    /// By what they are of; the last word counts.
    pub(super) judged: BTreeMap<(Option<u64>, u64, u32), JudgedRows>,
    pub(super) parts: Vec<DonePart>,
    /// By what it is of; the last word counts.
    pub(super) left_out: BTreeMap<(Option<u64>, u64), LeftOut>,
    pub(super) committing: Option<Committing>,
    pub(super) is_finished: bool,
    /// Bytes that are whole.
    pub(super) bytes: u64,
}

impl Told {
    /// Reads a ledger; there may be none.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let (records, bytes) = frames::read::<Record>(&bytes);
        let mut told = Self {
            bytes: bytes as u64,
            ..Self::default()
        };
        records.into_iter().for_each(|record| told.hear(record));
        Ok(told)
    }

    /// Inputs of the source that are done.
    pub(super) fn inputs_done(&self) -> u64 {
        let mut ranges: HashMap<u64, DoneRanges> = HashMap::new();
        for range in self.parts.iter().flat_map(|part| &part.ranges) {
            let done = ranges.entry(range.input).or_default();
            done.add(range.from, range.to);
        }
        let whole = ranges.iter().filter(|(input, done)| {
            let is_counted = self.done.contains(**input);
            done.is_whole() && !is_counted
        });
        self.done.count() + whole.count() as u64
    }

    fn hear(&mut self, record: Record) {
        match record.entry {
            Some(Entry::Begun(begun)) => self.begun = Some(begun),
            Some(Entry::Done(done)) => {
                for range in done.inputs.chunks_exact(2) {
                    self.done.add(range[0], range[1]);
                }
                self.parts.extend(done.parts);
                let left_out = done.left_out.into_iter();
                self.left_out.extend(left_out.map(|one| (one.key(), one)));
                let files = done.files.into_iter();
                self.files
                    .extend(files.map(|file| ((file.output, file.unfinished.clone()), file)));
                let judged = done.judged.into_iter();
                self.judged.extend(judged.map(|rows| (rows.key(), rows)));
            }
            Some(Entry::Committing(committing)) => self.committing = Some(committing),
            Some(Entry::Finished(Finished {})) => self.is_finished = true,
            Some(Entry::Undone(Finished {})) => self.committing = None,
            // Of another format, which `Begun` says.
            None => {}
        }
    }
}
