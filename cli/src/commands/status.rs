//! `aktis status`.

use std::collections::BTreeMap;

use aktis_common::config::Settings;
use aktis_common::resources::{MEMORY, OBJECT_STORE_MEMORY, Quantity, ResourceSet, format_bytes};
use aktis_proto::transport::Address;
use aktis_proto::v1::{ClusterStatusReply, NodeInfo};
use serde_json::{Value, json};

use super::query::Cluster;
use super::running::{self, OfNode};
use super::{StatusArgs, render};
use crate::join::{is_same, sessions};
use crate::session::Owner;

/// So much of the command line of a session's process is shown.
const SHOWN_COMMAND: usize = 100;

pub(super) fn status(args: &StatusArgs, settings: &Settings) -> Result<u8, String> {
    let cluster = Cluster::to_look_at(args.query.address.as_deref(), settings)?;
    let status = cluster.status()?;
    let others: Vec<Other> = sessions(settings)
        .into_iter()
        .map(|(_, owner)| Other::of(&owner))
        .filter(|other| {
            let address = other.address.parse();
            !address.is_ok_and(|address| is_same(cluster.address(), &address))
        })
        .collect();
    let running = (!args.no_tasks).then(|| cluster.running(&status));
    let text = if args.query.json {
        as_json(cluster.address(), &status, running.as_deref(), &others)
    } else {
        as_text(cluster.address(), &status, running.as_deref(), &others)
    };
    render::print_line(&text)?;
    Ok(0)
}

/// A session of this user on this machine that is not the one that is shown.
struct Other {
    address: String,
    pid: u32,
    command: String,
}

impl Other {
    fn of(owner: &Owner) -> Self {
        let pid = owner.process.pid;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = command
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        Self {
            address: owner.gcs_address.clone(),
            pid,
            command: words.join(" ").chars().take(SHOWN_COMMAND).collect(),
        }
    }

    fn line(&self) -> String {
        format!(
            "  {} (process {}: {})",
            self.address, self.pid, self.command
        )
    }

    fn json(&self) -> Value {
        json!({"address": self.address, "pid": self.pid, "command": self.command})
    }
}

fn living(status: &ClusterStatusReply) -> Vec<&NodeInfo> {
    status.nodes.iter().filter(|node| node.is_alive).collect()
}

fn sums(status: &ClusterStatusReply) -> (ResourceSet, ResourceSet) {
    let (mut total, mut available) = (ResourceSet::new(), ResourceSet::new());
    for node in living(status) {
        total.add(&render::set_of(node.total.as_ref()));
        available.add(&render::set_of(node.available.as_ref()));
    }
    (total, available)
}

fn actor_counts(status: &ClusterStatusReply) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for actor in &status.actors {
        *counts.entry(render::state_name(actor.state())).or_default() += 1;
    }
    counts
}

/// Reasons, each with how many requests share it.
fn waiting(status: &ClusterStatusReply) -> Vec<String> {
    let of_nodes = living(status)
        .into_iter()
        .flat_map(|node| node.waiting.iter());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in of_nodes.chain(&status.waiting) {
        *counts.entry(reason).or_default() += 1;
    }
    let line = |(reason, count): (&str, usize)| match count {
        1 => reason.to_owned(),
        _ => format!("{reason} ({count} times)"),
    };
    counts.into_iter().map(line).collect()
}

fn as_json(
    address: &Address,
    status: &ClusterStatusReply,
    running: Option<&[OfNode]>,
    others: &[Other],
) -> String {
    let (total, available) = sums(status);
    let numbers = |set: &ResourceSet| {
        let all: BTreeMap<String, f64> = set
            .iter()
            .map(|(name, quantity)| (name.to_owned(), quantity.as_f64()))
            .collect();
        all
    };
    let mut facts = json!({
        "address": address.to_string(),
        "session_id": status.session_id,
        "storage": status.storage,
        "total": numbers(&total),
        "available": numbers(&available),
        "nodes": status.nodes.iter().map(render::node).collect::<Vec<_>>(),
        "actors": status.actors.iter().map(render::actor).collect::<Vec<_>>(),
        "actors_by_state": actor_counts(status),
        "jobs": status.jobs.iter().map(render::job).collect::<Vec<_>>(),
        "waiting": waiting(status),
        "other_sessions": others.iter().map(Other::json).collect::<Vec<_>>(),
    });
    if let Some(nodes) = running {
        facts["running"] = Value::Array(running::as_json(nodes));
        facts["running_left_out"] = json!(running::left_out(nodes));
        facts["silent"] = running::silent_json(nodes);
    }
    render::pretty(&facts)
}

fn heading(address: &Address, status: &ClusterStatusReply) -> String {
    // What a driver hosts itself has no port: only processes of this machine can look at it.
    let kind = match address {
        Address::Unix(_) => "Session",
        Address::Tcp { .. } => "Cluster",
    };
    format!(
        "{kind} {address}, session {}, tables in {}",
        status.session_id, status.storage
    )
}

fn other_lines(others: &[Other]) -> Vec<String> {
    if others.is_empty() {
        return Vec::new();
    }
    let heading = "Other sessions on this machine (aktis status --address ADDRESS):";
    let mut lines = vec![String::new(), heading.to_owned()];
    lines.extend(others.iter().map(Other::line));
    lines
}

