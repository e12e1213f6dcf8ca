//! What the files of an input are called.

use std::path::PathBuf;

use super::Written;
use crate::ledger::unfinished_folder;

/// Where the files of an input go, or those of one partition of it, and what their names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStem {
    /// Absolute path of the job's target.
    target: PathBuf,
    prefix: String,
    input: Written,
    /// The folder of the partition, from the target on, and which of the input's this is.
    partition: Option<(String, u64)>,
}

impl FileStem {
    /// Of all files of an input.
    pub(super) fn new(target: &str, prefix: &str, input: Written) -> Self {
        Self {
            target: PathBuf::from(target),
            prefix: prefix.to_owned(),
            input,
            partition: None,
        }
    }

    /// Of those in a folder of their own, the input's `number`th.
    pub(super) fn in_partition(&self, folder: &str, number: u64) -> Self {
        Self {
            partition: Some((folder.to_owned(), number)),
            ..self.clone()
        }
    }

    /// The place of the input in the order of its stage.
    pub(super) fn sequence(&self) -> u64 {
        self.input.sequence
    }

    /// What names begin with where the files lie until they are visible: nobody but this attempt uses it.
    pub(super) fn unfinished_name(&self) -> String {
        let Self { prefix, input, .. } = self;
        let of_partition = self.partition.as_ref();
        let of_partition =
            of_partition.map_or_else(String::new, |(_, number)| format!("_{number:06}"));
        format!(
            "{}{prefix}_{:06}{of_partition}",
            self.attempt(),
            input.sequence
        )
    }

    /// The part of these names that visible ones do not have.
    fn attempt(&self) -> String {
        format!("{}-", self.input.attempt)
    }

    /// Where the files lie until they are visible.
    pub(super) fn unfinished_folder(&self) -> PathBuf {
        self.target.join(unfinished_folder(&self.prefix))
    }

    /// The path that readers will see of a file that is called `unfinished` until then; `None`: it is none of these.
    pub(super) fn visible(&self, unfinished: &str) -> Option<PathBuf> {
        let name = unfinished.strip_prefix(&self.attempt())?;
        let folder = self.partition.as_ref().map(|(folder, _)| folder);
        let folder = folder.map_or_else(|| self.target.clone(), |folder| self.target.join(folder));
        Some(folder.join(name))
    }
}
