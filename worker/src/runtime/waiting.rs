//! Waiting for objects: `get` and `wait`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::ObjectId;
use aktis_lane::{SIGNAL_SLICE, WaitEnd, Waiter};

use super::at_work::Subject;
use super::fetching::ReadsAhead;
use super::{ProcessRole, Runtime};
use crate::core::Watcher;
use crate::core::objects::ObjectState;
use crate::error::TaskFailure;
use crate::reference::ObjectRef;
use crate::store::client::ObjectPlace;
use crate::value::Value;

/// Asked now and then while a thread waits; `true` ends the wait.
pub type Interrupt<'a> = &'a dyn Fn() -> bool;

/// A worker that waits longer than this gives its CPU back.
const BLOCKED_AFTER: Duration = Duration::from_micros(500);

/// Why `get` gave no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// An object failed; or the task that was to make it.
    #[error("{0}")]
    Failed(TaskFailure),
    /// The deadline passed; this many objects were not ready.
    #[error("{missing} of {wanted} objects were not ready in time")]
    TimedOut {
        /// Objects that were not ready.
        missing: usize,
        /// Objects asked for.
        wanted: usize,
        /// What the first of them waits for, if this process knows.
        waits_for: Option<String>,
    },
    /// The interrupt said so.
    #[error("interrupted")]
    Interrupted,
}

impl GetError {
    /// As a failure with a code.
    pub fn into_failure(self) -> TaskFailure {
        match self {
            Self::Failed(failure) => failure,
            Self::TimedOut { .. } => TaskFailure::new(ErrorCode::Timeout, self.to_string()),
            Self::Interrupted => TaskFailure::new(ErrorCode::Cancelled, "interrupted by a signal"),
        }
    }
}

/// What `get` does next.
enum Next {
    Done,
    Wait(ObjectId),
    Read(ObjectPlace),
}

/// A wait that may have several parts. A worker that waits for long lends its CPU to others until this is dropped.
pub(super) struct Waiting<'a> {
    runtime: &'a Runtime,
    deadline: Option<Instant>,
    interrupt: Interrupt<'a>,
    is_blocked: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(
        runtime: &'a Runtime,
        deadline: Option<Instant>,
        interrupt: Interrupt<'a>,
    ) -> Self {
        Self {
            runtime,
            deadline,
            interrupt,
            is_blocked: false,
        }
    }

    pub(super) fn wait_for(
        &mut self,
        waiter: &Arc<Waiter>,
        subject: Subject,
    ) -> Result<(), GetError> {
        let mut note = None;
        let may_block = matches!(self.runtime.0.role, ProcessRole::Worker { .. });
        loop {
            let slice = if may_block && !self.is_blocked {
                BLOCKED_AFTER
            } else {
                SIGNAL_SLICE
            };
            let end = self
                .runtime
                .reactor()
                .wait(waiter, self.deadline, Some(slice));
            match end {
                WaitEnd::Done => return Ok(()),
                WaitEnd::DeadlinePassed => {
                    return Err(GetError::TimedOut {
                        missing: 1,
                        wanted: 1,
                        waits_for: None,
                    });
                }
                WaitEnd::Interrupted if (self.interrupt)() => return Err(GetError::Interrupted),
                WaitEnd::Interrupted => {
                    if may_block && !self.is_blocked {
                        self.is_blocked = true;
                        self.runtime.enter_blocked();
                    }
                    // Not before: most waits are too short for anybody to see.
                    note.get_or_insert_with(|| self.runtime.note_wait(subject));
                }
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_blocked {
            self.runtime.leave_blocked();
        }
    }
}

/// A thread in `get` that is told when any object fails. It waits no more when this is dropped.
pub(super) struct EnteredGetter<'a> {
    runtime: &'a Runtime,
    number: u64,
    has_failures: Arc<AtomicBool>,
}

impl EnteredGetter<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for EnteredGetter<'_> {
    fn drop(&mut self) {
        let core = &self.runtime.0.core;
        core.note(|core| core.objects.remove_getter(self.number));
    }
}

