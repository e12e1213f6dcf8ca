//! Programs in Rust that are their own driver, zygote and workers.
//!
//! ```text
//!  program ──starts──► session: gcs, raylet (aktis-cli)
//!     ▲                    │ starts the program again, with ZYGOTE_ARGUMENT
//!     │ run_if_zygote      ▼
//!     └──────────────── zygote ──fork──► workers: run_worker
//! ```
//! The program calls [`run_if_zygote`] before anything else, gives [`zygote_command`] to the session it starts, and joins
//! it with [`join_as_driver`].

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use aktis_common::config::Settings;
use aktis_common::error::ErrorCode;
use aktis_common::ids::WorkerId;
use aktis_common::zygote::WorkerStart;
use aktis_forkserver::{Forked, Forker, Served, UNBORN_STATUS, serve};
use aktis_worker::native::NativeRegistry;
use aktis_worker::{ProcessRole, Runtime, RuntimeConfig, TaskFailure};

use crate::work::run_worker;

/// First argument of a program that is to be the zygote of its session.
pub const ZYGOTE_ARGUMENT: &str = "--aktis-zygote";
/// The raylet adds this argument and a folder to remove when it is gone, for each such folder.
const CLEANUP_ARGUMENT: &str = "--cleanup-dir";

/// The command that starts this program as a zygote, for the launcher of a session.
///
/// # Errors
/// When the system does not say where the program's file is, or its path is not Unicode.
pub fn zygote_command() -> std::io::Result<Vec<String>> {
    let program = std::env::current_exe()?.into_os_string().into_string();
    let program = program.map_err(|path| {
        let message = format!(
            "the path of this program is not Unicode: {}",
            path.display()
        );
        std::io::Error::new(std::io::ErrorKind::InvalidInput, message)
    })?;
    Ok(vec![program, ZYGOTE_ARGUMENT.to_owned()])
}

/// Does nothing and returns false in a program that was started by a person. In one that was started by
/// [`zygote_command`] it is the zygote, and each of its forks a worker; true: `main` is to return.
///
/// Call it first in `main`: a fork copies only the thread that calls it, so no other may run.
///
/// # Errors
/// When standard input is not a raylet's socket, or a worker cannot join its node.
pub fn run_if_zygote(registry: NativeRegistry) -> std::io::Result<bool> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_none_or(|argument| argument != ZYGOTE_ARGUMENT)
    {
        return Ok(false);
    }
    let mut cleanup_dirs = Vec::new();
    while let (Some(name), Some(folder)) = (arguments.next(), arguments.next()) {
        if name == CLEANUP_ARGUMENT {
            cleanup_dirs.push(PathBuf::from(folder));
        }
    }
    let link = rustix::stdio::stdin().try_clone_to_owned()?;
    match serve(UnixStream::from(link), &cleanup_dirs, &mut PlainForker)? {
        Served::RayletGone => {}
        Served::Worker(start) => {
            set_environment(&start.env);
            work(&start, registry).map_err(std::io::Error::other)?;
        }
        Served::Unborn(error) => {
            eprintln!("this worker cannot start: {error}");
            #[allow(
                clippy::disallowed_methods,
                reason = "a forked child that cannot become a worker ends here, and nowhere else"
            )]
            std::process::exit(UNBORN_STATUS);
        }
    }
    Ok(true)
}

/// Joins the node of `raylet_socket` as a driver. The settings come from the environment.
///
/// # Errors
/// When a setting is wrong, or no raylet answers.
pub fn join_as_driver(raylet_socket: &Path) -> Result<Runtime, TaskFailure> {
    let entrypoint = std::env::args().collect::<Vec<_>>().join(" ");
    let role = ProcessRole::Driver;
    Runtime::start(RuntimeConfig {
        entrypoint,
        ..config(raylet_socket, role, WorkerId::random())?
    })
}

fn work(start: &WorkerStart, registry: NativeRegistry) -> Result<(), TaskFailure> {
    let worker_id = WorkerId::from_hex(&start.worker_id)
        .map_err(|error| TaskFailure::new(ErrorCode::InvalidArgument, error.to_string()))?;
    let role = ProcessRole::Worker {
        startup_token: start.startup_token,
    };
    let runtime = Runtime::start(config(&start.raylet_socket, role, worker_id)?)?;
    let reason = run_worker(&runtime, registry.into_shared());
    runtime.linger();
    runtime.drain();
    tracing::debug!(%reason, "the worker ends");
    Ok(())
}

fn config(
    raylet_socket: &Path,
    role: ProcessRole,
    worker_id: WorkerId,
) -> Result<RuntimeConfig, TaskFailure> {
    let settings = Settings::from_env_and_overrides(&BTreeMap::new())
        .map_err(|error| TaskFailure::new(ErrorCode::InvalidArgument, error.to_string()))?;
    Ok(RuntimeConfig {
        raylet_socket: raylet_socket.to_owned(),
        role,
        worker_id,
        entrypoint: String::new(),
        namespace: String::new(),
        log_sink: None,
        interrupt: || false,
        queued_limit_bytes: settings.max_queued_bytes.0,
        lineage_limit_bytes: settings.lineage_bytes.0,
        lease_idle: settings.lease_idle,
        infeasible: settings.infeasible,
        likely_modules: Vec::new(),
    })
}

/// Forks without telling anybody: there is no interpreter.
struct PlainForker;

impl Forker for PlainForker {
    #[allow(unsafe_code, reason = "there is no safe fork")]
    fn fork(&mut self) -> std::io::Result<Forked> {
        // SAFETY: the process has one thread (run_if_zygote comes first in main), so that no lock is held by a thread
        // which the child does not have.
        match unsafe { libc::fork() } {
            0 => Ok(Forked::Child),
            pid => u32::try_from(pid)
                .map(Forked::Parent)
                .map_err(|_| std::io::Error::last_os_error()),
        }
    }

    /// Modules are Python's.
    fn preload(&mut self, _modules: &[String]) {}
}

#[allow(unsafe_code, reason = "there is no safe way to change the environment")]
fn set_environment(variables: &BTreeMap<String, String>) {
    for (name, value) in variables {
        // SAFETY: this is a fresh fork with one thread; nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_started_by_a_person_is_no_zygote() {
        assert!(!run_if_zygote(NativeRegistry::default()).unwrap());
    }

    #[test]
    fn the_zygote_is_this_program_again() {
        let command = zygote_command().unwrap();
        assert_eq!(Path::new(&command[0]), std::env::current_exe().unwrap());
        assert_eq!(command[1..], [ZYGOTE_ARGUMENT]);
    }
}
