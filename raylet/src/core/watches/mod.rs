//! Which processes watch which actors, and the newest state of each watched actor.
//!
//! ```text
//!  watch ──► known? ── yes ──► the state at once
//!              │ no
//!              └─► fetch from the gcs ──► the state, unless a publication came first
//! ```
//! Owns: who wants to hear of whom. Does not own: actors (the gcs), processes.
//!
//! - `WATCH-1 (dead-is-final)`: after DEAD no other state of an actor is told.
//! - `WATCH-2 (no-step-back)`: a fetched state is dropped when a publication arrived since the fetch began.
//! - `WATCH-3 (somebody-and-something)`: a watched actor has watchers, and is known or being asked for.

mod check;
mod telling;

use aktis_common::ids::ActorId;
use aktis_proto::v1::{ActorState, ActorUpdate};
use rustc_hash::FxHashMap;

use crate::core::keys::ConnectionId;

#[derive(Debug, Default)]
struct Notice {
    latest: Option<ActorUpdate>,
    watchers: Vec<ConnectionId>,
    is_fetching: bool,
}

/// What a process that begins to watch gets.
#[derive(Debug, PartialEq)]
enum WatchAnswer {
    /// This state, now.
    Known(Box<ActorUpdate>),
    /// The state is to be fetched; it comes as an event.
    Fetch,
    /// The state is being fetched already.
    Wait,
}

/// All watched actors.
#[derive(Debug, Default)]
pub struct ActorBoard {
    notices: FxHashMap<ActorId, Notice>,
}

impl ActorBoard {
    /// `watcher` wants to hear of `actor` from now on.
    fn watch(&mut self, actor: ActorId, watcher: ConnectionId) -> WatchAnswer {
        let notice = self.notices.entry(actor).or_default();
        if !notice.watchers.contains(&watcher) {
            notice.watchers.push(watcher);
        }
        match &notice.latest {
            Some(latest) => WatchAnswer::Known(Box::new(latest.clone())),
            None if notice.is_fetching => WatchAnswer::Wait,
            None => {
                notice.is_fetching = true;
                WatchAnswer::Fetch
            }
        }
    }

    /// The gcs published a state: who is to hear of it.
    fn published(&mut self, actor: ActorId, update: &ActorUpdate) -> &[ConnectionId] {
        let Some(notice) = self.notices.get_mut(&actor) else {
            return &[];
        };
        if notice.is_dead() {
            return &[];
        }
        notice.is_fetching = false;
        notice.latest = Some(update.clone());
        &notice.watchers
    }

    /// The answer to a fetch: who is to hear of it.
    fn fetched(&mut self, actor: ActorId, update: &ActorUpdate) -> &[ConnectionId] {
        let Some(notice) = self.notices.get_mut(&actor) else {
            return &[];
        };
        if !notice.is_fetching || notice.is_dead() {
            return &[];
        }
        notice.is_fetching = false;
        notice.latest = Some(update.clone());
        &notice.watchers
    }

    /// A fetch failed for good: who is to hear of it. Nobody watches the actor any more.
    fn fetch_failed(&mut self, actor: ActorId) -> Vec<ConnectionId> {
        self.notices
            .remove(&actor)
            .map(|notice| notice.watchers)
            .unwrap_or_default()
    }

    /// Publications may have been lost: the actors to fetch again.
    fn refetch(&mut self) -> Vec<ActorId> {
        let mut stale = Vec::new();
        for (actor, notice) in &mut self.notices {
            if !notice.is_dead() {
                notice.is_fetching = true;
                stale.push(*actor);
            }
        }
        stale
    }

    /// All who watch something, once for each actor.
    pub fn watchers(&self) -> impl Iterator<Item = ConnectionId> {
        let notices = self.notices.values();
        notices.flat_map(|notice| notice.watchers.iter().copied())
    }

    /// A process is gone. Actors that nobody watches are forgotten.
    pub fn forget(&mut self, watcher: ConnectionId) {
        self.notices.retain(|_, notice| {
            notice.watchers.retain(|connection| *connection != watcher);
            !notice.watchers.is_empty()
        });
    }
}

impl Notice {
    fn is_dead(&self) -> bool {
        self.latest
            .as_ref()
            .is_some_and(|latest| latest.state() == ActorState::Dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTOR: ActorId = ActorId::new([3; 16]);
    const ME: ConnectionId = ConnectionId(1);

    fn update(state: ActorState) -> ActorUpdate {
        let mut update = ActorUpdate {
            actor_id: ACTOR.to_wire(),
            ..ActorUpdate::default()
        };
        update.set_state(state);
        update
    }

    #[test]
    fn second_watcher_gets_the_known_state_at_once() {
        let mut board = ActorBoard::default();
        assert_eq!(board.watch(ACTOR, ME), WatchAnswer::Fetch);
        assert_eq!(board.watch(ACTOR, ConnectionId(2)), WatchAnswer::Wait);
        let alive = update(ActorState::Alive);
        assert_eq!(board.fetched(ACTOR, &alive), [ME, ConnectionId(2)]);
        assert_eq!(
            board.watch(ACTOR, ConnectionId(3)),
            WatchAnswer::Known(Box::new(alive))
        );
    }

    #[test]
    fn fetch_that_was_overtaken_by_a_publication_is_dropped() {
        let mut board = ActorBoard::default();
        board.watch(ACTOR, ME);
        assert_eq!(board.published(ACTOR, &update(ActorState::Alive)), [ME]);
        assert!(
            board
                .fetched(ACTOR, &update(ActorState::Pending))
                .is_empty(),
            "WATCH-2"
        );
    }

    #[test]
    fn nothing_is_told_after_death() {
        let mut board = ActorBoard::default();
        board.watch(ACTOR, ME);
        board.published(ACTOR, &update(ActorState::Dead));
        assert!(
            board
                .published(ACTOR, &update(ActorState::Alive))
                .is_empty(),
            "WATCH-1"
        );
        assert!(board.refetch().is_empty());
    }

    #[test]
    fn actor_without_watchers_is_forgotten() {
        let mut board = ActorBoard::default();
        board.watch(ACTOR, ME);
        board.forget(ME);
        assert_eq!(board.watch(ACTOR, ME), WatchAnswer::Fetch);
    }
}
