//! `aktis status`.

use std::collections::BTreeMap;

use aktis_common::config::Settings;
use aktis_common::resources::{MEMORY, OBJECT_STORE_MEMORY, Quantity, ResourceSet, format_bytes};
use aktis_proto::transport::Address;
use aktis_proto::v1::{ClusterStatusReply, NodeInfo};
use serde_json::json;

use super::query::Cluster;
use super::{QueryArgs, render};

pub(super) fn status(args: &QueryArgs, settings: &Settings) -> Result<u8, String> {
    let cluster = Cluster::connect(args.address.as_deref(), settings)?;
    let status = cluster.status()?;
    let text = if args.json {
        as_json(&status)
    } else {
        as_text(cluster.address(), &status)
    };
    render::print_line(&text)?;
    Ok(0)
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

fn as_json(status: &ClusterStatusReply) -> String {
    let (total, available) = sums(status);
    let numbers = |set: &ResourceSet| {
        let all: BTreeMap<String, f64> = set
            .iter()
            .map(|(name, quantity)| (name.to_owned(), quantity.as_f64()))
            .collect();
        all
    };
    render::pretty(&json!({
        "session_id": status.session_id,
        "storage": status.storage,
        "total": numbers(&total),
        "available": numbers(&available),
        "nodes": status.nodes.iter().map(render::node).collect::<Vec<_>>(),
        "actors": status.actors.iter().map(render::actor).collect::<Vec<_>>(),
        "actors_by_state": actor_counts(status),
        "jobs": status.jobs.iter().map(render::job).collect::<Vec<_>>(),
        "waiting": waiting(status),
    }))
}

fn as_text(address: &Address, status: &ClusterStatusReply) -> String {
    let mut lines = vec![
        format!(
            "Cluster {address}, session {}, tables in {}",
            status.session_id, status.storage
        ),
        String::new(),
    ];
    let dead = status.nodes.len() - living(status).len();
    let dead = if dead == 0 {
        String::new()
    } else {
        format!(", {dead} dead")
    };
    lines.push(format!("Nodes: {} alive{dead}", living(status).len()));
    for node in living(status) {
        let role = if node.is_head { " (head)" } else { "" };
        let id = render::short(&node.node_id);
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
    let running = status.jobs.iter().filter(|job| job.is_running).count();
    let counts = if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    };
    lines.push(format!("Actors: {counts}"));
    lines.push(format!(
        "Jobs: {running} running, {} in all",
        status.jobs.len()
    ));
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
    (capacity > 0).then(|| {
        format!(
            "  {} / {} object store",
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

    #[test]
    fn status_shows_use_and_reasons_of_living_nodes() {
        let text = as_text(&"h:1".parse().unwrap(), &cluster());
        for part in [
            "Nodes: 1 alive, 1 dead",
            "1.5 / 4 CPU",
            "0 B / 1 GiB memory",
            "Actors: none",
            "needs a GPU (2 times)",
            "actor A: needs more",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn json_has_the_same_facts() {
        let value: serde_json::Value = serde_json::from_str(&as_json(&cluster())).unwrap();
        assert_eq!(value["available"]["CPU"], json!(2.5));
        assert_eq!(value["waiting"].as_array().unwrap().len(), 2);
        assert_eq!(value["nodes"].as_array().unwrap().len(), 2);
    }
}
