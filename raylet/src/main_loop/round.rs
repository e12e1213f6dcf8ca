//! One message after the other.

use aktis_common::error::ErrorCode;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{Done, Failure, LogLines};

use super::RayletLoop;
use super::shutdown::End;
use crate::core::event::{Event, StoreEvent};
use crate::core::keys::ConnectionId;
use crate::inbox::{Message, ProcessNews};
use crate::io::frames::ProcessFrame;
use crate::io::logs::Flush;

impl RayletLoop {
    /// A connection begins, says something or ends.
    pub(super) fn on_process(&mut self, connection: ConnectionId, news: ProcessNews) {
        match news {
            ProcessNews::Connected(stream) => self.ports.links.insert(connection, stream),
            ProcessNews::Frame(frame) => self.on_frame(connection, frame),
            ProcessNews::Disconnected => {
                self.handle(Event::Disconnected { connection });
                self.ports.links.remove(connection);
            }
        }
    }

    /// A frame of a process. What the store or the follower of logs can answer does not pass the core.
    fn on_frame(&mut self, connection: ConnectionId, frame: ProcessFrame) {
        let ProcessFrame {
            request_id,
            kind,
            payload,
        } = frame;
        // A kind that only a newer process knows.
        let Some(kind) = kind else { return };
        let is_greeted = self.core.processes().get(connection).is_some();
        let kind = if is_greeted {
            match self.ports.store.on_frame(connection, request_id, kind) {
                Some(Kind::LogFlush(_)) => return self.flush_logs(connection, request_id),
                Some(kind) => kind,
                None => return self.take_store_outputs(),
            }
        } else {
            kind
        };
        let wants_acknowledgement = request_id != 0 && is_only_acknowledged(&kind);
        self.handle(Event::Frame {
            connection,
            request_id,
            kind,
            payload,
        });
        if wants_acknowledgement {
            self.ports
                .links
                .send(connection, request_id, Kind::Done(Done {}), &[]);
        }
    }

    /// A driver wants the lines of its job's workers.
    fn flush_logs(&mut self, connection: ConnectionId, request_id: u64) {
        let process = self.core.processes().get(connection);
        let Some(job) = process.and_then(|process| process.job) else {
            let failure = Failure::of(
                ErrorCode::InvalidArgument,
                "only a driver gets the output of workers",
            );
            let links = &mut self.ports.links;
            return links.send(connection, request_id, Kind::Failure(failure), &[]);
        };
        let Some(turn) = self.ports.logs.turn() else {
            let failure = Failure::of(
                ErrorCode::Timeout,
                "too many drivers wait for the output of their workers already; it is in their log files",
            );
            let links = &mut self.ports.links;
            return links.send(connection, request_id, Kind::Failure(failure), &[]);
        };
        let living = self.core.pool().iter();
        let living = living.filter(|worker| worker.job == Some(job));
        let dead = self.epitaphs.iter();
        let dead = dead.filter(|(_, epitaph)| epitaph.job == job);
        self.ports.logs.flush(Flush {
            workers: living
                .map(|worker| worker.id)
                .chain(dead.map(|(worker, _)| *worker))
                .collect(),
            connection,
            request_id,
            turn,
        });
    }

    /// What is kept for an answer goes with it.
    fn forget_what_ended(&mut self, event: &Event) {
        match event {
            Event::LogEnded { worker, .. } => {
                self.epitaphs.remove(worker);
            }
            Event::CallDropped { call } => {
                self.calls.remove(call);
            }
            Event::ForwardEnded {
                reply_to, claim_id, ..
            } => {
                // Not that of a later try, which may still be withdrawn.
                let current = self.core.leases().forwarded(*reply_to);
                if current.is_none_or(|(_, sent)| sent.claim_id == *claim_id) {
                    self.forwards.remove(reply_to);
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_message(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Event(event) => {
                self.forget_what_ended(&event);
                self.handle(event);
            }
            Message::Writable(connection) => self.ports.links.on_writable(connection),
            Message::Send {
                connection,
                request_id,
                kind,
            } => {
                self.ports.links.send(connection, request_id, kind, &[]);
            }
            Message::Call {
                call,
                request,
                answer,
            } => {
                // The caller may have gone while this waited; then it said so already.
                if !answer.is_closed() {
                    self.calls.insert(call, answer);
                    self.handle(Event::Call { call, request });
                }
            }
            Message::Measured(measured) => self.on_measured(&measured),
            Message::StoreIo(done) => {
                self.ports.store.on_io(done);
                self.take_store_outputs();
            }
            Message::PullSized {
                pull,
                total_bytes,
                place,
            } => {
                self.on_pull_sized(&pull, total_bytes, place);
            }
            Message::PullEnded { pull, result } => self.on_pull_ended(&pull, result),
            Message::PullPauseEnded { object, number } => {
                let object_id = object.to_wire();
                self.handle(Event::Store(StoreEvent::PullPauseEnded {
                    object_id,
                    number,
                }));
            }
            Message::ReadObject {
                call,
                object,
                reader,
                grant,
            } => self.on_read(call, object, reader, grant),
            Message::ReadEnded { call, object } => self.on_read_ended(call, object),
            Message::LogLines {
                worker,
                is_stderr,
                source,
                lines,
                room,
            } => {
                let lines = LogLines {
                    source,
                    is_stderr,
                    lines,
                    ..LogLines::default()
                };
                self.on_log_lines(worker, lines);
                drop(room);
            }
            Message::NotStarted {
                reply_to,
                is_actor_start,
                failure,
            } => self.not_started(reply_to, is_actor_start, failure),
            Message::Shutdown { end: why, done } => return Some(End { why, done }),
        }
        None
    }

    fn on_log_lines(&mut self, worker: aktis_common::ids::WorkerId, mut lines: LogLines) {
        let (job, pid, label) = match (self.core.pool().get(worker), self.epitaphs.get(&worker)) {
            (Some(worker), _) => (worker.job, worker.pid, worker.source()),
            (None, Some(dead)) => (Some(dead.job), Some(dead.pid), dead.label.clone()),
            (None, None) => return,
        };
        let Some(job) = job else { return };
        lines.pid = pid.unwrap_or(0);
        lines.hostname = self.surroundings.hostname.clone();
        if lines.source.is_empty() {
            lines.source = label;
        }
        let drivers: Vec<ConnectionId> = self.core.processes().drivers_of(job).collect();
        for driver in drivers {
            self.ports
                .links
                .send(driver, 0, Kind::LogLines(lines.clone()), &[]);
        }
    }
}

/// Requests without an answer of their own; a process that numbers one wants to know that it was taken.
fn is_only_acknowledged(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::StoreFree(_)
            | Kind::StoreGetCancel(_)
            | Kind::LeaseCancel(_)
            | Kind::LeaseReturn(_)
            | Kind::ActorStarted(_)
            | Kind::WatchActor(_)
            | Kind::Goodbye(_)
            | Kind::Lingering(_)
            | Kind::Lending(_)
            | Kind::Preload(_)
            | Kind::Blocked(_)
            | Kind::Unblocked(_)
    )
}
