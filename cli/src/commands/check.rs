//! `aktis check`: Python reads Python.

use std::process::Command;

use crate::launcher::Launcher;

/// Has the Python package check scripts. It has the exit codes of the other commands.
pub(super) fn check(arguments: &[String], launcher: &Launcher) -> Result<u8, String> {
    let [python, ..] = &launcher.zygote_command[..] else {
        return Err("this build knows no Python".to_owned());
    };
    let mut command = Command::new(python);
    let ended = command
        .args(["-m", "aktis._check"])
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot run {python}: {error}"))?;
    Ok(ended
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}
