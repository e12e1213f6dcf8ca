//! `aktis stop`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aktis_common::config::Settings;
use aktis_gcs::forget_tables;
use rustix::process::Signal;
use serde_json::json;

use super::{StopArgs, render};
use crate::session::{Owner, Role, kept_tables, owners, sweep_stale};

/// How long killed daemons may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// What became of daemons and of what they have left.
#[derive(Debug, Default)]
struct Stopped {
    ended: usize,
    /// Of them, those that did not end by themselves.
    killed: usize,
    kept_tables: Vec<PathBuf>,
    forgotten_tables: Vec<PathBuf>,
}

/// Ends this user's daemons on this machine (`SES-2`): nodes first, so that they can still tell the head.
/// What heads keep for the next start stays, unless it is to be forgotten.
pub(super) fn stop(args: &StopArgs, settings: &Settings) -> Result<u8, String> {
    let mut stopped = end_all(settings)?;
    for path in kept_tables(settings) {
        if args.forget {
            forget_tables(&path).map_err(|error| error.to_string())?;
            stopped.forgotten_tables.push(path);
        } else {
            stopped.kept_tables.push(path);
        }
    }
    let text = if args.json {
        stopped.as_json()
    } else {
        stopped.as_text(settings.stop_grace)
    };
    render::print_line(&text)?;
    Ok(0)
}

fn end_all(settings: &Settings) -> Result<Stopped, String> {
    let daemons = owners(settings)
        .into_iter()
        .map(|(_, owner)| owner)
        .filter(|owner| owner.role.is_daemon());
    let (heads, nodes): (Vec<Owner>, Vec<Owner>) =
        daemons.partition(|owner| owner.role == Role::Head);
    let mut stopped = Stopped {
        ended: heads.len() + nodes.len(),
        ..Stopped::default()
    };
    for group in [nodes, heads] {
        stopped.killed += end(&group, settings.stop_grace)?;
    }
    sweep_stale(settings);
    Ok(stopped)
}

impl Stopped {
    fn as_text(&self, grace: Duration) -> String {
        let how = match self.killed {
            0 => String::new(),
            killed => format!(" ({killed} of them had to be killed after {grace:?})"),
        };
        let mut lines = vec![match self.ended {
            0 => "No Aktis daemon of this user runs on this machine.".to_owned(),
            1 => format!("Ended 1 Aktis daemon{how}."),
            count => format!("Ended {count} Aktis daemons{how}."),
        }];
        let forgotten = self.forgotten_tables.iter();
        lines.extend(forgotten.map(|path| format!("Forgot the tables in {}.", path.display())));
        lines.extend(self.kept_tables.iter().map(|path| {
            format!(
                "A head's tables stay in {} for the next `aktis start --head`; `aktis stop --forget` removes them.",
                path.display()
            )
        }));
        lines.join("\n")
    }

    fn as_json(&self) -> String {
        render::pretty(&json!({
            "ended": self.ended,
            "killed": self.killed,
            "kept_tables": self.kept_tables,
            "forgotten_tables": self.forgotten_tables,
        }))
    }
}

/// Ends a group; gives how many did not end by themselves.
fn end(group: &[Owner], grace: Duration) -> Result<usize, String> {
    group.iter().for_each(|owner| {
        owner.process.signal(Signal::TERM);
    });
    let left = wait(group, grace);
    for owner in &left {
        owner.process.signal(Signal::KILL);
    }
    let owned: Vec<Owner> = left.iter().map(|owner| (*owner).clone()).collect();
    match wait(&owned, KILL_PATIENCE).first() {
        None => Ok(left.len()),
        Some(owner) => Err(format!(
            "process {} does not end, even after SIGKILL; it may hang in a system call",
            owner.process.pid
        )),
    }
}

/// Waits until the group has ended, at most for `patience`; gives those that have not.
fn wait(group: &[Owner], patience: Duration) -> Vec<&Owner> {
    let deadline = Instant::now() + patience;
    loop {
        let left: Vec<&Owner> = group
            .iter()
            .filter(|owner| owner.process.is_running())
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(POLL);
    }
}
