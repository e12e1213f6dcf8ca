//! The zygote: a small single-threaded process that forks workers.
//!
//! A fork of a warm process costs milliseconds and shares its pages; starting an interpreter costs a hundred times that.
//! The zygote also outlives a raylet that is killed for as long as it takes to clean up after it: when its raylet's end
//! of the socket closes, it kills its children and removes the session's folder.
//!
//! Owns: the loop that serves a raylet, how a fork becomes a worker, the ends of all that workers have started, the
//! folders of a session whose raylet is gone. Does not own: what the raylet asks for (`aktis_common::zygote` has the
//! messages), the interpreter (a [`Forker`] forks and imports), what a worker does (`aktis-worker`).
//!
//! ```text
//!  raylet ──one JSON object per line──► serve ──Forker::fork──► child: become_worker, then Served::Worker(start)
//!     ▲                                   │ ▲
//!     └───── Ready, Forked, Exited ───────┘ └── ends of children, orphans, the kernel's count of kills
//! ```
//! Cleaning up is for the process that served alone: a child that cannot become a worker says why and ends
//! ([`UNBORN_STATUS`]), and touches nothing else of the session.

mod birth;
mod children;
mod memory;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aktis_common::zygote::{WorkerStart, ZygoteReply, ZygoteRequest};
use rustix::event::{PollFd, PollFlags, Timespec};

pub use self::birth::BirthError;
use self::birth::{Streams, adopt_orphans, become_worker, hint};
use self::children::Children;
use aktis_common::marks::{Point, note};

/// How often it looks for children that nothing told of.
const POLL: Duration = Duration::from_millis(100);
/// How long it is idle before it imports what will be needed, since nothing is forked meanwhile.
const PRELOAD_AFTER: Duration = Duration::from_millis(5);

/// What a fork returned.
pub enum Forked {
    /// In the zygote: the child's process id.
    Parent(u32),
    /// In the child.
    Child,
}

/// What the zygote asks of the language it runs in.
pub trait Forker {
    /// Forks this process. The interpreter has to be told before and after.
    fn fork(&mut self) -> std::io::Result<Forked>;
    /// Imports modules that are not there yet, so that later forks share them.
    fn preload(&mut self, modules: &[String]);
}

/// What became of a process that served.
pub enum Served {
    /// It is the zygote: the raylet is gone, and everything is cleaned up.
    RayletGone,
    /// It is a child, and this is what it is to become.
    Worker(WorkerStart),
    /// It is a child that cannot become a worker. It is to say why on its standard error and to end with
    /// [`UNBORN_STATUS`]; nothing else of the session is its own.
    Unborn(BirthError),
}

/// Exit status of a child that could not become a worker.
pub const UNBORN_STATUS: i32 = 71;

/// Why a zygote serves no longer. Only the process that served sees it, so only that one cleans up.
struct RayletGone;

/// Serves the raylet at the other end of `link`. Returns in each child, and in the zygote itself when the raylet is gone:
/// then its children are killed and the folders `cleanup_dirs` removed, one after the other.
///
/// # Errors
/// When `link` is no socket.
pub fn serve(
    link: UnixStream,
    cleanup_dirs: &[PathBuf],
    forker: &mut dyn Forker,
) -> std::io::Result<Served> {
    link.set_nonblocking(true)?;
    aktis_common::limits::raise_descriptor_limit();
    // Refused by no kernel that has it; without it, processes that leave their group may outlive their worker.
    let _ = adopt_orphans();
    let mut zygote = Zygote {
        link,
        input: Vec::new(),
        children: Children::default(),
        to_preload: Vec::new(),
    };
    match zygote.serve(forker) {
        Ok(Born::Worker(start)) => Ok(Served::Worker(start)),
        Ok(Born::Dead(error)) => Ok(Served::Unborn(error)),
        Err(RayletGone) => {
            zygote.children.kill_all();
            for folder in cleanup_dirs {
                if !remove_folder(folder) {
                    // What comes later names what is left here, for those who sweep.
                    break;
                }
            }
            Ok(Served::RayletGone)
        }
    }
}

/// What a child is.
enum Born {
    Worker(WorkerStart),
    Dead(BirthError),
}

struct Zygote {
    link: UnixStream,
    input: Vec<u8>,
    children: Children,
    to_preload: Vec<String>,
}

