//! Messages as JSON and as tables.

use std::io::{ErrorKind, Write};

use aktis_common::resources::{Quantity, ResourceSet};
use aktis_proto::v1::{ActorState, ActorUpdate, JobInfo, NodeInfo};
use serde_json::{Map, Value, json};

/// Bytes as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn set_of(set: Option<&aktis_proto::v1::ResourceSet>) -> ResourceSet {
    set.map(ResourceSet::from).unwrap_or_default()
}

fn resources(set: Option<&aktis_proto::v1::ResourceSet>) -> Value {
    let number = |(name, quantity): (&str, Quantity)| (name.to_owned(), json!(quantity.as_f64()));
    Value::Object(set_of(set).iter().map(number).collect::<Map<_, _>>())
}

pub(super) fn node(node: &NodeInfo) -> Value {
    json!({
        "node_id": hex(&node.node_id),
        "hostname": node.hostname,
        "address": node.raylet_address,
        "is_alive": node.is_alive,
        "is_head": node.is_head,
        "total": resources(node.total.as_ref()),
        "available": resources(node.available.as_ref()),
        "labels": node.labels,
        "store_capacity_bytes": node.store_capacity_bytes,
        "store_used_bytes": node.store_used_bytes,
        "store_disk_bytes": node.store_disk_bytes,
        "death_cause": node.death_cause,
        "waiting": node.waiting,
        "session_dir": node.session_dir,
    })
}

/// Name of a state, as Ray's state API spells it.
pub(super) fn state_name(state: ActorState) -> &'static str {
    match state {
        ActorState::Unspecified => "UNKNOWN",
        ActorState::Pending => "PENDING",
        ActorState::Alive => "ALIVE",
        ActorState::Restarting => "RESTARTING",
        ActorState::Dead => "DEAD",
    }
}

pub(super) fn actor(actor: &ActorUpdate) -> Value {
    let options = actor.options.as_ref();
    let node = actor.address.as_ref().map(|address| hex(&address.node_id));
    json!({
        "actor_id": hex(&actor.actor_id),
        "class_name": actor.class_name,
        "name": actor.name,
        "namespace": options.map(|options| options.namespace.clone()),
        "state": state_name(actor.state()),
        "node_id": node,
        "pid": actor.pid,
        "restarts": actor.restarts,
        "is_detached": options.is_some_and(|options| options.is_detached),
        "message": actor.failure.as_ref().map(|failure| failure.message.clone()),
    })
}

pub(super) fn job(job: &JobInfo) -> Value {
    json!({
        "job_id": hex(&job.job_id),
        "entrypoint": job.entrypoint,
        "namespace": job.namespace,
        "driver_pid": job.driver_pid,
        "is_running": job.is_running,
        "started_unix_millis": job.started_unix_millis,
        "finished_unix_millis": job.finished_unix_millis,
        "cause": job.cause,
    })
}

/// Prints what a command was asked for. A reader that has enough (`aktis list actors | head`) is no failure.
pub(super) fn print_line(text: &str) -> Result<(), String> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("failed to print: {error}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value prints")
}

/// Columns as wide as their widest cell.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_lines_up() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned()],
            vec!["bbb".into(), "c".into()],
        ];
        assert_eq!(table(&["X", "Y"], &rows), "X    Y\na    long cell\nbbb  c");
    }

    #[test]
    fn actor_shows_why_it_waits() {
        let update = ActorUpdate {
            state: ActorState::Pending.into(),
            failure: Some(aktis_proto::v1::Failure {
                message: "no GPU".into(),
                ..Default::default()
            }),
            ..ActorUpdate::default()
        };
        let value = actor(&update);
        assert_eq!(
            (&value["state"], &value["message"]),
            (&json!("PENDING"), &json!("no GPU"))
        );
    }
}
