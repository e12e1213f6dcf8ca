//! What runs, as the nodes tell it.
//!
//! The head does not know: calls pass it by. So each node is asked, and asks its processes. A node or a process that does not
//! answer is shown as such, and nobody waits long for it.

use std::collections::HashMap;
use std::time::Duration;

use aktis_proto::transport::{Security, connect, raylet_client};
use aktis_proto::v1::{NodeInfo, RayletEmpty, RunningCall, RunningProcess, RunningReply};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::render;

/// How long a node has; it gives its processes a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Lines of `aktis status`. `aktis list tasks` shows all that the nodes tell.
const SHOWN_CALLS: usize = 20;

/// What one node says, or why it says nothing.
pub(super) struct OfNode {
    pub(super) node_id: String,
    pub(super) reply: Result<RunningReply, String>,
}

/// Asks all nodes side by side.
pub(super) async fn ask(nodes: Vec<NodeInfo>, security: &Security) -> Vec<OfNode> {
    let mut asked = JoinSet::new();
    for node in nodes {
        let security = security.clone();
        asked.spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, ask_one(&node, &security)).await;
            OfNode {
                node_id: render::hex(&node.node_id),
                reply: answer.unwrap_or_else(|_| Err(format!("no answer in {PATIENCE:?}"))),
            }
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|left, right| left.node_id.cmp(&right.node_id));
    answers
}

async fn ask_one(node: &NodeInfo, security: &Security) -> Result<RunningReply, String> {
    let address = node
        .raylet_address
        .parse()
        .map_err(|error: aktis_proto::transport::AddressError| error.to_string())?;
    let channel = connect(&address, security)
        .await
        .map_err(|error| error.to_string())?;
    let reply = raylet_client(channel).list_running(RayletEmpty {}).await;
    reply
        .map(tonic::Response::into_inner)
        .map_err(|status| status.message().to_owned())
}

/// A call, and where it runs.
pub(super) struct Running<'a> {
    node_id: &'a str,
    process: &'a RunningProcess,
    call: &'a RunningCall,
    /// Where the task runs that makes what this one waits for.
    maker: Option<String>,
}

/// Everything that is known to run, the longest first.
pub(super) fn calls(nodes: &[OfNode]) -> Vec<Running<'_>> {
    let mut calls = Vec::new();
    for (node_id, process) in processes(nodes) {
        calls.extend(process.calls.iter().map(|call| Running {
            node_id,
            process,
            call,
            maker: None,
        }));
    }
    let places: HashMap<&[u8], String> = calls
        .iter()
        .map(|running| (&*running.call.task_id, running.place(nodes.len() > 1)))
        .collect();
    for running in &mut calls {
        let awaited = &running.call.awaited_task_id;
        if !awaited.is_empty() {
            running.maker = places.get(&**awaited).cloned();
        }
    }
    calls.sort_by_key(|running| std::cmp::Reverse(running.call.running_millis));
    calls
}

fn processes(nodes: &[OfNode]) -> impl Iterator<Item = (&str, &RunningProcess)> {
    nodes.iter().flat_map(|node| {
        let processes = node.reply.iter().flat_map(|reply| &reply.processes);
        processes.map(move |process| (node.node_id.as_str(), process))
    })
}

/// Calls that run, but that no answer lists.
pub(super) fn left_out(nodes: &[OfNode]) -> u64 {
    let of_nodes = nodes.iter().filter_map(|node| node.reply.as_ref().ok());
    let of_processes = processes(nodes).map(|(_, process)| u64::from(process.calls_left_out));
    of_nodes.map(|reply| reply.calls_left_out).sum::<u64>() + of_processes.sum::<u64>()
}