impl Runtime {
    /// The values of `references`, in order. Waits until all are there, `deadline` passes, or one turns out to have failed.
    pub fn get(
        &self,
        references: &[ObjectRef],
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, TaskFailure> {
        self.get_interruptibly(references, deadline, &|| false)
            .map_err(GetError::into_failure)
    }

    /// [`Self::get`] that asks `interrupt` at least every 50 ms, and mostly at once after a signal.
    pub fn get_interruptibly(
        &self,
        references: &[ObjectRef],
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Vec<Value>, GetError> {
        self.check_open().map_err(GetError::Failed)?;
        let mut values = Vec::with_capacity(references.len());
        let mut waiting = Waiting::new(self, deadline, interrupt);
        let mut ahead = ReadsAhead::default();
        let mut getter: Option<EnteredGetter<'_>> = None;
        loop {
            if let Some(getter) = &getter {
                self.look_for_failures(&references[values.len()..], getter)?;
            }
            match self.take_ready(references, &mut values)? {
                Next::Done => return Ok(values),
                Next::Read(place) => {
                    let position = values.len();
                    values.extend(self.read_in_turn(
                        references,
                        position,
                        place,
                        &mut ahead,
                        &mut getter,
                        &mut waiting,
                    )?);
                }
                Next::Wait(object) => {
                    let left = &references[values.len()..];
                    if getter.is_none() && left.len() > 1 {
                        getter = Some(self.look_ahead(left)?);
                    }
                    let waited = self.wait_for_object(object, getter.as_ref(), &mut waiting);
                    waited.map_err(|error| self.with_counts(error, references))?;
                }
            }
        }
    }

    /// Has everything asked for that another process owns or that was lost, so that it comes side by side. Fails if something
    /// has failed already; later failures are told to the waits of the getter that is returned.
    pub(super) fn look_ahead(
        &self,
        references: &[ObjectRef],
    ) -> Result<EnteredGetter<'_>, GetError> {
        let has_failures = Arc::new(AtomicBool::new(false));
        let number = self.with_core(|core, effects| {
            for reference in references {
                match core.objects.get(reference.id()) {
                    Some(entry) => match entry.state() {
                        ObjectState::Failed(failure) => return Err(TaskFailure::clone(failure)),
                        ObjectState::Pending if entry.owner().is_none() => {}
                        ObjectState::Pending | ObjectState::Lost => {
                            core.bring_about(reference.id(), effects);
                        }
                        ObjectState::Inline(_) | ObjectState::Stored(_) => {}
                    },
                    None => return Err(unknown(reference.id())),
                }
            }
            core.settle(effects);
            Ok(core.objects.add_getter(Arc::clone(&has_failures)))
        });
        Ok(EnteredGetter {
            runtime: self,
            number: number.map_err(GetError::Failed)?,
            has_failures,
        })
    }

    /// Fails if one of the objects is among those that failed since this was asked last.
    fn look_for_failures(
        &self,
        references: &[ObjectRef],
        getter: &EnteredGetter<'_>,
    ) -> Result<(), GetError> {
        if !getter.has_failures.load(Ordering::Acquire) {
            return Ok(());
        }
        self.0.core.note(|core| {
            let failed = core.objects.take_failed(getter.number);
            if let Some(first) = references.first() {
                // The wait for it may have ended without it.
                core.objects.unwatch_done(first.id());
            }
            let is_meant = |reference: &&ObjectRef| failed.contains(&reference.id());
            let found = references.iter().find(is_meant);
            match found.and_then(|found| core.objects.get(found.id())) {
                Some(entry) => match entry.state() {
                    ObjectState::Failed(failure) => {
                        Err(GetError::Failed(TaskFailure::clone(failure)))
                    }
                    _ => Ok(()),
                },
                None => Ok(()),
            }
        })
    }

    /// Appends the values that are in this process already, up to the first that is not.
    fn take_ready(
        &self,
        references: &[ObjectRef],
        values: &mut Vec<Value>,
    ) -> Result<Next, GetError> {
        self.0.core.look(|core| {
            for reference in &references[values.len()..] {
                let (object, owner) = (reference.id(), reference.owner());
                match core.objects.state(object) {
                    Some(ObjectState::Inline(value)) => values.push(value.clone()),
                    Some(ObjectState::Failed(failure)) => {
                        return Err(GetError::Failed(TaskFailure::clone(failure)));
                    }
                    Some(ObjectState::Stored(stored)) => {
                        return Ok(Next::Read(ObjectPlace {
                            object,
                            owner,
                            nodes: stored.nodes.clone(),
                            size_bytes: stored.size_bytes,
                            making: stored.making,
                        }));
                    }
                    Some(ObjectState::Pending | ObjectState::Lost) => {
                        return Ok(Next::Wait(object));
                    }
                    None => return Err(GetError::Failed(unknown(object))),
                }
            }
            Ok(Next::Done)
        })
    }

    /// Waits until the object is ready; with a `getter`, or something else has failed.
    fn wait_for_object(
        &self,
        object: ObjectId,
        getter: Option<&EnteredGetter<'_>>,
        waiting: &mut Waiting<'_>,
    ) -> Result<(), GetError> {
        let waiter = Waiter::new(1);
        self.with_core(|core, effects| {
            if let Some(getter) = getter {
                core.objects.getter_waits(getter.number, &waiter);
            }
            core.watch(object, Watcher::Thread(Arc::clone(&waiter)), effects);
        });
        let waited = waiting.wait_for(&waiter, Subject::object(object));
        if waited.is_err() {
            self.unwatch_all(&[object], &waiter);
        }
        waited
    }

    fn with_counts(&self, error: GetError, references: &[ObjectRef]) -> GetError {
        let GetError::TimedOut { .. } = error else {
            return error;
        };
        GetError::TimedOut {
            missing: self.count_missing(references),
            wanted: references.len(),
            waits_for: self.0.core.look(|core| {
                let mut ids = references.iter().map(ObjectRef::id);
                core.waits_for(ids.find(|id| !core.objects.is_ready(*id))?)
            }),
        }
    }

    /// How many of the objects are not ready.
    pub fn count_missing(&self, references: &[ObjectRef]) -> usize {
        self.0.core.look(|core| {
            let is_missing = |reference: &&ObjectRef| !core.objects.is_ready(reference.id());
            references.iter().filter(is_missing).count()
        })
    }

    fn watch_all(&self, ids: &[ObjectId], waiter: &Arc<Waiter>) {
        self.with_core(|core, effects| {
            for id in ids {
                core.watch(*id, Watcher::Thread(Arc::clone(waiter)), effects);
            }
        });
    }

    pub(super) fn unwatch_all(&self, ids: &[ObjectId], waiter: &Arc<Waiter>) {
        self.0
            .core
            .note(|core| ids.iter().for_each(|id| core.objects.unwatch(*id, waiter)));
    }

    /// Waits until `count` of the objects are ready, or `deadline` passes. Returns the positions of ready ones in order, at
    /// most `count`.
    pub fn wait(
        &self,
        objects: &[ObjectId],
        count: usize,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Vec<usize>, GetError> {
        self.check_open().map_err(GetError::Failed)?;
        let ready = self.ready_positions(objects, count);
        if ready.len() >= count {
            return Ok(ready);
        }
        let missing: Vec<ObjectId> = self.0.core.look(|core| {
            let is_missing = |id: &&ObjectId| !core.objects.is_ready(**id);
            objects.iter().filter(is_missing).copied().collect()
        });
        let waiter = Waiter::new(count.saturating_sub(objects.len() - missing.len()));
        self.watch_all(&missing, &waiter);
        let subject = Subject::objects(&missing);
        let waited = Waiting::new(self, deadline, interrupt).wait_for(&waiter, subject);
        self.unwatch_all(&missing, &waiter);
        // At the end of a session everything that is awaited counts as failed, and so as ready.
        self.check_open().map_err(GetError::Failed)?;
        match waited {
            Ok(()) | Err(GetError::TimedOut { .. }) => Ok(self.ready_positions(objects, count)),
            Err(error) => Err(error),
        }
    }

    fn ready_positions(&self, objects: &[ObjectId], count: usize) -> Vec<usize> {
        self.0.core.look(|core| {
            let ready = objects.iter().enumerate();
            ready
                .filter(|(_, id)| core.objects.is_ready(**id))
                .map(|(position, _)| position)
                .take(count)
                .collect()
        })
    }
}

fn unknown(object: ObjectId) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::ObjectLost,
        format!(
            "object {object} is not known to this session; references do not outlive shutdown()"
        ),
    )
}
