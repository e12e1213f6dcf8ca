//! A zygote with real forks. Each test starts this file again as a zygote (`zygote_process`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(
    clippy::disallowed_methods,
    reason = "the program of this test is a zygote and its children"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aktis_common::zygote::{WorkerStart, ZygoteReply, ZygoteRequest};
use aktis_forkserver::{Forked, Forker, Served, serve};

const ROLE: &str = "AKTIS_TEST_ZYGOTE_CLEANUP";
const PATIENCE: Duration = Duration::from_secs(30);

struct RealForker;

impl Forker for RealForker {
    #[allow(unsafe_code, reason = "there is no safe fork")]
    fn fork(&mut self) -> std::io::Result<Forked> {
        // SAFETY: the child opens files, starts a program and ends; it takes no lock that another thread may hold.
        match unsafe { libc::fork() } {
            0 => Ok(Forked::Child),
            pid => u32::try_from(pid)
                .map(Forked::Parent)
                .map_err(|_| std::io::Error::last_os_error()),
        }
    }

    /// Each takes a while, and leaves a file.
    fn preload(&mut self, modules: &[String]) {
        for module in modules {
            std::thread::sleep(Duration::from_millis(100));
            File::create(module).unwrap();
        }
    }
}

/// Not a test of its own: what the others start.
#[test]
fn zygote_process() {
    let Some(cleanup) = std::env::var_os(ROLE) else {
        return;
    };
    let link = rustix::stdio::stdin().try_clone_to_owned().unwrap();
    let cleanup = [PathBuf::from(cleanup)];
    match serve(UnixStream::from(link), &cleanup, &mut RealForker).unwrap() {
        Served::RayletGone => {}
        Served::Worker(start) => work(&start),
        Served::Unborn(error) => panic!("{error}"),
    }
    std::process::exit(0);
}

/// What a forked worker does here: starts a process in a session of its own, names it, and waits to be killed.
fn work(start: &WorkerStart) {
    if let Some(path) = start.env.get("LEAVES") {
        let shell = "setsid sleep 600 & echo $! > $0.part && mv $0.part $0";
        Command::new("sh")
            .args(["-c", shell, path])
            .status()
            .unwrap();
    }
    std::thread::sleep(PATIENCE * 2);
}

struct Zygote {
    process: Child,
    link: BufReader<UnixStream>,
    folder: tempfile::TempDir,
}

impl Zygote {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("session")).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["zygote_process", "--exact", "--test-threads=1"])
            .env(ROLE, folder.path().join("session"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut zygote = Self {
            process,
            link: BufReader::new(ours),
            folder,
        };
        assert!(matches!(zygote.reply(), ZygoteReply::Ready { .. }));
        zygote
    }

    fn session(&self) -> PathBuf {
        self.folder.path().join("session")
    }

    fn fork(&mut self, token: u64, log: &Path, env: BTreeMap<String, String>) {
        self.ask(&ZygoteRequest::Fork(WorkerStart {
            startup_token: token,
            worker_id: String::new(),
            raylet_socket: PathBuf::new(),
            env,
            shared_modules: Vec::new(),
            stdout_path: log.to_owned(),
        }));
    }

    fn ask(&mut self, request: &ZygoteRequest) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.link.get_mut().write_all(&line).unwrap();
    }

    fn reply(&mut self) -> ZygoteReply {
        let mut line = String::new();
        self.link.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn forked(&mut self, token: u64, env: BTreeMap<String, String>) -> u32 {
        let log = self.session().join(format!("{token}.out"));
        self.fork(token, &log, env);
        match self.reply() {
            ZygoteReply::Forked { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim().chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

fn await_that(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn worker_whose_log_cannot_be_opened_is_named_and_harms_nobody() {
    let mut zygote = Zygote::start();
    let sibling = zygote.forked(1, BTreeMap::new());
    let nowhere = zygote.session().join("gone").join("2.out");
    zygote.fork(2, &nowhere, BTreeMap::new());
    match zygote.reply() {
        ZygoteReply::ForkFailed {
            startup_token: 2,
            error,
        } => {
            assert!(
                error.contains("2.out") && error.contains("No such file"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    let third = zygote.forked(3, BTreeMap::new());
    assert!(is_alive(sibling) && is_alive(third));
    assert!(zygote.session().exists());
}

#[test]
fn what_a_worker_started_in_another_session_ends_with_it() {
    let mut zygote = Zygote::start();
    let named = zygote.folder.path().join("left.pid");
    let env = BTreeMap::from([("LEAVES".to_owned(), named.display().to_string())]);
    let worker = zygote.forked(1, env);
    await_that("the process has started", || named.exists());
    let left: u32 = std::fs::read_to_string(&named)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(is_alive(left), "it lives as long as its worker");
    kill(worker);
    match zygote.reply() {
        ZygoteReply::Exited {
            pid,
            cause,
            is_killed,
            ..
        } => {
            let told = format!("was killed by signal 9 (SIGKILL) (pid {worker})");
            assert_eq!((pid, cause, is_killed), (worker, told, true));
        }
        other => panic!("{other:?}"),
    }
    await_that("the process is gone", || !is_alive(left));
}

#[test]
fn end_of_the_raylet_ends_workers_and_what_they_left_and_removes_the_folder() {
    let mut zygote = Zygote::start();
    let named = zygote.folder.path().join("left.pid");
    let env = BTreeMap::from([("LEAVES".to_owned(), named.display().to_string())]);
    let worker = zygote.forked(1, env);
    await_that("the process has started", || named.exists());
    let left: u32 = std::fs::read_to_string(&named)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let session = zygote.session();
    zygote
        .link
        .get_mut()
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    let mut process = zygote.process;
    process.wait().unwrap();
    assert!(!is_alive(worker) && !session.exists());
    await_that("the process is gone", || !is_alive(left));
}

/// Modules for twenty seconds: who waits for all of them learns the cause when nobody asks any more.
#[test]
fn worker_that_ends_while_modules_are_loaded_is_told_between_two_of_them() {
    let mut zygote = Zygote::start();
    let worker = zygote.forked(1, BTreeMap::new());
    let file = |number: u32| zygote.folder.path().join(number.to_string());
    let files: Vec<PathBuf> = (0..200).map(file).collect();
    let modules = files.iter().map(|file| file.display().to_string());
    zygote.ask(&ZygoteRequest::Preload {
        modules: modules.collect(),
    });
    await_that("the first is loaded", || files[0].exists());
    kill(worker);
    assert!(matches!(zygote.reply(), ZygoteReply::Exited { pid, .. } if pid == worker));
    assert!(!files[199].exists());
}

#[test]
fn workers_are_the_first_that_the_kernel_takes_when_memory_runs_out() {
    let mut zygote = Zygote::start();
    let worker = zygote.forked(1, BTreeMap::new());
    let score = format!("/proc/{worker}/oom_score_adj");
    if File::options().write(true).open(&score).is_err() {
        return; // /proc is read-only here
    }
    await_that("the worker is marked", || {
        std::fs::read_to_string(&score).unwrap_or_default().trim() == "1000"
    });
}
