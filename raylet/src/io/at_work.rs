//! Asks the processes of this node what they do, for `aktis status`.
//!
//! Each has a lane socket, and the thread that polls it answers, whatever the process's own code does. The loop is not asked:
//! which processes there are stands in the folder of the sockets. A process that is stopped or swamped is listed as silent, with
//! the pid that the kernel tells of its socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aktis_common::ids::WorkerId;
use aktis_lane::{Decoder, PayloadParts, encode_whole};
use aktis_proto::v1::lane_frame::Kind;
use aktis_proto::v1::{LaneFrame, RunningProcess, RunningReply, WhatRuns};
use futures::StreamExt;
use futures::stream;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// How long the processes of a node have, all together.
const PATIENCE: Duration = Duration::from_secs(1);
/// Processes that are asked side by side: each needs a descriptor meanwhile.
const ASKED_AT_ONCE: usize = 128;
/// Calls in one answer, of all processes together.
const LISTED_CALLS: usize = 1000;

/// What the processes whose lane sockets lie in `lane_dir` do at the moment.
pub(crate) async fn list_running(lane_dir: &Path) -> RunningReply {
    let deadline = Instant::now() + PATIENCE;
    let asked = stream::iter(lanes_in(lane_dir))
        .map(|(worker, path)| ask(worker, path, deadline))
        .buffer_unordered(ASKED_AT_ONCE);
    let processes: Vec<RunningProcess> = asked.filter_map(std::future::ready).collect().await;
    bounded(processes)
}

/// The processes that have something to say, with as many of their calls as fit: those that run for the longest time.
fn bounded(mut processes: Vec<RunningProcess>) -> RunningReply {
    let mut times: Vec<u64> = processes
        .iter()
        .flat_map(|process| process.calls.iter().map(|call| call.running_millis))
        .collect();
    let mut calls_left_out = 0;
    if times.len() > LISTED_CALLS {
        times.sort_unstable_by(|left, right| right.cmp(left));
        let (shortest, mut room) = (times[LISTED_CALLS - 1], LISTED_CALLS);
        for process in &mut processes {
            let before = process.calls.len();
            process.calls.retain(|call| {
                let is_listed = call.running_millis >= shortest && room > 0;
                room -= usize::from(is_listed);
                is_listed
            });
            calls_left_out += (before - process.calls.len()) as u64;
        }
    }
    processes.retain(|process| {
        process.is_silent || !process.calls.is_empty() || process.calls_left_out > 0
    });
    RunningReply {
        processes,
        calls_left_out,
    }
}

/// A folder that cannot be read belongs to a node that ends.
fn lanes_in(folder: &Path) -> Vec<(WorkerId, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let worker = WorkerId::from_hex(entry.file_name().to_str()?).ok()?;
            Some((worker, entry.path()))
        })
        .collect()
}

/// `None`: the process is gone. One that lives and cannot be asked, for want of a descriptor or because its answer makes no
/// sense, is listed as silent.
async fn ask(worker: WorkerId, path: PathBuf, deadline: Instant) -> Option<RunningProcess> {
    let mut pid = 0;
    let answer = timeout_at(deadline, async {
        let lane = UnixStream::connect(path).await?;
        // Whoever listens there; the kernel knows.
        pid = lane.peer_cred()?.pid().unwrap_or_default();
        answer_on(lane).await
    });
    match answer.await {
        Ok(Ok(process)) => Some(process),
        Ok(Err(error)) if is_gone(&error) => None,
        unanswered => {
            if let Ok(Err(error)) = unanswered {
                tracing::warn!(%worker, %error, "a process does not say what it runs");
            }
            Some(RunningProcess {
                worker_id: worker.to_wire(),
                pid: pid.unsigned_abs(),
                is_silent: true,
                ..RunningProcess::default()
            })
        }
    }
}

/// Whether the other end is none any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

async fn answer_on(mut lane: UnixStream) -> io::Result<RunningProcess> {
    let kind = Some(Kind::WhatRuns(WhatRuns {}));
    let question = encode_whole(&LaneFrame { kind }, &PayloadParts::default());
    lane.write_all(&question).await?;
    let mut decoder = Decoder::new();
    loop {
        if let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            let header = LaneFrame::decode(frame.header).map_err(io::Error::other)?;
            return match header.kind {
                Some(Kind::Running(process)) => Ok(process),
                other => Err(io::Error::other(format!("answered with {other:?}"))),
            };
        }
        let count = lane.read(decoder.space()).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        decoder.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use aktis_proto::v1::RunningCall;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn stopped_process_is_silent_and_one_that_is_gone_is_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        let (stopped, gone) = (WorkerId::random(), WorkerId::random());
        let path = |worker: WorkerId| folder.path().join(worker.to_string());
        let _takes_none = UnixListener::bind(path(stopped)).unwrap();
        drop(UnixListener::bind(path(gone)).unwrap());
        let reply = list_running(folder.path()).await;
        let [silent] = reply.processes.as_slice() else {
            panic!("one is silent: {reply:?}")
        };
        assert!(silent.is_silent);
        assert_eq!(
            (silent.worker_id.clone(), silent.pid),
            (stopped.to_wire(), std::process::id())
        );
    }

    #[tokio::test]
    async fn process_that_answers_something_else_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let worker = WorkerId::random();
        let lanes = UnixListener::bind(folder.path().join(worker.to_string())).unwrap();
        let answers = async {
            let (mut lane, _) = lanes.accept().await.unwrap();
            let kind = Some(Kind::WhatRuns(WhatRuns {}));
            let other = encode_whole(&LaneFrame { kind }, &PayloadParts::default());
            lane.write_all(&other).await.unwrap();
            lane
        };
        let (reply, _lane) = tokio::join!(list_running(folder.path()), answers);
        assert_eq!(reply.processes.len(), 1, "{reply:?}");
        assert!(reply.processes[0].is_silent);
    }

    #[test]
    fn answer_has_the_thousand_calls_that_run_for_the_longest_time() {
        let call = |running_millis| RunningCall {
            running_millis,
            ..RunningCall::default()
        };
        let process = |times: std::ops::Range<u64>| RunningProcess {
            calls: times.map(call).collect(),
            ..RunningProcess::default()
        };
        let reply = bounded(vec![process(0..700), process(700..1400), process(0..0)]);
        assert_eq!(reply.calls_left_out, 400);
        let listed = |index: usize| reply.processes[index].calls.len();
        assert_eq!((listed(0), listed(1), reply.processes.len()), (300, 700, 2));
    }
}
