//! What tells one job from another.

use std::path::{Path, PathBuf};

use super::record::Trait;
use crate::graph::KeptFunctions;

/// Of a job that is taken up when it was left unfinished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobIdentity {
    /// All that would make it another job, if it were different.
    pub traits: Vec<Trait>,
    /// The job is there, unfinished, under the prefix of this one.
    pub takes_up: bool,
    /// If it has several outputs, which of these this is.
    pub together: Option<OneOfSeveral>,
    /// If it runs in legs, what is kept on the way.
    pub kept: KeptFunctions,
}

/// One of several outputs, which are all taken up or none. They have one prefix and one identity; the ledger of the first, which
/// decides for all, says what is done of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOfSeveral {
    /// Its place among them.
    pub place: usize,
    /// The absolute paths of the folders of all of them.
    pub folders: Vec<PathBuf>,
}

impl JobIdentity {
    /// The folders of the job whose files the ledger of this output knows, which is in `own`; none: another one knows its.
    pub(super) fn kept_folders(&self, own: &Path) -> Vec<PathBuf> {
        match &self.together {
            None => vec![own.to_owned()],
            Some(OneOfSeveral { place: 0, folders }) => folders.clone(),
            Some(_) => Vec::new(),
        }
    }
}

/// The names of what is different, in the order of the second job.
pub(super) fn differences(one: &[Trait], other: &[Trait]) -> Vec<String> {
    let value = |traits: &[Trait], name: &str| {
        let found = traits.iter().find(|known| known.name == name);
        found.map(|known| known.value.clone())
    };
    let all = other.iter().chain(one).map(|known| &known.name);
    let mut different: Vec<String> = Vec::new();
    for name in all {
        if value(one, name) != value(other, name) && !different.contains(name) {
            different.push(name.clone());
        }
    }
    different
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(traits: &[(&str, &str)]) -> Vec<Trait> {
        let made = |&(name, value): &(&str, &str)| Trait {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        traits.iter().map(made).collect()
    }

    #[test]
    fn what_is_changed_new_or_gone_is_named_once() {
        let before = job(&[("function f", "1"), ("input", "2"), ("function g", "3")]);
        let now = job(&[("function f", "9"), ("input", "2"), ("function h", "3")]);
        assert_eq!(
            differences(&before, &now),
            ["function f", "function h", "function g"]
        );
        assert_eq!(differences(&now, &now), Vec::<String>::new());
    }
}
