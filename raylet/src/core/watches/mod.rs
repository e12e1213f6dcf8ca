//! Which processes watch which actors, and the newest state of each watched actor.
//!
//! ```text
//!  watch ──► known? ── yes ──► the state at once
//!              │ no
//!              └─► fetch from the gcs ──► the state, unless a later publication came first
//! ```
//! Owns: who wants to hear of whom. Does not own: actors (the gcs), processes.
//!
//! - `WATCH-1 (dead-is-final)`: after DEAD no other state of an actor is told.
//! - `WATCH-2 (no-step-back)`: of what one head tells of an actor, by an answer or by news, nothing is told after what was later;
//!   and restarts never become fewer, whatever head tells of them.
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
    /// The last change that was told by the head that the node is registered with.
    change: u64,
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
    /// `watcher` wants to hear of `actor` from now on, which is asked for if it is not known (`WATCH-3`).
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

    /// The gcs published a state: who is to hear of it. Nobody after the actor's death (`WATCH-1`). A fetch that is under way
    /// counts no more (`WATCH-2`).
    fn published(&mut self, actor: ActorId, update: &ActorUpdate) -> &[ConnectionId] {
        let Some(notice) = self.notices.get_mut(&actor) else {
            return &[];
        };
        if !notice.accepts(update) {
            return &[];
        }
        notice.keep(update);
        &notice.watchers
    }

    /// The answer to a fetch: who is to hear of it.
    fn fetched(&mut self, actor: ActorId, update: &ActorUpdate) -> &[ConnectionId] {
        let Some(notice) = self.notices.get_mut(&actor) else {
            return &[];
        };
        if !notice.is_fetching || !notice.accepts(update) {
            return &[];
        }
        notice.keep(update);
        &notice.watchers
    }

    /// A fetch failed for good: who is to hear of it. Nobody watches the actor any more.
    fn fetch_failed(&mut self, actor: ActorId) -> Vec<ConnectionId> {
        self.notices
            .remove(&actor)
            .map(|notice| notice.watchers)
            .unwrap_or_default()
    }

    /// Publications may have been lost, and another head may count anew: the actors to fetch again.
    fn refetch(&mut self) -> Vec<ActorId> {
        let mut stale = Vec::new();
        for (actor, notice) in &mut self.notices {
            if !notice.is_dead() {
                notice.is_fetching = true;
                notice.change = 0;
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
    /// Whether it is told. An answer and news may overtake each other on their way, and news of a batch that an answer knew of
    /// already may come after it.
    fn accepts(&mut self, update: &ActorUpdate) -> bool {
        let is_later = !self.is_dead() && update.change >= self.change;
        if is_later {
            self.change = update.change;
        }
        is_later
    }

    /// Restarts that were told stay told: a head that could not keep them hears of them when the nodes that know have
    /// registered, and until then it says what the last one knew.
    fn keep(&mut self, update: &ActorUpdate) {
        let told = self.latest.as_ref().map_or(0, |latest| latest.restarts);
        self.is_fetching = false;
        self.latest = Some(ActorUpdate {
            restarts: update.restarts.max(told),
            ..update.clone()
        });
    }

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
    fn news_that_an_answer_overtook_is_dropped() {
        let mut board = ActorBoard::default();
        let change = |change, state| ActorUpdate {
            change,
            ..update(state)
        };
        board.watch(ACTOR, ME);
        board.fetched(ACTOR, &change(3, ActorState::Restarting));
        let is_dropped = board.published(ACTOR, &change(2, ActorState::Alive));
        assert!(is_dropped.is_empty(), "WATCH-2");
        assert_eq!(board.published(ACTOR, &change(4, ActorState::Alive)), [ME]);
        // The next head counts anew.
        assert_eq!(board.refetch(), [ACTOR]);
        assert_eq!(board.fetched(ACTOR, &change(1, ActorState::Alive)), [ME]);
    }

    #[test]
    fn restarts_that_another_head_does_not_know_of_stay_told() {
        let mut board = ActorBoard::default();
        let restarted = |restarts, state| ActorUpdate {
            restarts,
            ..update(state)
        };
        board.watch(ACTOR, ME);
        board.published(ACTOR, &restarted(1, ActorState::Restarting));
        board.refetch();
        assert_eq!(board.fetched(ACTOR, &restarted(0, ActorState::Alive)), [ME]);
        let known = Box::new(restarted(1, ActorState::Alive));
        let told = board.watch(ACTOR, ConnectionId(2));
        assert_eq!(told, WatchAnswer::Known(known), "WATCH-2");
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
