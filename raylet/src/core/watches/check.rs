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
