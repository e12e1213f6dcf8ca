//! What this process does at the moment, for people who look (`aktis status`).
//!
//! The queue knows which calls were handed out, and since when. Here is what they wait for. Nothing of this is told to anybody
//! until somebody asks: calls pass neither the raylet nor the gcs, and do not begin to for the sake of being seen.
//!
//! ```text
//!   aktis status ─► raylets ─ WhatRuns ─► lane of each process ─► the thread that polls: queue + waits ─► Running
//! ```
//! The thread that polls answers, never the interpreter: also a process whose code never comes back says what it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, TaskId};
use aktis_lane::{Connection, PayloadParts, Urgency};
use aktis_proto::v1 as wire;
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use wire::lane_frame::Kind as LaneKind;

use super::{ProcessRole, Runtime};
use crate::core::Core;
use crate::core::tasks::call_name;
use crate::execution::RunningCall;
use crate::reference::ObjectRef;

/// Calls of one process that an answer lists.
const LISTED_CALLS: usize = 100;
/// Letters of a name that somebody has given.
const SHOWN_NAME: usize = 200;

/// What a thread or a coroutine waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// Objects that are not ready. There may be none by now.
    Objects {
        first: Option<ObjectId>,
        others: usize,
    },
    /// The next item of a generator.
    Item(TaskId),
    /// That the consumer of its items has read on.
    Consumer,
}

impl Subject {
    pub(super) fn object(object: ObjectId) -> Self {
        Self::objects(&[object])
    }

    pub(super) fn objects(objects: &[ObjectId]) -> Self {
        Self::Objects {
            first: objects.first().copied(),
            others: objects.len().saturating_sub(1),
        }
    }

    /// The task that is to make it.
    fn task(self) -> Option<TaskId> {
        match self {
            Self::Objects { first, .. } => first.map(|object| object.task()),
            Self::Item(task) => Some(task),
            Self::Consumer => None,
        }
    }

