//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::ActorBoard;

impl ActorBoard {
    /// `WATCH-2` is about the order of news, which no state shows.
    ///
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        for (actor, notice) in &self.notices {
            holds!(
                !(notice.is_dead() && notice.is_fetching),
                "WATCH-1",
                "actor {actor} is dead, and asked for: {notice:?}"
            );
            let (watchers, mut distinct) = (notice.watchers.len(), notice.watchers.clone());
            distinct.sort_unstable();
            distinct.dedup();
            holds!(
                watchers > 0 && watchers == distinct.len(),
                "WATCH-3",
                "actor {actor}: {notice:?}"
            );
            holds!(
                notice.latest.is_some() || notice.is_fetching,
                "WATCH-3",
                "actor {actor} is neither known nor asked for: {notice:?}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::ids::ActorId;
    use aktis_proto::v1::{ActorState, ActorUpdate};

    use super::*;
    use crate::core::keys::ConnectionId;
    use crate::core::watches::Notice;

    /// The label of what is broken once `spoil` has changed what is known of a watched actor.
    fn broken(spoil: impl FnOnce(&mut Notice)) -> &'static str {
        let actor = ActorId::new([3; 16]);
        let mut board = ActorBoard::default();
        board.watch(actor, ConnectionId(1));
        assert_eq!(board.check(), Ok(()));
        spoil(board.notices.get_mut(&actor).unwrap());
        board.check().unwrap_err().label
    }

    #[test]
    fn dead_actor_that_is_asked_for_is_seen() {
        let mut update = ActorUpdate::default();
        update.set_state(ActorState::Dead);
        assert_eq!(broken(|notice| notice.latest = Some(update)), "WATCH-1");
    }

    #[test]
    fn watch_without_a_watcher_or_a_state_to_come_is_seen() {
        assert_eq!(broken(|notice| notice.watchers.clear()), "WATCH-3");
        let again = ConnectionId(1);
        assert_eq!(broken(|notice| notice.watchers.push(again)), "WATCH-3");
        assert_eq!(broken(|notice| notice.is_fetching = false), "WATCH-3");
    }
}
