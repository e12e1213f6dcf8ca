//! Outputs of one job, which become visible together.
//!
//! ```text
//!  first    committing, names change ─────────────► finished ──────────────► removed, the last of all
//!  others        committing, names change ────┐        │    └─► finished ─► removed
//!  elsewhere                        published ┘        └ the decision
//! ```
//! The first local one has the last word on all: its ledger names the others, and theirs name it. Before it says that it is
//! finished, all are undone by whoever comes next, each in its folder; from then on all are final, and whoever comes next
//! finishes what the driver had no time for ([`is_final`], [`finish_others`]). So a driver may die between any two steps.
//!
//! What is published elsewhere is not taken back: it comes when all that can fail here is done, one output after the other.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;

use super::book::Book;
use super::folder::FolderOutput;
use super::record::{Committing, Entry, Finished, Member, Told, path_of};

/// Why outputs are not visible.
#[derive(Debug)]
pub(crate) struct NotVisible {
    /// Which of them could not be; `None`: the job had failed before.
    pub(crate) output: Option<usize>,
    pub(crate) failure: TaskFailure,
}

/// Ends all outputs of a job, whose columns may be known: they become visible together, or, if the job or this failed, none does.
pub(crate) fn close_together(
    outputs: Vec<(FolderOutput, Option<SchemaRef>)>,
    outcome: Result<(), TaskFailure>,
) -> Result<(), NotVisible> {
    let (mut outputs, schemas): (Vec<FolderOutput>, Vec<Option<SchemaRef>>) =
        outputs.into_iter().unzip();
    outputs.iter_mut().for_each(FolderOutput::end_keeper);
    let whole = outcome.map_err(|failure| NotVisible {
        output: None,
        failure,
    });
    let whole = whole.and_then(|()| {
        each(&mut outputs, |index, output| {
            output.make_whole(schemas[index].as_ref())
        })
    });
    if whole.is_err() {
        if let [first, others @ ..] = outputs.as_mut_slice() {
            first.leave(others);
        }
        return whole;
    }
    let committed = commit(&mut outputs);
    if committed.is_err() {
        outputs.iter_mut().for_each(FolderOutput::give_up);
    }
    // What decides for others goes after them.
    while outputs.pop().is_some() {}
    committed
}

fn each(
    outputs: &mut [FolderOutput],
    mut act: impl FnMut(usize, &mut FolderOutput) -> Result<(), TaskFailure>,
) -> Result<(), NotVisible> {
    for (index, output) in outputs.iter_mut().enumerate() {
        act(index, output).map_err(|failure| NotVisible {
            output: Some(index),
            failure,
        })?;
    }
    Ok(())
}

fn commit(outputs: &mut [FolderOutput]) -> Result<(), NotVisible> {
    let near = |act: fn(&mut FolderOutput) -> Result<(), TaskFailure>| {
        move |_: usize, output: &mut FolderOutput| {
            if output.is_far() { Ok(()) } else { act(output) }
        }
    };
    each(outputs, near(FolderOutput::bring_to_disk))?;
    if let [first, others @ ..] = &mut *outputs {
        let told = first.tell_all(others);
        told.map_err(|failure| NotVisible {
            output: Some(0),
            failure,
        })?;
    }
    each(outputs, near(FolderOutput::give_names))?;
    let first = outputs.iter().position(|output| !output.is_far());
    let members = members(outputs, first)?;
    each(outputs, |index, output| match members.get(&index) {
        Some((decided_by, decides_for)) => output.show(decided_by.clone(), decides_for.clone()),
        None => Ok(()),
    })?;
    each(outputs, |_, output| {
        if output.is_far() {
            output.publish()
        } else {
            Ok(())
        }
    })?;
    let Some(first) = first else { return Ok(()) };
    let decided = outputs[first].decide();
    decided.map_err(|failure| NotVisible {
        output: Some(first),
        failure,
    })?;
    finish(outputs, first);
    Ok(())
}

