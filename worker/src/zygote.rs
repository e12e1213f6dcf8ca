//! The zygote: a small single-threaded process that forks workers.
//!
//! A fork of a warm process costs milliseconds and shares its pages; starting an interpreter costs a hundred times that.
//! The zygote also outlives a raylet that is killed for as long as it takes to clean up after it: when its raylet's end
//! of the socket closes, it kills its children's process groups and removes the session's folder.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aktis_common::zygote::{WorkerStart, ZygoteReply, ZygoteRequest};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::stages::{Stage, note};

/// How long children get to disappear after they were killed.
const REAP_PATIENCE: Duration = Duration::from_secs(2);
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

/// Serves the raylet at the other end of `link`. Returns in each child, with what it is to become; in the zygote itself
/// it returns `None` when the raylet is gone and everything is cleaned up.
pub fn serve(
    link: UnixStream,
    cleanup_dir: Option<PathBuf>,
    forker: &mut dyn Forker,
) -> std::io::Result<Option<WorkerStart>> {
    link.set_nonblocking(true)?;
    let mut zygote = Zygote {
        link,
        input: Vec::new(),
        children: HashMap::new(),
        to_preload: Vec::new(),
    };
    if let Ok(start) = zygote.serve(forker) {
        return Ok(Some(start));
    }
    zygote.kill_children();
    if let Some(folder) = cleanup_dir {
        remove_folder(&folder);
    }
    Ok(None)
}

struct Zygote {
    link: UnixStream,
    input: Vec<u8>,
    /// Descriptors of the children by process id, to be woken when one ends (none where the kernel has none).
    children: HashMap<u32, Option<OwnedFd>>,
    to_preload: Vec<String>,
}

impl Zygote {
    /// Serves until this is a child. Err: the raylet is gone, maybe before it heard a word.
    fn serve(&mut self, forker: &mut dyn Forker) -> std::io::Result<WorkerStart> {
        note(Stage::ZygoteReady);
        self.reply(&ZygoteReply::Ready {
            pid: std::process::id(),
        })?;
        loop {
            match self.receive()? {
                Some(ZygoteRequest::Fork(start)) => {
                    if let Some(start) = self.fork(start, forker)? {
                        return Ok(start);
                    }
                }
                Some(ZygoteRequest::Preload { modules }) => self.to_preload.extend(modules),
                None => self.idle(forker),
            }
            self.reap();
        }
    }

    /// The next request; `None` when none came for a while. Err: the raylet is gone.
    fn receive(&mut self) -> std::io::Result<Option<ZygoteRequest>> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(std::io::Error::from);
            }
            if self.sleep()? {
                return Ok(None);
            }
            let mut chunk = [0; 4096];
            match self.link.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Until there is a request (false), or a child has ended or nothing happened for a while (true).
    fn sleep(&self) -> std::io::Result<bool> {
        let children = self.children.values().flatten();
        let mut waited: Vec<PollFd<'_>> = std::iter::once(self.link.as_fd())
            .chain(children.map(AsFd::as_fd))
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let limit = if self.to_preload.is_empty() {
            POLL
        } else {
            PRELOAD_AFTER
        };
        let limit = Timespec::try_from(limit).expect("a short time");
        match rustix::event::poll(&mut waited, Some(&limit)) {
            Ok(_) => Ok(waited[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn reply(&mut self, reply: &ZygoteReply) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(reply).map_err(std::io::Error::from)?;
        line.push(b'\n');
        // Waits if the raylet is slow to read.
        self.link.set_nonblocking(false)?;
        self.link.write_all(&line)?;
        self.link.set_nonblocking(true)
    }

    /// In the child: what it is to become.
    fn fork(
        &mut self,
        start: WorkerStart,
        forker: &mut dyn Forker,
    ) -> std::io::Result<Option<WorkerStart>> {
        let startup_token = start.startup_token;
        if !start.shared_modules.is_empty() {
            forker.preload(&start.shared_modules);
        }
        match forker.fork() {
            Ok(Forked::Child) => {
                note(Stage::Forked);
                become_worker(&start)?;
                Ok(Some(start))
            }
            Ok(Forked::Parent(pid)) => {
                self.children.insert(pid, watch_child(pid));
                self.reply(&ZygoteReply::Forked { startup_token, pid })?;
                Ok(None)
            }
            Err(error) => {
                self.reply(&ZygoteReply::ForkFailed {
                    startup_token,
                    error: error.to_string(),
                })?;
                Ok(None)
            }
        }
    }

    fn idle(&mut self, forker: &mut dyn Forker) {
        if !self.to_preload.is_empty() {
            forker.preload(&std::mem::take(&mut self.to_preload));
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            if self.children.remove(&pid).is_some() {
                // What the worker left running in its process group goes with it.
                kill_group(pid);
                let _ = self.reply(&ZygoteReply::Exited {
                    pid,
                    cause: describe(status),
                });
            }
        }
    }

    fn kill_children(&mut self) {
        for pid in self.children.keys() {
            kill_group(*pid);
        }
        let give_up_at = Instant::now() + REAP_PATIENCE;
        while !self.children.is_empty() && Instant::now() < give_up_at {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => {
                    self.children
                        .remove(&pid.as_raw_nonzero().get().unsigned_abs());
                }
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                Err(_) => return,
            }
        }
    }
}

fn watch_child(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn kill_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Fails when the group is empty already.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(9)) => "killed by signal 9 (SIGKILL)".to_owned(),
        (None, Some(11)) => "killed by signal 11 (SIGSEGV)".to_owned(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// In a fresh child: its own process group, death with its parent, output into its files.
fn become_worker(start: &WorkerStart) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::setpgid(None, None)?;
    let error_path = start.stdout_path.with_extension("err");
    redirect(&start.stdout_path, rustix::stdio::dup2_stdout)?;
    redirect(&error_path, rustix::stdio::dup2_stderr)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(())
}

fn redirect(
    path: &Path,
    duplicate: fn(std::fs::File) -> rustix::io::Result<()>,
) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    duplicate(file)?;
    Ok(())
}

/// Removes the folder, patiently: processes that were just killed may still write into it.
fn remove_folder(folder: &Path) {
    for _ in 0..20 {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(Duration::from_millis(25)),
        }
    }
}
