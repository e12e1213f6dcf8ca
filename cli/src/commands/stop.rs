//! `aktis stop`.

use std::time::{Duration, Instant};

use aktis_common::config::Settings;
use aktis_gcs::forget_tables;
use rustix::process::Signal;

use crate::session::{Owner, Role, kept_tables, owners, sweep_stale};

/// How long killed daemons may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Ends this user's daemons on this machine (`SES-2`): nodes first, so that they can still tell the head.
/// What heads keep for the next start stays, unless `is_forgetting`.
pub(super) fn stop(settings: &Settings, is_forgetting: bool) -> Result<u8, String> {
    let mut daemons: Vec<Owner> = owners(settings)
        .into_iter()
        .map(|(_, owner)| owner)
        .filter(|owner| owner.role.is_daemon())
        .collect();
    if daemons.is_empty() {
        sweep_stale(settings);
        println!("No Aktis daemon of this user runs on this machine.");
        return about_tables(settings, is_forgetting);
    }
    daemons.sort_by_key(|owner| owner.role == Role::Head);
    let count = daemons.len();
    let (heads, nodes): (Vec<Owner>, Vec<Owner>) = daemons
        .into_iter()
        .partition(|owner| owner.role == Role::Head);
    let mut killed = 0;
    for group in [nodes, heads] {
        killed += end(&group, settings.stop_grace)?;
    }
    sweep_stale(settings);
    let how = if killed == 0 {
        String::new()
    } else {
        format!(
            " ({killed} of them had to be killed after {:?})",
            settings.stop_grace
        )
    };
    println!(
        "Ended {count} Aktis daemon{}{how}.",
        if count == 1 { "" } else { "s" }
    );
    about_tables(settings, is_forgetting)
}

/// Says what heads have left, or removes it.
fn about_tables(settings: &Settings, is_forgetting: bool) -> Result<u8, String> {
    for path in kept_tables(settings) {
        if is_forgetting {
            forget_tables(&path).map_err(|error| error.to_string())?;
            println!("Forgot the tables in {}.", path.display());
        } else {
            println!(
                "A head's tables stay in {} for the next `aktis start --head`; `aktis stop --forget` removes them.",
                path.display()
            );
        }
    }
    Ok(0)
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
