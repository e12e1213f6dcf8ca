//! The zygote: the process that forks workers.
//!
//! One task owns it: starts it, writes requests, reads replies, and starts the next one when it is gone. Requests that
//! come while there is none wait: workers to fork, never more than the pool lets start at a time, since those that were to be
//! forked when a zygote was lost are given up with it. Whoever holds a [`ZygotePort`] keeps it alive; the zygote itself ends, with all
//! workers, when the task's end of the socket pair closes, however that happens.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::fork::{Registration, register};
use aktis_common::zygote::{ZygoteReply, ZygoteRequest};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::event::{Event, Exit, ZygoteEvent};
use crate::core::keys::StartupToken;
use crate::inbox::Mailbox;
use crate::processes::{Processes, StartedZygote, ZygoteCommand};

/// Pause before the next zygote after one that did not become ready.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Where requests to the zygote go.
#[derive(Debug)]
pub(crate) struct ZygotePort {
    requests: mpsc::UnboundedSender<ZygoteRequest>,
    task: JoinHandle<()>,
}

impl ZygotePort {
    /// Starts a zygote, and keeps one running.
    pub(crate) fn open(
        processes: Arc<dyn Processes>,
        command: ZygoteCommand,
        mailbox: Mailbox,
    ) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        // The first one starts before anything else is done: it takes longest.
        let first = spawn(processes.as_ref(), &command);
        let task = tokio::spawn(keep_running(processes, command, first, receiver, mailbox));
        Self { requests, task }
    }

    /// Sends a request; it waits if there is no zygote now.
    pub(crate) fn send(&self, request: ZygoteRequest) {
        let _ = self.requests.send(request);
    }

    /// Ends the zygote and waits for it.
    pub(crate) async fn close(self) {
        drop(self.requests);
        let _ = self.task.await;
    }
}

/// The end of a zygote, in words.
type End = Pin<Box<dyn Future<Output = String> + Send>>;

struct Zygote {
    pid: u32,
    end: End,
    /// For children that user code forks from a driver: its end is what tells the zygote of the driver's death.
    registered: Registration,
    stream: UnixStream,
}

async fn keep_running(
    processes: Arc<dyn Processes>,
    command: ZygoteCommand,
    first: io::Result<Zygote>,
    mut requests: mpsc::UnboundedReceiver<ZygoteRequest>,
    mailbox: Mailbox,
) {
    let mut zygote = first;
    loop {
        let mut is_ready = false;
        let cause = match zygote {
            Ok(zygote) => {
                let conversation = converse(
                    processes.as_ref(),
                    zygote,
                    &mut requests,
                    &mailbox,
                    &mut is_ready,
                );
                let end = conversation.await;
                match end {
                    Some(cause) => cause,
                    None => return,
                }
            }
            Err(error) => format!("cannot run {:?}: {error}", command.command),
        };
        tracing::warn!(%cause, "the zygote is gone");
        // The core asks anew for what it still wants when it hears of the loss. Kept, they would be as many as there were tries
        // when a zygote comes up at last, and all of them forked for nobody.
        while requests.try_recv().is_ok() {}
        let lost = ZygoteEvent::Lost {
            cause,
            is_start_failure: !is_ready,
        };
        mailbox.event(Event::Zygote(lost));
        // Before there is another one, which would be taken for one of them.
        processes.end_orphans(command.node).await;
        if !is_ready {
            tokio::time::sleep(RESTART_PAUSE).await;
        }
        if requests.is_closed() {
            return;
        }
        zygote = spawn(processes.as_ref(), &command);
    }
}

fn spawn(processes: &dyn Processes, command: &ZygoteCommand) -> io::Result<Zygote> {
    let StartedZygote { pid, stream, end } = processes.start_zygote(command)?;
    stream.set_nonblocking(true)?;
    Ok(Zygote {
        pid,
        end,
        registered: register(&stream),
        stream: UnixStream::from_std(stream)?,
    })
}

/// Talks to a zygote until it is gone, or until nobody holds the port any more (`None`).
async fn converse(
    processes: &dyn Processes,
    zygote: Zygote,
    requests: &mut mpsc::UnboundedReceiver<ZygoteRequest>,
    mailbox: &Mailbox,
    is_ready: &mut bool,
) -> Option<String> {
    let Zygote {
        pid,
        end,
        registered,
        stream,
    } = zygote;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let cause = loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => *is_ready |= deliver(&line, mailbox),
                Ok(None) => break Some("it ended".to_owned()),
                Err(error) => break Some(format!("its socket failed: {error}")),
            },
            request = requests.recv() => match request {
                None => break None,
                Some(request) => {
                    let mut line = serde_json::to_vec(&request).expect("requests are plain data");
                    line.push(b'\n');
                    if let Err(error) = writer.write_all(&line).await {
                        break Some(format!("it takes no requests: {error}"));
                    }
                }
            },
        }
    };
    drop((registered, lines, writer));
    let status = reap(processes, pid, end, cause.is_none()).await;
    cause.map(|cause| format!("{cause} ({status})"))
}

