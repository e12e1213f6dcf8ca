//! How a fork becomes a worker.
//!
//! What can fail for want of something (a folder, a descriptor, room on the disk) is done in the zygote, before the fork:
//! its failure is an answer to the raylet, which names it to whoever waits for the worker.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use aktis_common::zygote::WorkerStart;
use rustix::process::Signal;

/// Workers are the first that the kernel takes when memory runs out, with what they start; never the driver or a daemon.
const OOM_SCORE: &str = "1000";

/// A worker cannot be made, and why: for people.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// One of its files cannot be opened.
    #[error("cannot open {path}: {source}{}", hint(.source))]
    File {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A system call of the child failed.
    #[error("the forked process cannot {step}: {source}")]
    Child {
        /// What it was to do.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What helps against a shortage.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error)
    {
        Some(rustix::io::Errno::MFILE) => {
            " (this process has no descriptor left: raise its hard limit, as by `ulimit -Hn`)"
        }
        Some(rustix::io::Errno::NFILE) => " (the machine has no descriptor left: `fs.file-max`)",
        Some(rustix::io::Errno::AGAIN) => {
            " (no process may be added: look at `ulimit -u` and at the limit of pids of the container)"
        }
        Some(rustix::io::Errno::NOMEM) => " (there is no memory left)",
        Some(rustix::io::Errno::NOSPC) => " (the disk is full)",
        _ => "",
    }
}

/// The standard streams of a worker, open.
pub(super) struct Streams {
    input: File,
    output: File,
    errors: File,
}

impl Streams {
    /// Opens the files of a worker; in the zygote.
    pub(super) fn open(start: &WorkerStart) -> Result<Self, BirthError> {
        Ok(Self {
            input: open(Path::new("/dev/null"), OpenOptions::new().read(true))?,
            output: open_log(&start.stdout_path)?,
            errors: open_log(&start.stdout_path.with_extension("err"))?,
        })
    }
}

fn open_log(path: &Path) -> Result<File, BirthError> {
    open(path, OpenOptions::new().create(true).append(true))
}

fn open(path: &Path, options: &OpenOptions) -> Result<File, BirthError> {
    options.open(path).map_err(|source| BirthError::File {
        path: path.display().to_string(),
        source,
    })
}

/// In a fresh child: death with its parent, a process group of its own, its own streams; and what it starts is its own
/// for as long as it lives, also what calls `setsid` and loses its parent.
pub(super) fn become_worker(streams: Streams) -> Result<(), BirthError> {
    let failed = |step| {
        move |error: rustix::io::Errno| BirthError::Child {
            step,
            source: error.into(),
        }
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("tie its life to the zygote's"))?;
    rustix::process::setpgid(None, None).map_err(failed("make a process group"))?;
    adopt_orphans().map_err(failed("keep what it will start"))?;
    rustix::stdio::dup2_stdout(streams.output).map_err(failed("redirect its output"))?;
    rustix::stdio::dup2_stderr(streams.errors).map_err(failed("redirect its errors"))?;
    rustix::stdio::dup2_stdin(streams.input).map_err(failed("redirect its input"))?;
    // Refused where /proc is read-only: then the kernel chooses as it does.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    Ok(())
}

/// Processes below this one that lose their parent become its children.
pub(super) fn adopt_orphans() -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}