impl Zygote {
    /// Serves until this is a child, or the raylet is gone, maybe before it heard a word.
    fn serve(&mut self, forker: &mut dyn Forker) -> Result<Born, RayletGone> {
        note(Point::ZygoteReady);
        self.reply(&ZygoteReply::Ready {
            pid: std::process::id(),
        })?;
        loop {
            match self.receive()? {
                Some(ZygoteRequest::Fork(start)) => {
                    if let Some(born) = self.fork(start, forker)? {
                        return Ok(born);
                    }
                }
                Some(ZygoteRequest::Preload { modules }) => self.to_preload.extend(modules),
                None => self.idle(forker),
            }
            for ended in self.children.reap() {
                self.reply(&ZygoteReply::Exited {
                    pid: ended.pid,
                    cause: ended.cause,
                    is_out_of_memory: ended.is_out_of_memory,
                    is_killed: ended.is_killed,
                })?;
            }
        }
    }

    /// The next request; `None` when none came for a while.
    fn receive(&mut self) -> Result<Option<ZygoteRequest>, RayletGone> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(request) => return Ok(Some(request)),
                    Err(error) => eprintln!("the raylet asks for something unknown: {error}"),
                }
                continue;
            }
            if self.sleep() {
                return Ok(None);
            }
            let mut chunk = [0; 4096];
            match self.link.read(&mut chunk) {
                Ok(0) => return Err(RayletGone),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return Err(RayletGone),
            }
        }
    }

    /// Until there is a request (false), or a child has ended or nothing happened for a while (true).
    fn sleep(&self) -> bool {
        let mut waited: Vec<PollFd<'_>> = std::iter::once(self.link.as_fd())
            .chain(self.children.watches())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let limit = if self.to_preload.is_empty() {
            POLL
        } else {
            PRELOAD_AFTER
        };
        let timeout = Timespec::try_from(limit).expect("a short time");
        match rustix::event::poll(&mut waited, Some(&timeout)) {
            Ok(_) => waited[0].revents().is_empty(),
            Err(rustix::io::Errno::INTR) => true,
            // Short of memory, which passes; the raylet lives, as far as anybody knows.
            Err(_) => {
                std::thread::sleep(limit);
                false
            }
        }
    }

    fn reply(&mut self, reply: &ZygoteReply) -> Result<(), RayletGone> {
        let mut line = serde_json::to_vec(reply).expect("replies are plain data");
        line.push(b'\n');
        // Waits if the raylet is slow to read.
        let sent = self
            .link
            .set_nonblocking(false)
            .and_then(|()| self.link.write_all(&line))
            .and_then(|()| self.link.set_nonblocking(true));
        sent.map_err(|_| RayletGone)
    }

    /// In the child: what it is.
    fn fork(
        &mut self,
        start: WorkerStart,
        forker: &mut dyn Forker,
    ) -> Result<Option<Born>, RayletGone> {
        let startup_token = start.startup_token;
        if !start.shared_modules.is_empty() {
            forker.preload(&start.shared_modules);
        }
        let streams = match Streams::open(&start) {
            Ok(streams) => streams,
            Err(error) => {
                self.reply(&ZygoteReply::ForkFailed {
                    startup_token,
                    error: error.to_string(),
                })?;
                return Ok(None);
            }
        };
        match forker.fork() {
            Ok(Forked::Child) => {
                note(Point::Forked);
                Ok(Some(match become_worker(streams) {
                    Ok(()) => Born::Worker(start),
                    Err(error) => Born::Dead(error),
                }))
            }
            Ok(Forked::Parent(pid)) => {
                self.children.insert(pid);
                self.reply(&ZygoteReply::Forked { startup_token, pid })?;
                Ok(None)
            }
            Err(error) => {
                self.reply(&ZygoteReply::ForkFailed {
                    startup_token,
                    error: format!("fork failed: {error}{}", hint(&error)),
                })?;
                Ok(None)
            }
        }
    }

    fn idle(&mut self, forker: &mut dyn Forker) {
        // One after the other: who has ended is told in between. A death whose cause is told too late is one without a cause.
        if !self.to_preload.is_empty() {
            forker.preload(&[self.to_preload.remove(0)]);
        }
    }
}

/// Removes the folder, patiently: processes that were just killed may still write into it. False if it stays.
fn remove_folder(folder: &Path) -> bool {
    for _ in 0..20 {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return true,
            Err(error) if error.kind() == ErrorKind::NotFound => return true,
            Err(_) => std::thread::sleep(Duration::from_millis(25)),
        }
    }
    false
}