/// Gives a reply to the loop; true if it says that the zygote is ready.
fn deliver(line: &str, mailbox: &Mailbox) -> bool {
    let reply: ZygoteReply = match serde_json::from_str(line) {
        Ok(reply) => reply,
        Err(error) => {
            tracing::warn!(line, %error, "the zygote says something unknown");
            return false;
        }
    };
    let event = match reply {
        ZygoteReply::Ready { .. } => ZygoteEvent::Ready,
        ZygoteReply::Forked { startup_token, pid } => ZygoteEvent::Forked {
            token: StartupToken(startup_token),
            pid,
        },
        ZygoteReply::ForkFailed {
            startup_token,
            error,
        } => ZygoteEvent::ForkFailed {
            token: StartupToken(startup_token),
            error,
        },
        ZygoteReply::Exited {
            pid,
            cause,
            is_out_of_memory,
            is_killed,
        } => ZygoteEvent::Exited {
            pid,
            exit: Exit {
                cause,
                is_out_of_memory,
                is_killed,
            },
        },
    };
    let is_ready = matches!(event, ZygoteEvent::Ready);
    mailbox.event(Event::Zygote(event));
    is_ready
}

/// How long a zygote may take to end its workers and remove its folder.
const END_GRACE: Duration = Duration::from_secs(3);

/// Waits for a zygote whose socket is closed; kills it when it does not end.
async fn reap(processes: &dyn Processes, pid: u32, mut end: End, is_asked: bool) -> String {
    if let Ok(status) = tokio::time::timeout(END_GRACE, &mut end).await {
        return status;
    }
    processes.kill_group(pid);
    end.await;
    if is_asked {
        "killed"
    } else {
        "killed: it hung"
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdStream;

    use aktis_common::ids::{NodeId, WorkerId};
    use aktis_common::zygote::WorkerStart;
    use parking_lot::Mutex;

    use super::*;
    use crate::inbox::channel;

    /// Some zygotes do not start; the next one is played by the test.
    #[derive(Debug)]
    struct LateZygote {
        failures_left: Mutex<u32>,
        zygote: mpsc::UnboundedSender<StdStream>,
    }

    impl Processes for LateZygote {
        fn start_zygote(&self, _: &ZygoteCommand) -> io::Result<StartedZygote> {
            let mut left = self.failures_left.lock();
            if *left > 0 {
                *left -= 1;
                return Err(io::Error::other("no process can be started"));
            }
            let (stream, theirs) = StdStream::pair()?;
            let _ = self.zygote.send(theirs);
            Ok(StartedZygote {
                pid: 1,
                stream,
                end: Box::pin(async { "ended".to_owned() }),
            })
        }

        fn kill_group(&self, _: u32) {}
    }

    fn fork(startup_token: u64) -> ZygoteRequest {
        ZygoteRequest::Fork(WorkerStart {
            startup_token,
            worker_id: WorkerId::random().to_string(),
            raylet_socket: "socket".into(),
            env: Default::default(),
            shared_modules: Vec::new(),
            stdout_path: "worker.out".into(),
        })
    }

    #[tokio::test]
    async fn workers_to_be_forked_by_a_lost_zygote_are_not_forked_by_the_next() {
        let (zygote, mut zygotes) = mpsc::unbounded_channel();
        let processes = Arc::new(LateZygote {
            failures_left: Mutex::new(2),
            zygote,
        });
        let command = ZygoteCommand {
            node: NodeId::random(),
            command: Vec::new(),
            env: Default::default(),
            cleanup_dirs: Vec::new(),
            log_path: "log".into(),
        };
        let (mailbox, mut inbox) = channel();
        let port = ZygotePort::open(processes, command, mailbox);
        for token in 0..2 {
            port.send(fork(token));
            let lost = inbox.messages.recv().await;
            assert!(lost.is_some(), "a zygote was lost");
        }
        let theirs = zygotes.recv().await.unwrap();
        theirs.set_nonblocking(true).unwrap();
        port.send(fork(7));
        let mut asked = BufReader::new(UnixStream::from_std(theirs).unwrap()).lines();
        let first = asked.next_line().await.unwrap().unwrap();
        let first: ZygoteRequest = serde_json::from_str(&first).unwrap();
        assert!(matches!(first, ZygoteRequest::Fork(start) if start.startup_token == 7));
    }
}
