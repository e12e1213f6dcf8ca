//! Steps for the loop: what callers ask of the core, and what they hear.
//!
//! A step is a *promise* (an actor is made, a value is put) or a *fact* (a worker died, a job is over). A promise that the
//! storage does not take is undone, and its caller hears why (`GCS-1`). A fact has happened all the same: it stays, and its
//! caller hears that it is owed (`GCS-3`).

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_proto::convert::status;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::core::{GcsCore, Turn};
use crate::io::storage::StorageError;

/// Steps of callers that may wait for the loop before further callers wait for room.
const CAPACITY: usize = 1024;

/// Why a promise could not be kept.
pub(crate) type NotKept = Arc<StorageError>;
/// Takes the changes of a step back.
type Undo = Box<dyn FnOnce(&mut GcsCore) + Send>;
/// Sends the answer of a step.
type Answer = Box<dyn FnOnce(Result<(), NotKept>) + Send>;
/// One event: reads and changes the core.
pub(crate) type Step = Box<dyn FnOnce(&mut GcsCore, &mut Turn) -> Outcome + Send>;

/// What is left of a step when the core has done it.
pub(crate) struct Outcome {
    /// Only promises have it.
    pub(crate) undo: Option<Undo>,
    pub(crate) answer: Answer,
}

/// A step that nobody waits for.
pub(crate) fn unasked(step: impl FnOnce(&mut GcsCore, &mut Turn) + Send + 'static) -> Step {
    Box::new(move |core, turn| {
        step(core, turn);
        Outcome {
            undo: None,
            answer: Box::new(|_| {}),
        }
    })
}

/// Where steps for the loop go. Cheap to clone.
///
/// What others ask waits for room when the loop is behind, and they with it. How things ended that the loop let begin is never in
/// anybody's way: it is one step for each start of an actor that was asked for, and one for each subscription.
#[derive(Debug, Clone)]
pub(crate) struct GcsMailbox {
    calls: mpsc::Sender<Step>,
    ends: mpsc::UnboundedSender<Step>,
}

/// Where steps come out.
#[derive(Debug)]
pub(crate) struct GcsInbox {
    calls: mpsc::Receiver<Step>,
    ends: mpsc::UnboundedReceiver<Step>,
}

impl GcsInbox {
    /// Waits for steps; adds `most` at most to `batch`. False: there is nobody who could send one.
    pub(crate) async fn next(&mut self, batch: &mut Vec<Step>, most: usize) -> bool {
        let first = tokio::select! {
            biased;
            step = self.ends.recv() => step,
            step = self.calls.recv() => step,
        };
        let has_come = first.is_some();
        batch.extend(first);
        while batch.len() < most
            && let Ok(step) = self.ends.try_recv().or_else(|_| self.calls.try_recv())
        {
            batch.push(step);
        }
        has_come
    }
}

impl GcsMailbox {
    /// A port, and where its steps come out.
    pub(crate) fn open() -> (Self, GcsInbox) {
        let (call_sender, calls) = mpsc::channel(CAPACITY);
        let (end_sender, ends) = mpsc::unbounded_channel();
        let port = Self {
            calls: call_sender,
            ends: end_sender,
        };
        (port, GcsInbox { calls, ends })
    }

    async fn send(&self, step: Step) -> Result<(), Status> {
        self.calls.send(step).await.map_err(|_| going_down())
    }

    /// Lets the core do `step`, which asks, or tells what its caller tells every head anew.
    ///
    /// # Errors
    /// When the gcs is going down.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        step: impl FnOnce(&mut GcsCore, &mut Turn) -> R + Send + 'static,
    ) -> Result<R, Status> {
        self.fact(step).await.map(|(result, _)| result)
    }

    /// Lets the core do `step`, which tells a fact; gives its result, and whether the storage has what it changed (`GCS-3`).
    ///
    /// # Errors
    /// When the gcs is going down.
    pub(crate) async fn fact<R: Send + 'static>(
        &self,
        step: impl FnOnce(&mut GcsCore, &mut Turn) -> R + Send + 'static,
    ) -> Result<(R, Result<(), NotKept>), Status> {
        let (sender, receiver) = oneshot::channel();
        let step: Step = Box::new(move |core, turn| {
            let result = step(core, turn);
            let answer = Box::new(move |kept| {
                let _ = sender.send((result, kept));
            });
            Outcome { undo: None, answer }
        });
        self.send(step).await?;
        receiver.await.map_err(|_| going_down())
    }

    /// Lets the core do `step`, which promises something; gives its result when all it changed is kept (`GCS-1`). `step` also
    /// says how to take its changes back.
    ///
    /// # Errors
    /// When the storage does not take the changes, which are undone then, or the gcs is going down.
    pub(crate) async fn promise<R, U>(
        &self,
        step: impl FnOnce(&mut GcsCore, &mut Turn) -> (R, U) + Send + 'static,
    ) -> Result<R, Status>
    where
        R: Send + 'static,
        U: FnOnce(&mut GcsCore) + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let step: Step = Box::new(move |core, turn| {
            let (result, undo) = step(core, turn);
            let answer = Box::new(move |kept: Result<(), NotKept>| {
                let _ = sender.send(kept.map(|()| result));
            });
            Outcome {
                undo: Some(Box::new(undo)),
                answer,
            }
        });
        self.send(step).await?;
        let kept = receiver.await.map_err(|_| going_down())?;
        kept.map_err(|error| {
            let message = format!("the head cannot keep it, so it was not done: {error}");
            status(error.code(), message)
        })
    }

    /// Tells the core how something has ended that it let begin; nobody waits for it.
    pub(crate) fn tell(&self, step: impl FnOnce(&mut GcsCore, &mut Turn) + Send + 'static) {
        let _ = self.ends.send(unasked(step));
    }
}

fn going_down() -> Status {
    status(ErrorCode::NotConnected, "the gcs is going down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_that_flood_wait_for_room_and_what_has_ended_does_not() {
        let (port, mut inbox) = GcsMailbox::open();
        let flood = 2 * CAPACITY;
        for _ in 0..flood {
            let port = port.clone();
            tokio::spawn(async move { port.call(|_, _| ()).await });
        }
        while inbox.calls.len() < CAPACITY {
            tokio::task::yield_now().await;
        }
        port.tell(|_, _| ());
        assert_eq!(inbox.ends.len(), 1);
        let mut taken = Vec::new();
        while taken.len() < flood + 1 {
            assert!(inbox.calls.len() <= CAPACITY);
            let mut batch = Vec::new();
            assert!(inbox.next(&mut batch, 512).await);
            assert!(batch.len() <= 512);
            taken.extend(batch);
            tokio::task::yield_now().await;
        }
        assert!(inbox.ends.is_empty(), "it came with the first batch");
    }
}
