//! What waits for a descriptor: every lane is one, and this process may have none left.
//!
//! That says nothing of the process at the other end: it is not taken for dead, and what it was to be told is told later, in
//! order (`REF-1`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_common::limits::descriptor_advice;
use aktis_lane::{PayloadParts, Urgency};
use aktis_proto::v1 as wire;
use rustc_hash::FxHashMap;

use super::Runtime;
use crate::core::leases::LeaseRequestKey;
use crate::reference::ProcessAddress;

/// How soon it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// What one process has to say to another about objects.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is said at once and rarely kept: a box would cost every one of them"
)]
pub(super) enum Said {
    /// It asks the owner for an object.
    Question(ObjectId),
    /// Needs no answer. A process that is gone needs to know nothing.
    News(wire::lane_frame::Kind),
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    said: FxHashMap<WorkerId, (ProcessAddress, VecDeque<Said>)>,
    /// Granted workers that could not be reached: others are asked for.
    leases: Vec<LeaseRequestKey>,
    again_at: Option<Instant>,
}

impl Postponed {
    fn behind(&mut self, peer: ProcessAddress) -> Option<&mut VecDeque<Said>> {
        self.said.get_mut(&peer.worker).map(|(_, waiting)| waiting)
    }

    /// The first thing that waits for the peer; once there is none nothing waits behind it any more.
    fn next(&mut self, peer: ProcessAddress) -> Option<Said> {
        let next = self.behind(peer)?.pop_front();
        if next.is_none() {
            self.said.remove(&peer.worker);
        }
        next
    }
}

impl Runtime {
    /// Says it now, or behind what waits already.
    pub(super) fn say(&self, peer: ProcessAddress, said: Said) {
        if let Some(waiting) = self.0.postponed.lock().behind(peer) {
            return waiting.push_back(said);
        }
        if let Some(said) = self.try_to_say(peer, said) {
            let mut postponed = self.0.postponed.lock();
            let (_, waiting) = postponed
                .said
                .entry(peer.worker)
                .or_insert_with(|| (peer, VecDeque::new()));
            waiting.push_back(said);
            drop(postponed);
            tracing::warn!(
                "no descriptor is left to reach process {}: {}",
                peer.worker,
                descriptor_advice()
            );
            self.try_again_later();
        }
    }

    /// A worker was granted, and no descriptor is left for its lane.
    pub(super) fn postpone_lease(&self, key: LeaseRequestKey) {
        self.0.postponed.lock().leases.push(key);
        self.try_again_later();
    }

    fn try_again_later(&self) {
        let mut postponed = self.0.postponed.lock();
        if postponed.again_at.is_none() {
            postponed.again_at = Some(Instant::now() + PAUSE);
            drop(postponed);
            self.reactor().call_lane(PAUSE);
        }
    }

    /// Gives back what has to wait.
    fn try_to_say(&self, peer: ProcessAddress, said: Said) -> Option<Said> {
        let lane = match self.peer_lane(peer) {
            Ok(lane) => lane,
            Err(unreachable) if unreachable.is_shortage() => {
                tracing::debug!("{unreachable}");
                return Some(said);
            }
            Err(unreachable) => {
                if let Said::Question(_) = said {
                    self.on_owner_lost(peer, &unreachable.to_string());
                }
                return None;
            }
        };
        match said {
            Said::Question(object) => self.ask_on(&lane, peer, object),
            Said::News(kind) => {
                let frame = wire::LaneFrame { kind: Some(kind) };
                let _ = lane.send(&frame, &PayloadParts::default(), Urgency::Soon);
            }
        }
        None
    }

    /// Tries again if it is time. Says when it will be.
    pub(super) fn say_postponed(&self, now: Instant) -> Option<Duration> {
        let mut postponed = self.0.postponed.lock();
        let left = postponed.again_at?.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        postponed.again_at = None;
        let leases = std::mem::take(&mut postponed.leases);
        let said = postponed.said.values();
        let peers: Vec<ProcessAddress> = said.map(|(peer, _)| *peer).collect();
        drop(postponed);
        for key in leases {
            self.with_core(|core, effects| core.leases.retracted(key, effects));
        }
        for peer in peers {
            self.say_postponed_to(peer);
        }
        let postponed = self.0.postponed.lock();
        let again_at = postponed.again_at;
        again_at.map(|at| at.saturating_duration_since(now))
    }

    fn say_postponed_to(&self, peer: ProcessAddress) {
        loop {
            let next = self.0.postponed.lock().next(peer);
            let Some(said) = next else { return };
            if let Some(said) = self.try_to_say(peer, said) {
                if let Some(waiting) = self.0.postponed.lock().behind(peer) {
                    waiting.push_front(said);
                }
                return self.try_again_later();
            }
        }
    }
}
