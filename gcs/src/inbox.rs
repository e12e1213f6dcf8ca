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
#[derive(Debug, Clone)]
pub(crate) struct GcsMailbox {
    inbox: mpsc::UnboundedSender<Step>,
}

impl GcsMailbox {
    /// A port, and where its steps come out.
    pub(crate) fn open() -> (Self, mpsc::UnboundedReceiver<Step>) {
        let (inbox, steps) = mpsc::unbounded_channel();
        (Self { inbox }, steps)
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
        self.inbox.send(step).map_err(|_| going_down())?;
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
        self.inbox.send(step).map_err(|_| going_down())?;
        let kept = receiver.await.map_err(|_| going_down())?;
        kept.map_err(|error| {
            let message = format!("the head cannot keep it, so it was not done: {error}");
            status(error.code(), message)
        })
    }

    /// Tells the core a fact; nobody waits for it.
    pub(crate) fn tell(&self, step: impl FnOnce(&mut GcsCore, &mut Turn) + Send + 'static) {
        let _ = self.inbox.send(unasked(step));
    }
}

fn going_down() -> Status {
    status(ErrorCode::NotConnected, "the gcs is going down")
}
