//! `aktis list`.

use aktis_common::config::Settings;
use aktis_proto::v1::ClusterStatusReply;
use serde_json::Value;

use super::query::Cluster;
use super::{ListArgs, ListKind, render, running};

pub(super) fn list(args: &ListArgs, settings: &Settings) -> Result<u8, String> {
    let cluster = Cluster::to_look_at(args.query.address.as_deref(), settings)?;
    let status = cluster.status()?;
    let text = if args.query.json {
        render::pretty(&as_json(args.kind, &cluster, &status))
    } else {
        as_table(args.kind, &cluster, &status)
    };
    render::print_line(&text)?;
    Ok(0)
}

fn as_json(kind: ListKind, cluster: &Cluster, status: &ClusterStatusReply) -> Value {
    Value::Array(match kind {
        ListKind::Nodes => status.nodes.iter().map(render::node).collect(),
        ListKind::Actors => status.actors.iter().map(render::actor).collect(),
        ListKind::Jobs => status.jobs.iter().map(render::job).collect(),
        ListKind::Tasks => running::as_json(&cluster.running(status)),
    })
}

fn as_table(kind: ListKind, cluster: &Cluster, status: &ClusterStatusReply) -> String {
    match kind {
        ListKind::Nodes => nodes(status),
        ListKind::Actors => actors(status),
        ListKind::Jobs => jobs(status),
        ListKind::Tasks => running::table(&cluster.running(status)),
    }
}

fn nodes(status: &ClusterStatusReply) -> String {
    let rows: Vec<Vec<String>> = status
        .nodes
        .iter()
        .map(|node| {
            let state = match (node.is_alive, node.death_cause.as_str()) {
                (true, _) => "alive".to_owned(),
                (false, cause) => format!("dead: {cause}"),
            };
            vec![
                render::hex(&node.node_id),
                if node.is_head { "head" } else { "node" }.to_owned(),
                node.hostname.clone(),
                node.raylet_address.clone(),
                render::set_of(node.total.as_ref()).to_string(),
                state,
            ]
        })
        .collect();
    render::table(
        &["NODE", "ROLE", "HOST", "ADDRESS", "RESOURCES", "STATE"],
        &rows,
    )
}

fn actors(status: &ClusterStatusReply) -> String {
    let rows: Vec<Vec<String>> = status
        .actors
        .iter()
        .map(|actor| {
            let node = actor.address.as_ref();
            vec![
                render::hex(&actor.actor_id),
                actor.class_name.clone(),
                actor.name.clone(),
                render::state_name(actor.state()).to_owned(),
                node.map_or_else(String::new, |address| render::hex(&address.node_id)),
                actor.pid.to_string(),
                actor.restarts.to_string(),
                actor
                    .failure
                    .as_ref()
                    .map_or_else(String::new, |failure| failure.message.clone()),
            ]
        })
        .collect();
    let header = [
        "ACTOR", "CLASS", "NAME", "STATE", "NODE", "PID", "RESTARTS", "MESSAGE",
    ];
    render::table(&header, &rows)
}

fn jobs(status: &ClusterStatusReply) -> String {
    let rows: Vec<Vec<String>> = status
        .jobs
        .iter()
        .map(|job| {
            let state = match (job.is_running, job.cause.as_str()) {
                (true, _) => "running".to_owned(),
                // What the raylet says of a driver that took its leave.
                (false, "" | "finished") => "finished".to_owned(),
                (false, cause) => format!("finished: {cause}"),
            };
            vec![
                render::hex(&job.job_id),
                state,
                job.driver_pid.to_string(),
                job.namespace.clone(),
                job.entrypoint.clone(),
            ]
        })
        .collect();
    render::table(&["JOB", "STATE", "PID", "NAMESPACE", "ENTRYPOINT"], &rows)
}