    /// In words that fit after "waits for"; empty if there is nothing any more.
    fn text(self, core: &Core) -> String {
        let making = |task: TaskId| {
            let (name, stage) = core.stage_of(task)?;
            Some(format!("{}, which {stage}", short(&name)))
        };
        match self {
            Self::Consumer => "the reader of its items".to_owned(),
            Self::Item(task) => match making(task) {
                Some(making) => format!("the next item of {making}"),
                None => "the next item of a generator".to_owned(),
            },
            Self::Objects { first: None, .. } => String::new(),
            Self::Objects {
                first: Some(object),
                others,
            } => {
                let owner = core.objects.get(object).and_then(|entry| entry.owner());
                let what = match (owner, making(object.task())) {
                    (Some(owner), _) => {
                        format!("object {object} of process {}", owner.worker)
                    }
                    (None, Some(making)) => making,
                    (None, None) => format!("object {object}"),
                };
                match others {
                    0 => what,
                    _ => format!("{what}, and {others} more"),
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    task: Option<TaskId>,
    subject: Subject,
    since: Instant,
}

#[derive(Debug, Default)]
struct WaitTable {
    next: u64,
    /// By numbers: the wait that began last has the greatest.
    waits: FxHashMap<u64, Wait>,
}

/// Those who wait for long enough to be seen.
#[derive(Debug, Default)]
pub(super) struct Waits(Arc<Mutex<WaitTable>>);

/// Somebody waits until this is dropped.
#[derive(Debug)]
pub struct WaitNote {
    table: Arc<Mutex<WaitTable>>,
    number: u64,
}

impl Drop for WaitNote {
    fn drop(&mut self) {
        self.table.lock().waits.remove(&self.number);
    }
}

impl Runtime {
    /// The calling thread, on behalf of its task, waits for this until the note is dropped.
    pub(super) fn note_wait(&self, subject: Subject) -> WaitNote {
        let wait = Wait {
            task: self.current_task(),
            subject,
            since: Instant::now(),
        };
        let mut table = self.0.waits.0.lock();
        let number = table.next;
        table.next += 1;
        table.waits.insert(number, wait);
        WaitNote {
            table: Arc::clone(&self.0.waits.0),
            number,
        }
    }

    /// A coroutine of the task on whose behalf the calling thread runs awaits the object until the note is dropped.
    pub fn note_await(&self, reference: &ObjectRef) -> WaitNote {
        self.note_wait(Subject::object(reference.id()))
    }

    /// Answers the raylet. The core is looked at after the tables, never while they are locked.
    pub(super) fn say_what_runs(&self, connection: &Arc<Connection>) -> Result<(), String> {
        let process = self.what_runs();
        let frame = wire::LaneFrame {
            kind: Some(LaneKind::Running(process)),
        };
        // A raylet that is gone does not want to know.
        let _ = connection.send(&frame, &PayloadParts::default(), Urgency::Now);
        Ok(())
    }

    fn what_runs(&self) -> wire::RunningProcess {
        let mut running = self.queue().running();
        running.sort_by_key(|call| std::cmp::Reverse(call.for_how_long));
        let calls_left_out = running.len().saturating_sub(LISTED_CALLS);
        running.truncate(LISTED_CALLS);
        let waits = self.waits();
        let of_nobody = waits.get(&None);
        let starting = self.queue().starting();
        let mut calls = Vec::with_capacity(running.len() + 1);
        if let Some((class, actor, for_how_long)) = starting {
            let name = format!("{}.__init__", short(&class));
            let call = self.own_call(name, for_how_long);
            calls.push((
                wire::RunningCall {
                    actor_id: actor.to_wire(),
                    ..call
                },
                of_nobody,
            ));
        } else if let (ProcessRole::Driver, Some(wait)) = (self.role(), of_nobody) {
            let call = self.own_call("script".to_owned(), wait.since.elapsed());
            calls.push((call, Some(wait)));
        }
        let waited = |call: &RunningCall| waits.get(&Some(call.task));
        calls.extend(running.iter().map(|call| (shown(call), waited(call))));
        let calls = self.0.core.look(|core| {
            let calls = calls.into_iter();
            let told = calls.map(|(call, wait)| match wait {
                Some(wait) => wire::RunningCall {
                    waits_for: wait.subject.text(core),
                    awaited_task_id: wait.subject.task().map_or_else(Bytes::new, TaskId::to_wire),
                    ..call
                },
                None => call,
            });
            told.collect()
        });
        wire::RunningProcess {
            worker_id: self.address().worker.to_wire(),
            pid: std::process::id(),
            calls,
            calls_left_out: u32::try_from(calls_left_out).unwrap_or(u32::MAX),
            is_silent: false,
        }
    }

    /// What the process does by itself.
    fn own_call(&self, name: String, for_how_long: Duration) -> wire::RunningCall {
        wire::RunningCall {
            name,
            running_millis: millis(for_how_long),
            job_id: self.job().to_wire(),
            ..Default::default()
        }
    }

    /// For each task, and for what runs on behalf of none, the wait that began last.
    fn waits(&self) -> FxHashMap<Option<TaskId>, Wait> {
        let table = self.0.waits.0.lock();
        let mut numbers: Vec<_> = table.waits.iter().collect();
        numbers.sort_by_key(|(number, _)| **number);
        let by_task = numbers.into_iter().map(|(_, wait)| (wait.task, *wait));
        by_task.collect()
    }
}

fn shown(call: &RunningCall) -> wire::RunningCall {
    wire::RunningCall {
        task_id: call.task.to_wire(),
        name: short(&call_name(&call.template)),
        running_millis: millis(call.for_how_long),
        job_id: call.template.job_id.clone(),
        actor_id: call.template.actor_id.clone(),
        ..Default::default()
    }
}

fn short(name: &str) -> String {
    name.chars().take(SHOWN_NAME).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PretendedRaylet, RawPeer};
    use crate::value::Value;

    /// Asks as a raylet does: without a hello.
    fn ask(folder: &std::path::Path, runtime: &Runtime) -> wire::RunningProcess {
        let path = folder.join(runtime.address().worker.to_string());
        let stream = std::os::unix::net::UnixStream::connect(path).expect("a lane");
        let mut lane = RawPeer::new(stream).expect("an end");
        let kind = Some(LaneKind::WhatRuns(wire::WhatRuns {}));
        lane.send(&wire::LaneFrame { kind }, &Value::default())
            .expect("open");
        match lane.receive::<wire::LaneFrame>().expect("an answer").0.kind {
            Some(LaneKind::Running(process)) => process,
            other => panic!("answered with {other:?}"),
        }
    }

    #[test]
    fn process_says_for_what_its_script_waits_and_that_it_waits_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = PretendedRaylet::new(folder.path()).expect("a raylet");
        let (runtime, _raylet) = node.join().expect("joined");
        assert_eq!(ask(folder.path(), &runtime).calls, Vec::new());
        let object = ObjectId::for_put();
        let note = runtime.note_wait(Subject::objects(&[object, ObjectId::for_put()]));
        let process = ask(folder.path(), &runtime);
        assert_eq!(process.pid, std::process::id());
        assert_eq!(
            (
                process.calls[0].name.as_str(),
                process.calls[0].waits_for.clone()
            ),
            ("script", format!("object {object}, and 1 more"))
        );
        drop(note);
        assert_eq!(ask(folder.path(), &runtime).calls, Vec::new());
        runtime.shutdown();
    }
}