/// Nodes and processes that have not answered.
fn silent(nodes: &[OfNode]) -> Vec<String> {
    let of_nodes = nodes.iter().filter_map(|node| {
        let cause = node.reply.as_ref().err()?;
        Some(format!("node {} does not say: {cause}", node.node_id))
    });
    let of_processes = processes(nodes).filter(|(_, process)| process.is_silent);
    let stuck = of_processes.map(|(node_id, process)| {
        let pid = process.pid;
        format!("process {pid} of node {node_id} does not answer: it is stopped, or has no CPU to run on")
    });
    of_nodes.chain(stuck).collect()
}

/// `3 min 20 s`.
fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0..10) => format!("{:.1} s", millis as f64 / 1000.0),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

impl Running<'_> {
    /// The node is named where there are several.
    fn place(&self, names_node: bool) -> String {
        let pid = self.process.pid;
        match names_node {
            true => format!("process {pid} of node {}", self.node_id),
            false => format!("process {pid}"),
        }
    }

    fn waits_for(&self) -> Option<String> {
        let what = &self.call.waits_for;
        match &self.maker {
            Some(maker) => Some(format!("{what}; it is made by {maker}")),
            None => (!what.is_empty()).then(|| what.clone()),
        }
    }

    fn line(&self, names_node: bool) -> String {
        let waits = self.waits_for();
        let waits = waits.map_or_else(String::new, |what| format!(": waits for {what}"));
        format!(
            "  {} for {}, {}{waits}",
            self.call.name,
            duration(self.call.running_millis),
            self.place(names_node)
        )
    }

    fn json(&self) -> Value {
        let call = self.call;
        let id = |bytes: &[u8]| (!bytes.is_empty()).then(|| render::hex(bytes));
        json!({
            "task_id": id(&call.task_id),
            "name": call.name,
            "running_seconds": call.running_millis as f64 / 1000.0,
            "waits_for": self.waits_for(),
            "awaited_task_id": id(&call.awaited_task_id),
            "node_id": self.node_id,
            "pid": self.process.pid,
            "worker_id": render::hex(&self.process.worker_id),
            "actor_id": id(&call.actor_id),
            "job_id": id(&call.job_id),
        })
    }

    fn row(&self) -> Vec<String> {
        vec![
            render::hex(&self.call.task_id),
            self.call.name.clone(),
            duration(self.call.running_millis),
            self.node_id.to_owned(),
            self.process.pid.to_string(),
            self.waits_for().unwrap_or_default(),
        ]
    }
}

/// The part of `aktis status` that says what runs.
pub(super) fn lines(nodes: &[OfNode]) -> Vec<String> {
    let (calls, silent) = (calls(nodes), silent(nodes));
    let shown = calls.len().min(SHOWN_CALLS);
    let more = left_out(nodes) + (calls.len() - shown) as u64;
    let is_nothing = calls.is_empty() && silent.is_empty() && more == 0;
    let mut lines = vec![
        if is_nothing {
            "Running: nothing"
        } else {
            "Running:"
        }
        .to_owned(),
    ];
    let shown = calls.iter().take(shown);
    lines.extend(shown.map(|running| running.line(nodes.len() > 1)));
    if more > 0 {
        lines.push(format!("  and {more} more (aktis list tasks)"));
    }
    lines.extend(silent.into_iter().map(|line| format!("  {line}")));
    lines
}

/// All calls as a table.
pub(super) fn table(nodes: &[OfNode]) -> String {
    let rows: Vec<Vec<String>> = calls(nodes).iter().map(Running::row).collect();
    let mut lines = vec![render::table(
        &["TASK", "NAME", "FOR", "NODE", "PID", "WAITS FOR"],
        &rows,
    )];
    let more = left_out(nodes);
    if more > 0 {
        lines.push(format!("and {more} more that their nodes do not list"));
    }
    lines.extend(silent(nodes));
    lines.join("\n")
}

/// All calls, for programs.
pub(super) fn as_json(nodes: &[OfNode]) -> Vec<Value> {
    calls(nodes).iter().map(Running::json).collect()
}

