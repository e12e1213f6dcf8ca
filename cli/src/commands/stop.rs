//! `aktis stop`.

use std::time::{Duration, Instant};

use aktis_common::config::Settings;
use rustix::process::Signal;

use crate::session::{Owner, Role, owners, sweep_stale};

/// How long killed daemons may take to disappear.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Ends this user's daemons on this machine (`SES-2`): nodes first, so that they can still tell the head.
pub(super) fn stop(settings: &Settings) -> Result<u8, String> {
    let mut daemons: Vec<Owner> = owners(settings)
        .into_iter()
        .map(|(_, owner)| owner)
        .filter(|owner| owner.role != Role::Laptop)
        .collect();
    if daemons.is_empty() {
        sweep_stale(settings);
        println!("No Aktis daemon of this user runs on this machine.");
        return Ok(0);
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
            .filter(|owner| owner.process.is_alive())
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(POLL);
    }
}
