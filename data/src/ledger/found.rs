//! What a leg has found that counts over all rows of a job, for runs that begin behind it: the file `found` in its folder
//! (`docs/ledger.md`).
//!
//! It is on the disk before files of the leg get their names, and counts when these have them.

use std::fs;
use std::io;
use std::path::Path;

use prost::Message;

use super::durable;
use super::frames;

/// The name of the file.
const FOUND: &str = "found";

/// What a leg has found.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LegFound {
    /// Of each step that may leave rows out.
    #[prost(message, repeated, tag = "1")]
    pub(crate) left_out: Vec<LeftOutOfLeg>,
    /// Of each expectation.
    #[prost(message, repeated, tag = "2")]
    pub(crate) judged: Vec<JudgedOfLeg>,
    /// Rows that were put aside, which lie in the leg's folder as they do beside any output.
    #[prost(uint64, tag = "3")]
    pub(crate) letters: u64,
}

/// What one step has left out.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeftOutOfLeg {
    /// The step. Of several with one name, those that come first are told first.
    #[prost(string, tag = "1")]
    pub(crate) step: String,
    /// Rows that came to it.
    #[prost(uint64, tag = "2")]
    pub(crate) rows_in: u64,
    /// Those that were left out.
    #[prost(uint64, tag = "3")]
    pub(crate) rows: u64,
    /// Batches that they were in.
    #[prost(uint64, tag = "4")]
    pub(crate) batches: u64,
    /// What the last one failed with.
    #[prost(string, tag = "5")]
    pub(crate) last: String,
}

/// What was found of one expectation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JudgedOfLeg {
    /// The expectation; of several with one name as with steps.
    #[prost(string, tag = "1")]
    pub(crate) expectation: String,
    /// Rows that came to it.
    #[prost(uint64, tag = "2")]
    pub(crate) rows: u64,
    /// For how many of these it does not hold.
    #[prost(uint64, tag = "3")]
    pub(crate) violations: u64,
    /// All rows have come that there are.
    #[prost(bool, tag = "4")]
    pub(crate) is_over: bool,
}

impl LegFound {
    /// Brings it to the disk, in the folder of its leg.
    pub(super) fn write(&self, leg: &Path) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames::push(&mut bytes, self);
        let path = leg.join(FOUND);
        fs::write(&path, bytes)?;
        durable::sync_together(&[&path], &[leg])
    }

    /// Reads that of a leg; `None`: it is not there, or not whole.
    pub(super) fn read(leg: &Path) -> io::Result<Option<Self>> {
        match fs::read(leg.join(FOUND)) {
            Ok(bytes) => Ok(frames::read(&bytes).0.pop()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_taken_for_removed() {
        let leg = tempfile::tempdir().expect("a temporary folder");
        let read = || LegFound::read(leg.path());
        assert_eq!(read().expect("looks"), None);
        let found = LegFound {
            letters: 3,
            ..LegFound::default()
        };
        found.write(leg.path()).expect("writes");
        assert_eq!(read().expect("reads"), Some(found));
        let path = leg.path().join(FOUND);
        fs::write(&path, b"torn").expect("writes");
        assert_eq!(read().expect("reads"), None);
        fs::remove_file(&path).expect("removes");
        // Root may read what nobody else may: a folder in its place fails for everybody.
        fs::create_dir(&path).expect("makes a folder");
        assert!(read().is_err());
    }
}
