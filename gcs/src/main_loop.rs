//! The only loop: takes steps in batches, lets the core decide, carries its effects out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::core::{Effect, GcsCore, Turn, Write};
use crate::inbox::{GcsInbox, GcsMailbox, Outcome, Step, unasked};
use crate::io::publish::Publisher;
use crate::io::raylets::Raylets;
use crate::io::storage::Storage;
use crate::keeper::Keeper;

/// Most steps of one batch, so that the first caller does not wait for ever.
const MAX_BATCH: usize = 512;
/// Longest sleep; also how soon a stall of this process is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// Waking up this much too late means that the process was stopped or starved.
const STALL: Duration = Duration::from_secs(1);

/// The loop's state.
pub(crate) struct GcsLoop {
    core: GcsCore,
    inbox: GcsInbox,
    keeper: Keeper,
    publisher: Publisher,
    raylets: Raylets,
    started: Instant,
}

impl GcsLoop {
    /// A loop and the port to it.
    pub(crate) fn new(
        core: GcsCore,
        storage: Box<dyn Storage>,
        publisher: Publisher,
        raylets: impl FnOnce(GcsMailbox) -> Raylets,
    ) -> (GcsMailbox, Self) {
        let (port, inbox) = GcsMailbox::open();
        let raylets = raylets(port.clone());
        let started = Instant::now();
        (
            port,
            Self {
                core,
                inbox,
                keeper: Keeper::new(storage),
                publisher,
                raylets,
                started,
            },
        )
    }

    /// Runs until `stopped`.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut batch = vec![unasked(|core, turn| core.resume(turn))];
        loop {
            self.round(&mut batch).await;
            let asleep = Instant::now();
            let nap = self.next_nap();
            tokio::select! {
                has_come = self.inbox.next(&mut batch, MAX_BATCH) => {
                    if !has_come {
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

    async fn round(&mut self, batch: &mut Vec<Step>) {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let mut turn = Turn::at(self.started.elapsed(), unix_millis);
        let mut outcomes: Vec<Outcome> = batch
            .drain(..)
            .map(|step| step(&mut self.core, &mut turn))
            .collect();
        self.core.tick(&mut turn);
        self.core.settle(&mut turn);
        let (writes, others) = split(turn.into_effects());
        let kept = if writes.is_empty() && !self.keeper.is_behind() {
            Ok(())
        } else {
            let is_promise = outcomes.iter().any(|outcome| outcome.undo.is_some());
            self.keeper.keep(writes, is_promise).await
        };
        if kept.is_err() {
            self.undo(&mut outcomes);
        }
        for effect in others {
            // What was undone has no consequences.
            if kept.is_ok() || !self.core.is_void(&effect) {
                self.carry_out(effect);
            }
        }
        for outcome in outcomes {
            (outcome.answer)(kept.clone());
        }
    }

    /// The storage did not take this batch: its promises are taken back, the last one first.
    fn undo(&mut self, outcomes: &mut [Outcome]) {
        for outcome in outcomes.iter_mut().rev() {
            if let Some(undo) = outcome.undo.take() {
                undo(&mut self.core);
            }
        }
        let core = &self.core;
        self.keeper
            .correct(|table, key, value| core.owed_row(table, key, value));
    }

    fn carry_out(&mut self, effect: Effect) {
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
