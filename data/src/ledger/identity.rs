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

/// The most characters of a part that are shown.
const MOST_SHOWN: usize = 80;

/// The names of what is different, in the order of the second job; of what has parts, which they are.
pub(super) fn differences(one: &[Trait], other: &[Trait]) -> Vec<String> {
    let named = |traits: &[Trait], name: &str| {
        let found = traits.iter().find(|known| known.name == name);
        found.cloned()
    };
    let mut names: Vec<&String> = Vec::new();
    for known in other.iter().chain(one) {
        if !names.contains(&&known.name) {
            names.push(&known.name);
        }
    }
    let different = names.into_iter().filter_map(|name| {
        let (before, now) = (named(one, name), named(other, name));
        let is_same =
            before.as_ref().map(|known| &known.value) == now.as_ref().map(|known| &known.value);
        let parts = || {
            Some(different_parts(&before?.parts(), &now?.parts())).filter(|parts| !parts.is_empty())
        };
        (!is_same)
            .then(|| parts().map_or_else(|| name.clone(), |parts| format!("{name} ({parts})")))
    });
    different.collect()
}

/// What has come in the place of what, between the parts at both ends that are the same.
fn different_parts(before: &[(&str, &str)], now: &[(&str, &str)]) -> String {
    if before.is_empty() || now.is_empty() {
        return String::new();
    }
    let begin = before
        .iter()
        .zip(now)
        .take_while(|(one, other)| one == other)
        .count();
    let (before, now) = (&before[begin..], &now[begin..]);
    let end = before
        .iter()
        .rev()
        .zip(now.iter().rev())
        .take_while(|(one, other)| one == other)
        .count();
    let (before, now) = (&before[..before.len() - end], &now[..now.len() - end]);
    if before.len() == now.len() {
        let pairs = before.iter().zip(now);
        let changed: Vec<String> = pairs
            .filter(|((was, _), (is, _))| was != is)
            .map(|((was, _), (is, _))| format!("{} in the place of {}", shown(is), shown(was)))
            .collect();
        return match changed.is_empty() {
            // What people see of them does not say what it is.
            true => format!("the options of {}", all_shown(now)),
            false => changed.join(", "),
        };
    }
    // What people see of those at the beginning is the same.
    let pairs = before.iter().zip(now);
    let begin = pairs.take_while(|((was, _), (is, _))| was == is).count();
    let (before, now) = (&before[begin..], &now[begin..]);
    match (before.is_empty(), now.is_empty()) {
        (true, _) => format!("new: {}", all_shown(now)),
        (_, true) => format!("gone: {}", all_shown(before)),
        _ => format!("{} in the place of {}", all_shown(now), all_shown(before)),
    }
}

fn all_shown(parts: &[(&str, &str)]) -> String {
    let shown = parts.iter().map(|(words, _)| shown(words));
    shown.collect::<Vec<_>>().join(", ")
}

fn shown(words: &str) -> String {
    match words.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words.to_owned(),
    }
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

    #[test]
    fn of_what_has_parts_those_are_named_that_have_changed() {
        let named = |one: &[(&str, &str)], other: &[(&str, &str)]| {
            let steps = |parts: &[(&str, &str)]| {
                let parts = parts
                    .iter()
                    .map(|&(words, sign)| (words.to_owned(), sign.to_owned()));
                [Trait::of_parts("steps", parts.collect())]
            };
            differences(&steps(one), &steps(other))
        };
        let (a, b, c) = (("a", "1"), ("b", "2"), ("c", "3"));
        assert_eq!(named(&[a, b], &[a, b]), Vec::<String>::new());
        assert_eq!(named(&[a, b], &[a, c]), ["steps (c in the place of b)"]);
        assert_eq!(
            named(&[a, b], &[a, ("b", "9")]),
            ["steps (the options of b)"]
        );
        assert_eq!(named(&[a, c], &[a, b, c]), ["steps (new: b)"]);
        assert_eq!(named(&[a, b, c], &[c]), ["steps (gone: a, b)"]);
        assert_eq!(named(&[a, b], &[("a", "9")]), ["steps (gone: b)"]);
        // An older version has one sign of all.
        let older = [Trait::new("steps", "1")];
        let now = [Trait::of_parts(
            "steps",
            vec![("a".to_owned(), "1".to_owned())],
        )];
        assert_eq!(differences(&older, &now), ["steps"]);
        let long = "x".repeat(200);
        let shown = format!("steps (new: {}...)", "x".repeat(80));
        assert_eq!(named(&[a], &[a, (&long, "4")]), [shown]);
        assert_eq!(named(&[a], &[a, ("d\te\nf", "4")]), ["steps (new: d e f)"]);
    }
}
