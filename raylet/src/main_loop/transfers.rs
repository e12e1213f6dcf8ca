//! Objects that come from, or go to, other nodes.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_object_store::{ArenaError, BytesAt, CreateError, CreatingRange, GetError, SealedRange};
use aktis_proto::v1::{Address, Failure};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{PullTask, RayletLoop};
use crate::core::event::{Event, PullFailure, StoreEvent};
use crate::core::keys::{CallId, ReplyTo};
use crate::inbox::Message;
use crate::io::store::{StoreOutput, StorePort, create_failure, get_failure};
use crate::transfer::{
    HeldBytes, HeldFile, PullOrder, PullPlace, ReadGrant, ReadPin, ReadStage, Reading, pull,
};

impl RayletLoop {
    /// What the store has to say: frames go to processes, news to the core.
    pub(super) fn take_store_outputs(&mut self) {
        for output in self.ports.store.take_outputs() {
            match output {
                StoreOutput::Frame {
                    connection,
                    request_id,
                    kind,
                } => {
                    self.ports.links.send(connection, request_id, kind, &[]);
                }
                StoreOutput::Event(event) => self.backlog.push_back(Event::Store(event)),
                StoreOutput::PullPlaced { object, place } => self.on_pull_placed(object, place),
                StoreOutput::ReadReady {
                    reply_to,
                    object,
                    place,
                } => {
                    self.on_read_ready(reply_to, object, place);
                }
            }
        }
    }

    pub(super) fn begin_pull(&mut self, object_id: &Bytes, owner: Address, node: NodeId) {
        let Ok(object) = ObjectId::from_bytes(object_id) else {
            return;
        };
        self.ports.store.begin_pull(object);
        // From an earlier source that stopped in the middle.
        let place = self.pulls.remove(&object).and_then(|before| before.place);
        self.next_attempt += 1;
        let attempt = self.next_attempt;
        let wanted = PullOrder {
            object,
            node,
            attempt,
        };
        let (streams, mailbox) = (self.ports.streams.clone(), self.mailbox.clone());
        let fetching = pull(wanted, place.clone(), streams, mailbox);
        let task = self.surroundings.beside.spawn(fetching).abort_handle();
        let pull = PullTask {
            task,
            attempt,
            arrived_before: place.as_ref().map_or(0, PullPlace::arrived_bytes),
            place,
            owner,
            awaiting_place: None,
        };
        self.pulls.insert(object, pull);
    }

    /// Which pause it was is looked at when it is over: nobody may wait for it then.
    pub(super) fn pause_pull(&self, object_id: &Bytes, number: u64, pause: Duration) {
        let Ok(object) = ObjectId::from_bytes(object_id) else {
            return;
        };
        let mailbox = self.mailbox.clone();
        self.surroundings.beside.spawn(async move {
            tokio::time::sleep(pause).await;
            mailbox.send(Message::PullPauseEnded { object, number });
        });
    }

    pub(super) fn abandon_pull(&mut self, object_id: &Bytes) {
        let Ok(object) = ObjectId::from_bytes(object_id) else {
            return;
        };
        if let Some(pull) = self.pulls.remove(&object) {
            pull.task.abort();
            if let Some(place) = pull.place {
                place.close();
            }
        }
        self.ports.store.abort_pull(object);
    }

    pub(super) fn on_pull_sized(
        &mut self,
        wanted: &PullOrder,
        total_bytes: u64,
        place: oneshot::Sender<Result<PullPlace, PullFailure>>,
    ) {
        let object = wanted.object;
        // Given up meanwhile: the task is aborted.
        let Some(pull) = self.current(wanted) else {
            return;
        };
        pull.awaiting_place = Some(place);
        let owner = pull.owner.clone();
        self.ports
            .store
            .place_pull(object, Some(&owner), total_bytes);
        self.take_store_outputs();
    }

    fn on_pull_placed(&mut self, object: ObjectId, at: Result<BytesAt, CreateError>) {
        let Some(pull) = self.pulls.get_mut(&object) else {
            return;
        };
        let Some(waiting) = pull.awaiting_place.take() else {
            return;
        };
        let answer = at
            .map_err(|error| create_failure(&error))
            .and_then(|at| Self::pull_place(&self.ports.store, at));
        if let Ok(place) = &answer {
            pull.place = Some(place.clone());
        }
        let _ = waiting.send(answer.map_err(PullFailure::Here));
    }

    #[allow(unsafe_code, reason = "vouches for the answer of its own store")]
    fn pull_place(store: &StorePort, at: BytesAt) -> Result<PullPlace, Failure> {
        let unmapped = |error: ArenaError| {
            let message = format!("a copy has no place here: {}", error.chain());
            Failure::of(ErrorCode::Internal, message)
        };
        let (arena, place) = store.map_for_writing(at).map_err(unmapped)?;
        // SAFETY: RANGE-1 (alone-while-written): the store answered the create of this copy with the place, and the
        // copy is sealed or aborted when the place is closed.
        let range = unsafe { CreatingRange::new(arena, place.offset, place.len) };
        range.and_then(PullPlace::new).map_err(unmapped)
    }