fn as_text(
    address: &Address,
    status: &ClusterStatusReply,
    running: Option<&[OfNode]>,
    others: &[Other],
) -> String {
    let mut lines = vec![heading(address, status), String::new()];
    let dead = status.nodes.len() - living(status).len();
    let dead = if dead == 0 {
        String::new()
    } else {
        format!(", {dead} dead")
    };
    lines.push(format!("Nodes: {} alive{dead}", living(status).len()));
    for node in living(status) {
        let role = if node.is_head { " (head)" } else { "" };
        let id = render::hex(&node.node_id);
        let usage = usage(
            &render::set_of(node.total.as_ref()),
            &render::set_of(node.available.as_ref()),
        );
        lines.push(format!(
            "  {id}{role} {} {}: {}",
            node.hostname,
            node.raylet_address,
            usage.join(", ")
        ));
    }
    let (total, available) = sums(status);
    lines.extend([String::new(), "Resources (used / total):".to_owned()]);
    lines.extend(
        usage(&total, &available)
            .into_iter()
            .map(|line| format!("  {line}")),
    );
    lines.extend(store_lines(status));
    lines.push(String::new());
    let counts: Vec<String> = actor_counts(status)
        .into_iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let running_jobs = status.jobs.iter().filter(|job| job.is_running).count();
    let counts = if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    };
    lines.push(format!("Actors: {counts}"));
    lines.push(format!(
        "Jobs: {running_jobs} running, {} in all",
        status.jobs.len()
    ));
    lines.extend(running.map(running::lines).unwrap_or_default());
    let waiting = waiting(status);
    lines.push(
        format!(
            "Waiting: {}",
            if waiting.is_empty() { "nothing" } else { "" }
        )
        .trim_end()
        .to_owned(),
    );
    lines.extend(waiting.into_iter().map(|reason| format!("  {reason}")));
    lines.extend(other_lines(others));
    lines.join("\n")
}

/// `1.5 / 4 CPU` and so on. What the store uses is not a matter of requests and comes apart.
fn usage(total: &ResourceSet, available: &ResourceSet) -> Vec<String> {
    let bytes = |quantity: Quantity| format_bytes(u64::try_from(quantity.whole()).unwrap_or(0));
    total
        .iter()
        .filter(|(name, _)| *name != OBJECT_STORE_MEMORY)
        .map(|(name, total)| {
            let used = total - available.get(name);
            match name {
                MEMORY => format!("{} / {} memory", bytes(used), bytes(total)),
                _ => format!("{used} / {total} {name}"),
            }
        })
        .collect()
}

fn store_lines(status: &ClusterStatusReply) -> Option<String> {
    let sum = |of: fn(&NodeInfo) -> u64| living(status).into_iter().map(of).sum::<u64>();
    let capacity = sum(|node| node.store_capacity_bytes);
    let used = sum(|node| node.store_used_bytes);
    let on_disk = match sum(|node| node.store_disk_bytes) {
        0 => String::new(),
        bytes => format!(", and {} of objects on the disk", format_bytes(bytes)),
    };
    (capacity > 0).then(|| {
        format!(
            "  {} / {} object store{on_disk}",
            format_bytes(used),
            format_bytes(capacity)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterStatusReply {
        let set = |cpus: i64, extra: i64| {
            let set = ResourceSet::from_units([("CPU", cpus), ("memory", extra)]);
            Some((&set).into())
        };
        let node = |is_alive: bool| NodeInfo {
            node_id: vec![7; 16].into(),
            hostname: "host".to_owned(),
            raylet_address: "10.0.0.1:5".to_owned(),
            is_alive,
            is_head: true,
            total: set(40_000, 10_000 << 30),
            available: set(25_000, 10_000 << 30),
            store_capacity_bytes: 1 << 30,
            store_disk_bytes: 3 << 20,
            waiting: vec!["needs a GPU".to_owned(), "needs a GPU".to_owned()],
            ..NodeInfo::default()
        };
        ClusterStatusReply {
            nodes: vec![node(true), node(false)],
            session_id: "s".to_owned(),
            storage: "memory".to_owned(),
            waiting: vec!["actor A: needs more".to_owned()],
            ..ClusterStatusReply::default()
        }
    }

    fn others() -> Vec<Other> {
        vec![Other {
            address: "unix:/t/gcs.sock".to_owned(),
            pid: 7,
            command: "python train.py".to_owned(),
        }]
    }

    #[test]
    fn status_shows_use_and_reasons_of_living_nodes() {
        let text = as_text(
            &"h:1".parse().unwrap(),
            &cluster(),
            Some(&running::tests::nodes()),
            &others(),
        );
        for part in [
            "Nodes: 1 alive, 1 dead",
            "1.5 / 4 CPU",
            "0 B / 1 GiB memory",
            "0 B / 1 GiB object store, and 3 MiB of objects on the disk",
            "Actors: none",
            "needs a GPU (2 times)",
            "actor A: needs more",
            "Cluster h:1",
            "  total for 2.3 s, process 7 of node a1",
            "  unix:/t/gcs.sock (process 7: python train.py)",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn json_has_the_same_facts() {
        let text = as_json(
            &"h:1".parse().unwrap(),
            &cluster(),
            Some(&running::tests::nodes()),
            &others(),
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["address"], "h:1");
        assert_eq!(value["other_sessions"][0]["pid"], 7);
        assert_eq!(value["running"][0]["pid"], 7);
        assert_eq!(value["silent"][0]["node_id"], "b2");
        assert_eq!(value["available"]["CPU"], json!(2.5));
        assert_eq!(value["waiting"].as_array().unwrap().len(), 2);
        assert_eq!(value["nodes"].as_array().unwrap().len(), 2);
        assert_eq!(value["nodes"][0]["store_disk_bytes"], json!(3 << 20));
    }
}