/// Of each local output, by its place: who decides for it, and for whom it does.
type Members = HashMap<usize, (Option<Member>, Vec<Member>)>;

fn members(outputs: &[FolderOutput], first: Option<usize>) -> Result<Members, NotVisible> {
    let Some(first) = first else {
        return Ok(Members::new());
    };
    let decider = &outputs[first];
    let (mut members, mut decides_for) = (Members::new(), Vec::new());
    for (index, output) in outputs.iter().enumerate() {
        if index == first || output.is_far() {
            continue;
        }
        let known = output.member(decider).and_then(|by| {
            decides_for.push(decider.member(output)?);
            Ok(by)
        });
        let by = known.map_err(|failure| NotVisible {
            output: Some(index),
            failure,
        })?;
        members.insert(index, (Some(by), Vec::new()));
    }
    members.insert(first, (None, decides_for));
    Ok(members)
}

/// All is final. What cannot be tidied up is left to whoever comes next.
fn finish(outputs: &mut [FolderOutput], first: usize) {
    let mut is_tidy = true;
    for (index, output) in outputs.iter_mut().enumerate() {
        if index != first && !output.is_far() {
            let tidied = output.decide().and_then(|()| output.tidy());
            is_tidy &= tidied.map_err(|failure| said(&failure)).is_ok();
            output.take_nothing_back();
        }
    }
    let decider = &mut outputs[first];
    if is_tidy && let Err(failure) = decider.tidy() {
        said(&failure);
    }
    decider.take_nothing_back();
}

fn said(failure: &TaskFailure) {
    tracing::warn!(%failure, "a job has succeeded, and has left something hidden");
}

/// Whether an output of a job that is dead counts: its own ledger says so, or that of the output that decides for it.
pub(super) fn is_final(told: &Told, target: &Path, prefix: &str) -> io::Result<bool> {
    if told.is_finished {
        return Ok(true);
    }
    let Some(decider) = decided_by(told) else {
        return Ok(false);
    };
    let folder = fs::canonicalize(target)?.join(&decider.folder);
    let decided = Told::read(&path_of(&folder, &decider.prefix))?;
    if decided.is_finished && decides_for(&decided, prefix) {
        return Ok(true);
    }
    // Somebody may have finished it meanwhile, and removed the other one then.
    Ok(Told::read(&path_of(target, prefix))?.is_finished)
}

fn decided_by(told: &Told) -> Option<&Member> {
    told.committing.as_ref()?.decided_by.as_ref()
}

/// Whether the job with this prefix is among those: a later run of the one that decides, which goes on with its work, has others.
fn decides_for(told: &Told, prefix: &str) -> bool {
    let members = told.committing.iter();
    let mut members = members.flat_map(|committing| &committing.decides_for);
    members.any(|member| member.prefix == prefix)
}

/// Before the ledger in `target` goes that has decided for others: says to them that they are final.
pub(super) fn finish_others(target: &Path, committing: &Committing) -> io::Result<()> {
    if committing.decides_for.is_empty() {
        return Ok(());
    }
    let target = fs::canonicalize(target)?;
    for Member { folder, prefix } in &committing.decides_for {
        let other = target.join(folder);
        let told = Told::read(&path_of(&other, prefix))?;
        if told.committing.is_none() || told.is_finished {
            // It is gone, or has been told.
            continue;
        }
        let mut book = Book::go_on(&other, prefix, told.bytes)?;
        book.write(Entry::Finished(Finished {}))?;
        book.sync(&other, prefix)?;
    }
    Ok(())
}

/// The way from one folder to another, both of which are there.
pub(super) fn way(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let (from, to) = (fs::canonicalize(from)?, fs::canonicalize(to)?);
    let common = from.components().zip(to.components());
    let common = common.take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    Ok(up.chain(to.components().skip(common)).collect())
}
