//! The only loop: takes steps in batches, lets the core decide, carries its effects out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aktis_common::error::ErrorCode;
use aktis_proto::convert::status;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::core::{Effect, GcsCore, Turn, Write};
use crate::io::publish::Publisher;
use crate::io::raylets::Raylets;
use crate::io::storage::{Storage, StorageError};

/// Most steps of one batch, so that the first caller does not wait for ever.
const MAX_BATCH: usize = 512;
/// Longest sleep; also how soon a stall of this process is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// Waking up this much too late means that the process was stopped or starved.
const STALL: Duration = Duration::from_secs(1);

/// Sends the answer of a step, once its effects are kept.
type Answer = Box<dyn FnOnce() + Send>;
/// One event: reads and changes the core.
type Step = Box<dyn FnOnce(&mut GcsCore, &mut Turn) -> Answer + Send>;

/// Where steps for the driver go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct GcsPort {
    inbox: mpsc::UnboundedSender<Step>,
}

impl GcsPort {
    /// Lets the core do `step`; gives its result when all it changed is kept (`GCS-1`).
    ///
    /// # Errors
    /// When the gcs is going down.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        step: impl FnOnce(&mut GcsCore, &mut Turn) -> R + Send + 'static,
    ) -> Result<R, Status> {
        let gone = || status(ErrorCode::NotConnected, "the gcs is going down");
        let (sender, receiver) = oneshot::channel();
        let step: Step = Box::new(move |core, turn| {
            let result = step(core, turn);
            Box::new(move || {
                let _ = sender.send(result);
            })
        });
        self.inbox.send(step).map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())
    }

    /// Tells the core something; nobody waits for it.
    pub(crate) fn tell(&self, step: impl FnOnce(&mut GcsCore, &mut Turn) + Send + 'static) {
        let _ = self.inbox.send(Box::new(move |core, turn| {
            step(core, turn);
            Box::new(|| {})
        }));
    }
}

/// The loop's state.
pub(crate) struct GcsDriver {
    core: GcsCore,
    inbox: mpsc::UnboundedReceiver<Step>,
    storage: Box<dyn Storage>,
    publisher: Publisher,
    raylets: Raylets,
    started: Instant,
}

impl GcsDriver {
    /// A driver and the port to it.
    pub(crate) fn new(
        core: GcsCore,
        storage: Box<dyn Storage>,
        publisher: Publisher,
        raylets: impl FnOnce(GcsPort) -> Raylets,
    ) -> (GcsPort, Self) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let port = GcsPort { inbox: sender };
        let raylets = raylets(port.clone());
        let started = Instant::now();
        (
            port,
            Self {
                core,
                inbox,
                storage,
                publisher,
                raylets,
                started,
            },
        )
    }

    /// Runs until `stopped`, or until the storage fails.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let resume: Step = Box::new(|core, turn| {
            core.resume(turn);
            Box::new(|| {})
        });
        let mut batch = vec![resume];
        loop {
            if let Err(error) = self.round(&mut batch).await {
                tracing::error!(%error, "the gcs ends: its storage failed");
                return;
            }
            let asleep = Instant::now();
            let nap = self.next_nap();
            tokio::select! {
                count = self.inbox.recv_many(&mut batch, MAX_BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep(nap) => {}
                _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
            }
            let late = asleep.elapsed().saturating_sub(nap);
            if late > STALL {
                self.core.stalled(late);
            }
        }
    }

    fn next_nap(&self) -> Duration {
        let until = |at: Duration| at.saturating_sub(self.started.elapsed());
        let nap = self.core.next_wake().map_or(LONGEST_NAP, until);
        nap.clamp(Duration::from_millis(1), LONGEST_NAP)
    }

    async fn round(&mut self, batch: &mut Vec<Step>) -> Result<(), StorageError> {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let mut turn = Turn::at(self.started.elapsed(), unix_millis);
        let answers: Vec<Answer> = batch
            .drain(..)
            .map(|step| step(&mut self.core, &mut turn))
            .collect();
        self.core.tick(&mut turn);
        self.core.settle(&mut turn);
        let (writes, others) = split(turn.into_effects());
        if !writes.is_empty() {
            self.storage.commit(writes).await?;
        }
        for effect in others {
            match effect {
                Effect::Publish(publication) => self.publisher.publish(*publication),
                Effect::StartActor {
                    actor,
                    attempt,
                    node,
                    raylet_address,
                    request,
                } => {
                    self.raylets
                        .start_actor(actor, attempt, node, &raylet_address, *request);
                }
                Effect::KillWorker {
                    raylet_address,
                    request,
                } => {
                    self.raylets.kill_worker(&raylet_address, request);
                }
                Effect::Persist(_) => {}
            }
        }
        answers.into_iter().for_each(|answer| answer());
        Ok(())
    }
}

fn split(effects: Vec<Effect>) -> (Vec<Write>, Vec<Effect>) {
    let mut writes = Vec::new();
    let mut others = Vec::new();
    for effect in effects {
        match effect {
            Effect::Persist(write) => writes.push(write),
            other => others.push(other),
        }
    }
    (writes, others)
}