/// Who has not answered, for programs.
pub(super) fn silent_json(nodes: &[OfNode]) -> Value {
    let of_nodes = nodes.iter().filter_map(|node| {
        let cause = node.reply.as_ref().err()?;
        Some(json!({"node_id": node.node_id, "pid": null, "cause": cause}))
    });
    let stopped = processes(nodes).filter(|(_, process)| process.is_silent);
    let of_processes = stopped.map(|(node_id, process)| {
        json!({"node_id": node_id, "pid": process.pid, "cause": "it does not answer"})
    });
    Value::Array(of_nodes.chain(of_processes).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn call(name: &str, running_millis: u64, waits_for: &str) -> RunningCall {
        RunningCall {
            name: name.to_owned(),
            running_millis,
            waits_for: waits_for.to_owned(),
            ..RunningCall::default()
        }
    }

    fn node(id: &str, pid: u32, calls: Vec<RunningCall>) -> OfNode {
        let process = RunningProcess {
            pid,
            calls,
            ..RunningProcess::default()
        };
        let reply = RunningReply {
            processes: vec![process],
            ..RunningReply::default()
        };
        OfNode {
            node_id: id.to_owned(),
            reply: Ok(reply),
        }
    }

    /// A node with one call that waits, and one that says nothing.
    pub(in crate::commands) fn nodes() -> Vec<OfNode> {
        vec![
            node(
                "a1",
                7,
                vec![call("total", 2300, "load, which waits for a worker")],
            ),
            OfNode {
                node_id: "b2".to_owned(),
                reply: Err("connection refused".to_owned()),
            },
        ]
    }

    #[test]
    fn line_says_what_where_for_how_long_and_what_it_waits_for() {
        assert_eq!(
            lines(&nodes()),
            [
                "Running:",
                "  total for 2.3 s, process 7 of node a1: waits for load, which waits for a worker",
                "  node b2 does not say: connection refused",
            ]
        );
        assert_eq!(lines(&[node("a1", 7, Vec::new())]), ["Running: nothing"]);
    }

    #[test]
    fn who_waits_for_another_call_says_where_that_runs() {
        let making = RunningCall {
            task_id: vec![9].into(),
            ..call("load", 10, "")
        };
        let waiting = RunningCall {
            awaited_task_id: vec![9].into(),
            ..call("total", 20, "load, which was sent to a worker")
        };
        assert_eq!(
            lines(&[node("a1", 7, vec![waiting]), node("b2", 8, vec![making])])[1],
            "  total for 0.0 s, process 7 of node a1: waits for load, which was sent to a worker; it is made by process 8 of \
             node b2"
        );
    }

    #[test]
    fn status_shows_twenty_calls_and_counts_the_others() {
        let many = (0..30).map(|millis| call("f", millis, "")).collect();
        let mut nodes = vec![node("a1", 7, many)];
        if let Ok(reply) = &mut nodes[0].reply {
            reply.calls_left_out = 5;
            reply.processes[0].calls_left_out = 3;
        }
        let lines = lines(&nodes);
        assert_eq!(lines.len(), 22);
        assert_eq!(lines[1], "  f for 0.0 s, process 7");
        assert_eq!(lines[21], "  and 18 more (aktis list tasks)");
        assert_eq!(as_json(&nodes).len(), 30);
    }

    #[test]
    fn stopped_process_is_told_of() {
        let mut nodes = vec![node("a1", 7, Vec::new())];
        if let Ok(reply) = &mut nodes[0].reply {
            reply.processes[0].is_silent = true;
        }
        assert!(lines(&nodes)[1].starts_with("  process 7 of node a1 does not answer"));
        assert_eq!(silent_json(&nodes)[0]["pid"], 7);
    }

    #[test]
    fn durations_are_as_long_as_they_need_to_be() {
        let texts = [90, 12_345, 200_000, 7_380_000].map(duration);
        assert_eq!(texts, ["0.1 s", "12 s", "3 min 20 s", "2 h 3 min"]);
    }
}