    /// The transfer of this very attempt, unless it was given up.
    fn current(&mut self, wanted: &PullOrder) -> Option<&mut PullTask> {
        let pull = self.pulls.get_mut(&wanted.object)?;
        (pull.attempt == wanted.attempt).then_some(pull)
    }

    pub(super) fn on_pull_ended(&mut self, ended: &PullOrder, result: Result<(), PullFailure>) {
        let PullOrder { object, node, .. } = *ended;
        // Not that of an attempt that was given up when it was just ending.
        let Some(pull) = self.current(ended) else {
            return;
        };
        let arrived = pull.place.as_ref().map_or(0, PullPlace::arrived_bytes);
        let has_given = arrived > pull.arrived_before;
        let object_id = object.to_wire();
        match result {
            Ok(()) => {
                // Nothing is written to what is sealed.
                if let Some(place) = self.pulls.remove(&object).and_then(|pull| pull.place) {
                    place.close();
                }
                self.ports.store.seal_pull(object);
                self.handle(Event::Store(StoreEvent::Pulled { object_id }));
            }
            // The place stays for the next source.
            Err(cause @ (PullFailure::Source(_) | PullFailure::Unreadable(_))) => {
                tracing::debug!(%object, %node, ?cause, "a source failed");
                self.handle(Event::Store(StoreEvent::PullFailed {
                    object_id,
                    node,
                    cause,
                    has_given,
                }));
            }
            Err(PullFailure::Here(failure)) => {
                self.abandon_pull(&object_id);
                if failure.error_code() == ErrorCode::AlreadyExists {
                    // Somebody of this node makes it: whoever waits gets that one.
                    self.handle(Event::Store(StoreEvent::Pulled { object_id }));
                } else {
                    let cause = PullFailure::Here(failure);
                    self.handle(Event::Store(StoreEvent::PullFailed {
                        object_id,
                        node,
                        cause,
                        has_given,
                    }));
                }
            }
        }
    }

    pub(super) fn on_read(
        &mut self,
        call: CallId,
        object: ObjectId,
        reader: NodeId,
        grant: oneshot::Sender<Result<ReadGrant, Failure>>,
    ) {
        if grant.is_closed() {
            return;
        }
        let stage = ReadStage::Awaited(grant);
        let reading = Reading {
            object,
            reader,
            stage,
        };
        self.reads.insert(call, reading);
        self.ports.store.read(ReplyTo::Call(call), object);
        self.take_store_outputs();
    }

    #[allow(unsafe_code, reason = "vouches for the answer of its own store")]
    fn on_read_ready(
        &mut self,
        reply_to: ReplyTo,
        object: ObjectId,
        at: Result<BytesAt, GetError>,
    ) {
        let ReplyTo::Call(call) = reply_to else {
            return;
        };
        let Some(Reading {
            reader,
            stage: ReadStage::Awaited(waiting),
            ..
        }) = self.reads.remove(&call)
        else {
            return;
        };
        let at = match at {
            Ok(at) => at,
            Err(error) => {
                let _ = waiting.send(Err(get_failure(&error)));
                return;
            }
        };
        // Whatever comes of it, its drop gives the object back.
        let pin = ReadPin {
            call,
            object,
            mailbox: self.mailbox.clone(),
        };
        let bytes = match at {
            BytesAt::Arena(place) => {
                let arena = self.ports.store.arena();
                // SAFETY: RANGE-2 (unchanged-while-read): the store answered the get of this transfer with the place, and
                // holds it until the pin is dropped.
                let range = unsafe { SealedRange::new(arena, place.offset, place.len, pin) };
                range.map(HeldBytes::Arena)
            }
            BytesAt::File(place) => Ok(HeldBytes::File(HeldFile {
                path: self.ports.store.file_of(place),
                offset: place.offset,
                len: place.len,
                pin,
            })),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("object {object} cannot be sent: {}", error.chain());
                let _ = waiting.send(Err(Failure::of(ErrorCode::Internal, message)));
                return;
            }
        };
        let (lost, reader_lost) = oneshot::channel();
        let stage = ReadStage::Granted(lost);
        let reading = Reading {
            object,
            reader,
            stage,
        };
        self.reads.insert(call, reading);
        // A grant that nobody takes is dropped, and so gives the object back.
        let _ = waiting.send(Ok(ReadGrant { bytes, reader_lost }));
    }

    /// The node is gone: what is held for it is held for nobody. One that only was silent asks again.
    pub(super) fn end_reads_of(&mut self, node: NodeId) {
        let of_node = self.reads.extract_if(|_, reading| reading.reader == node);
        let ended: Vec<(CallId, Reading)> = of_node.collect();
        for (call, reading) in ended {
            // What is being sent says itself when it has ended.
            if let ReadStage::Awaited(_) = reading.stage {
                self.ports
                    .store
                    .end_read(ReplyTo::Call(call), reading.object);
            }
        }
    }

    pub(super) fn on_read_ended(&mut self, call: CallId, object: ObjectId) {
        self.reads.remove(&call);
        self.ports.store.end_read(ReplyTo::Call(call), object);
    }
}
