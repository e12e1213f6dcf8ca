//! Starts a daemon and waits until it is up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aktis_common::config::Settings;

use super::{DaemonPlan, Ready};
use crate::launcher::Launcher;
use crate::session::{SessionError, SessionFolder, base_dir, new_session_id};

/// How long a daemon may take to say that it is up.
const START_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// How much of a failed daemon's output is shown.
const OUTPUT_LINES: usize = 20;

/// A daemon that does not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("{0}")]
    Session(SessionError),
    #[error("cannot run {command:?}: {cause}")]
    Command { command: String, cause: String },
    #[error("{message}")]
    Failed { message: String },
    #[error("the daemon ended before it was up ({status}); its output:\n{output}")]
    Ended { status: String, output: String },
    #[error("the daemon is not up after {} s; its output is in {output:?}", START_PATIENCE.as_secs())]
    Slow { output: PathBuf },
}

/// Spawns the daemon of `plan`; gives what it said when it was up.
pub(crate) fn spawn_daemon(
    plan: &DaemonPlan,
    settings: &Settings,
    launcher: &Launcher,
) -> Result<Ready, SpawnError> {
    // The daemon's own folder is the daemon's to make and remove; this one holds its output and its answer.
    let scratch = SessionFolder::create(settings, &format!("start-{}", new_session_id()))
        .map_err(SpawnError::Session)?;
    let ready_path = scratch.path().join("ready.json");
    let log_path = base_dir(settings).join(format!("{}.log", plan.folder_name));
    let plan = DaemonPlan {
        output: Some(log_path.clone()),
        ..plan.clone()
    };
    let mut child = run(&plan, settings, launcher, &ready_path, &log_path)?;
    let ready = wait(&mut child, &ready_path, &log_path);
    if !matches!(ready, Ok(Ready::Up { .. })) {
        let _ = child.kill();
        let _ = child.wait();
        let _ = std::fs::remove_file(&log_path);
    }
    match ready? {
        Ready::Failed { message } => Err(SpawnError::Failed { message }),
        up @ Ready::Up { .. } => Ok(up),
    }
}

fn run(
    plan: &DaemonPlan,
    settings: &Settings,
    launcher: &Launcher,
    ready_path: &Path,
    log_path: &Path,
) -> Result<Child, SpawnError> {
    let shown = launcher.self_command.join(" ");
    let failed = |cause: String| SpawnError::Command {
        command: shown.clone(),
        cause,
    };
    let (program, arguments) = launcher
        .self_command
        .split_first()
        .ok_or_else(|| failed("it is empty".to_owned()))?;
    let output = File::create(log_path).map_err(|error| failed(error.to_string()))?;
    let errors = output
        .try_clone()
        .map_err(|error| failed(error.to_string()))?;
    let plan = serde_json::to_string(plan).expect("a plan is plain data");
    Command::new(program)
        .args(arguments)
        .args(["daemon", &plan])
        .arg(ready_path)
        .envs(settings.to_environment())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(error.to_string()))
}

fn wait(child: &mut Child, ready_path: &Path, log_path: &Path) -> Result<Ready, SpawnError> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        // First whether it has ended, then its answer: one that answers and ends is heard.
        let ended = child.try_wait();
        if let Some(ready) = Ready::read(ready_path) {
            return Ok(ready);
        }
        if let Ok(Some(status)) = ended {
            let text = std::fs::read_to_string(log_path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let output = lines[lines.len().saturating_sub(OUTPUT_LINES)..].join("\n");
            return Err(SpawnError::Ended {
                status: status.to_string(),
                output,
            });
        }
        if Instant::now() > deadline {
            return Err(SpawnError::Slow {
                output: log_path.to_owned(),
            });
        }
        std::thread::sleep(POLL);
    }
}
