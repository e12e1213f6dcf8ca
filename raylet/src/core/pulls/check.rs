//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::PullTable;

impl PullTable {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        for (object, pull) in &self.pulls {
            // Between two events a transfer runs, or a pause, or all who waited were told that there is none.
            let goes_on = pull.current.is_some() || pull.pause.is_some();
            holds!(goes_on, "PULL-1", "{object}: {pull:?}");
            let mut sources: Vec<_> = pull.current.iter().collect();
            sources.extend(&pull.untried);
            sources.extend(&pull.tried);
            sources.extend(&pull.unreadable);
            let count = sources.len();
            sources.sort_unstable();
            sources.dedup();
            holds!(
                count == sources.len() && !sources.contains(&&self.here),
                "PULL-1",
                "a source is named twice, or this node is one: {object}: {pull:?}"
            );
            holds!(!pull.waiters.is_empty(), "PULL-2", "{object}: {pull:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::ids::{NodeId, ObjectId};
    use aktis_proto::v1::Address;

    use super::*;
    use crate::core::keys::{CallId, ReplyTo};
    use crate::core::pulls::Pull;

    const HERE: NodeId = NodeId::new([9; 16]);
    const THERE: NodeId = NodeId::new([1; 16]);

    /// The label of what is broken once `spoil` has changed a copy that is being fetched.
    fn broken(spoil: impl FnOnce(&mut Pull)) -> &'static str {
        let (object, waiter) = (ObjectId::for_put(), ReplyTo::Call(CallId(1)));
        let mut table = PullTable::new(HERE);
        table.want(object, Address::default(), [THERE], waiter);
        assert_eq!(table.check(), Ok(()));
        spoil(table.pulls.get_mut(&object).unwrap());
        table.check().unwrap_err().label
    }

    #[test]
    fn copy_that_nobody_fetches_or_that_has_a_source_twice_is_seen() {
        assert_eq!(broken(|pull| pull.current = None), "PULL-1");
        assert_eq!(broken(|pull| pull.tried.push(THERE)), "PULL-1");
        assert_eq!(broken(|pull| pull.untried.push(HERE)), "PULL-1");
        assert_eq!(broken(|pull| pull.unreadable.push(THERE)), "PULL-1");
    }

    #[test]
    fn copy_that_nobody_waits_for_is_seen() {
        assert_eq!(broken(|pull| pull.waiters.clear()), "PULL-2");
    }
}
