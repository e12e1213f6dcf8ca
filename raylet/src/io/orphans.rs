//! What workers leave behind when their zygote dies before them.
//!
//! While a zygote lives it takes in, kills and reaps what its dead workers have started, in whichever session or process group.
//! If it is killed itself its workers die with it, and what they had started comes to the next process above that takes in
//! orphans: a daemon does, whether it is process 1 of a container or not. Others may come to it as well (what somebody starts in
//! the container by hand, say), so only those are killed whose environment names the node. Whatever has ended is reaped.
//!
//! A raylet inside of a user's program takes in nobody: children of that program are none of its business.

use std::time::{Duration, Instant};

use aktis_common::ids::NodeId;
use aktis_common::offspring::{children, kill_group};
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

/// The environment variable that names the node to whatever its zygote starts. No setting: those begin with `AKTIS_`.
pub(crate) const NODE_VARIABLE: &str = "_AKTIS_NODE";
/// How long processes get to disappear after they were killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Looks one after another that find nothing: a list that is read while a child ends may lack others (proc(5)).
const QUIET_LOOKS: u32 = 5;

/// From now on orphans below this process become its children.
pub(crate) fn take_in() {
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        tracing::warn!(%error, "what workers start may outlive a zygote that is killed");
    }
}

/// Kills the children of this process that belong to the node, and reaps all that have ended. For a process that has no other
/// children of its own at that time. Returns when nothing of the node is left, but not later than in some seconds.
pub(crate) async fn end_all(node: NodeId) {
    let mark = format!("{NODE_VARIABLE}={node}");
    let give_up_at = Instant::now() + PATIENCE;
    let mut quiet_looks = 0;
    while quiet_looks < QUIET_LOOKS {
        quiet_looks = match is_any_left(mark.as_bytes()) {
            true => 0,
            false => quiet_looks + 1,
        };
        if Instant::now() >= give_up_at {
            return tracing::warn!("processes of dead workers do not end");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One round. Whoever ends has given its children to this process before it can be reaped.
fn is_any_left(mark: &[u8]) -> bool {
    let mut is_any_left = false;
    for child in children() {
        let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) else {
            continue;
        };
        if !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            // Reaped, so what it has left is to be looked at.
            is_any_left = true;
            continue;
        }
        match std::fs::read(format!("/proc/{child}/environ")) {
            // It is about to end, and has no memory any more.
            Ok(environment) if environment.is_empty() => is_any_left = true,
            Ok(environment)
                if environment
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == mark) =>
            {
                is_any_left = true;
                kill_group(child);
            }
            _ => {}
        }
    }
    is_any_left
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A process in a session of its own whose parent has ended.
    fn orphan(node: NodeId) -> u32 {
        let made = Command::new("sh")
            .args(["-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"])
            .env(NODE_VARIABLE, node.to_string())
            .output()
            .unwrap();
        String::from_utf8(made.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    fn is_there(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn orphans_of_the_node_end_and_others_do_not() {
        take_in();
        let (here, there) = (NodeId::random(), NodeId::random());
        let (ours, other) = (orphan(here), orphan(there));
        assert!(children().contains(&ours) && children().contains(&other));
        end_all(here).await;
        assert!(!is_there(ours), "it is killed, and reaped");
        assert!(is_there(other), "it is none of ours");
        end_all(there).await;
        assert!(!is_there(other));
    }
}
