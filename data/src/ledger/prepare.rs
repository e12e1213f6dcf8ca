//! The folder that files are written into, before the first of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::identity::differences;
use super::leftovers::{self, Unfinished};
use super::legs::LegFolders;
use super::record::{Begun, FORMAT, Trait, path_of};
use crate::error::PlanError;
use crate::storage::local_folder;

/// What to do with a folder that has files already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveMode {
    /// Add files.
    #[default]
    Append,
    /// Put the new files in the place of what is there, when they are whole.
    Overwrite,
    /// Write nothing if the folder is there.
    Ignore,
    /// Fail if the folder is there.
    Error,
}

impl SaveMode {
    /// Reads the names that Ray uses.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "append" => Self::Append,
            "overwrite" => Self::Overwrite,
            "ignore" => Self::Ignore,
            "error" => Self::Error,
            _ => return None,
        })
    }
}

/// Whether an unfinished job is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// If there is one.
    #[default]
    Auto,
    /// There must be one.
    Demanded,
    /// Never: what is left of one is removed.
    Never,
}

/// What is to be written, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method of the user, for messages: `write_csv`.
    pub operation: &'a str,
    /// The folder, as the user wrote it.
    pub folder: &'a str,
    /// What to do with files that are there.
    pub mode: SaveMode,
    /// What tells the job from others; nothing: it cannot be taken up.
    pub identity: &'a [Trait],
    /// Whether it is.
    pub resume: Resume,
}

/// A folder that may be written into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedFolder {
    /// Its absolute path.
    pub path: PathBuf,
    /// What jobs that ended badly have left in it, for people.
    pub warnings: Vec<String>,
    /// The unfinished job to go on with.
    pub takes_up: Option<TakesUp>,
}

/// An unfinished job that is gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakesUp {
    /// What the names of its files begin with.
    pub prefix: String,
    /// How many of its inputs are done; of a job in legs, those of the last one.
    pub done: u64,
    /// How many there are; 0: it has not come so far.
    pub inputs: u64,
    /// How many legs before the last one are finished.
    pub legs_done: u64,
    /// How many there are; 0: it runs in none.
    pub legs: u64,
}

/// Looks whether the folder may be written into; `None`: nothing shall be written. Changes nothing but what jobs that
/// were killed have left there.
pub fn prepare_folder(request: Request<'_>) -> Result<Option<PreparedFolder>, PlanError> {
    let Request {
        operation,
        folder: text,
        mode,
        ..
    } = request;
    let path = local_folder(text)?;
    if path.is_file() {
        return Err(PlanError::InvalidArgument(format!(
            "{operation}({text:?}): this is a file; give a folder, which will receive one file per part"
        )));
    }
    let not_writable = |error: std::io::Error| PlanError::not_writable(text, &error);
    let mut warnings = Vec::new();
    if request.resume != Resume::Never {
        let unfinished = leftovers::unfinished(&path).map_err(not_writable)?;
        match choose(&request, &path, unfinished) {
            Chosen::Job(job) => {
                let of_begun =
                    |number: fn(&Begun) -> u64| job.told.begun.as_ref().map_or(0, number);
                let takes_up = Some(TakesUp {
                    done: job.told.inputs_done(),
                    inputs: of_begun(|begun| begun.inputs),
                    legs_done: LegFolders::of(&path, &job.prefix).count_done(),
                    legs: of_begun(|begun| begun.legs),
                    prefix: job.prefix,
                });
                return Ok(Some(PreparedFolder {
                    path,
                    warnings,
                    takes_up,
                }));
            }
            Chosen::None(why) if request.resume == Resume::Demanded => {
                return Err(PlanError::InvalidArgument(format!(
                    "{operation}({text:?}, resume=True): {}; resume=\"auto\" begins anew where there is nothing to go on with",
                    why.unwrap_or_else(|| "there is no unfinished job of this kind".to_owned())
                )));
            }
            Chosen::None(why) => warnings.extend(why),
        }
    }
    warnings.extend(leftovers::clear(&path, leftovers::BEGUN_FOR).map_err(not_writable)?);
    match mode {
        SaveMode::Ignore if path.is_dir() => return Ok(None),
        SaveMode::Error if path.is_dir() => {
            return Err(PlanError::InvalidArgument(format!(
                "{operation}({text:?}, mode=\"error\"): the folder {}; mode=\"append\" adds files to it, \"overwrite\" \
                 replaces them",
                if is_empty(&path) {
                    "is there already, although empty"
                } else {
                    "has files already"
                }
            )));
        }
        _ => {}
    }
    Ok(Some(PreparedFolder {
        path,
        warnings,
        takes_up: None,
    }))
}

/// Whether an unfinished job lies in the folder that another run of it could go on with, and what path it has.
pub fn has_unfinished(folder: &str) -> Result<(PathBuf, bool), PlanError> {
    let path = local_folder(folder)?;
    let jobs = leftovers::unfinished(&path);
    let jobs = jobs.map_err(|error| PlanError::not_writable(folder, &error))?;
    let is_one = |job: &Unfinished| {
        let begun = job.told.begun.as_ref();
        begun.is_some_and(|begun| !begun.identity.is_empty())
    };
    Ok((path, jobs.iter().any(is_one)))
}

enum Chosen {
    Job(Box<Unfinished>),
    /// Why not, if there was something.
    None(Option<String>),
}

/// The unfinished job that is this one. Of several, that which has come farthest.
fn choose(request: &Request<'_>, folder: &Path, jobs: Vec<Unfinished>) -> Chosen {
    let demands = request.resume == Resume::Demanded;
    let mut why = None;
    let mut same: Vec<Unfinished> = Vec::new();
    for job in jobs {
        let Some(begun) = job
            .told
            .begun
            .as_ref()
            .filter(|begun| !begun.identity.is_empty())
        else {
            continue;
        };
        let done = job.told.inputs_done();
        if begun.format != FORMAT {
            why = Some(format!(
                "an unfinished job there was written by another version (format {})",
                begun.format
            ));
        } else if let Some(keeper) = &begun.kept_by {
            let path = path_of(&folder.join(&keeper.folder), &keeper.prefix);
            why = Some(format!(
                "an output of an unfinished job is there, which writes several together, and goes on only as a whole: {} says what is \
                 done of it. Its files here do not count any more",
                path.display()
            ));
        } else if request.identity.is_empty() {
            why = Some("an unfinished job is there, but this one cannot go on with it".to_owned());
        } else if job.may_live && !demands {
            // It is named when leftovers are looked for.
        } else {
            let different = differences(&begun.identity, request.identity);
            if different.is_empty() {
                same.push(job);
                continue;
            }
            let of_legs = match begun.legs {
                0 => format!("{done} of {} inputs done", begun.inputs),
                legs => {
                    let finished = LegFolders::of(folder, &job.prefix).count_done();
                    format!("{finished} of {} legs finished", legs + 1)
                }
            };
            why = Some(format!(
                "an unfinished job is there, with {of_legs}, but what it does has changed: {}. {}",
                different.join(", "),
                "What it has done does not count any more"
            ));
        }
    }
    let come_so_far = |job: &Unfinished| {
        let legs = LegFolders::of(folder, &job.prefix).count_done();
        (legs, job.told.inputs_done())
    };
    match same.into_iter().max_by_key(come_so_far) {
        Some(job) => Chosen::Job(Box::new(job)),
        None => Chosen::None(why),
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
