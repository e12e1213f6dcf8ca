//! What other processes need of this one: references to its objects, and the ends of its tasks.
//!
//! The raylet is told, so that it gives a worker that lends something to no actor, with which the process may be killed. And a
//! process whose work is over stays until it owes nothing (`LEND-1`):
//!
//! - `LEND-1 (nothing-lost-in-good-order)`: a process that ends in good order ends after the last reference that another
//!   process holds to one of its objects is gone, and after the last task that it submitted.
//!
//! What only its own code held, which has ended, counts for nothing.

use std::time::{Duration, Instant};

use aktis_common::ids::{ActorId, ObjectId};
use rustc_hash::FxHashSet;

use super::ReferenceTable;
use crate::core::clock::Clock;
use crate::core::{Effect, Effects};

/// How long after the last reference is gone the raylet is told: calls that return references come one after the other.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// What the raylet was told.
#[derive(Debug, Default)]
pub(super) struct Lending {
    is_told: bool,
    /// Since when nothing is lent, while the raylet believes otherwise.
    ended_at: Option<Instant>,
}

impl Lending {
    /// Whether that is as it should be when something is lent, or nothing.
    pub(super) fn agrees_with(&self, is_lending: bool) -> bool {
        self.is_told == (is_lending || self.ended_at.is_some())
            && !(is_lending && self.ended_at.is_some())
    }
}

impl ReferenceTable {
    /// Whether other processes need this one.
    pub(crate) fn is_lending(&self) -> bool {
        self.lent > 0
    }

    /// To be called when other processes may hold more of this process than before.
    pub(super) fn note_lent(&mut self, effects: &mut Effects) {
        if !self.is_lending() {
            return;
        }
        self.lending.ended_at = None;
        if !std::mem::replace(&mut self.lending.is_told, true) {
            effects.push(Effect::TellLending { is_lending: true });
        }
    }

    /// To be called when they may hold less.
    pub(super) fn note_unlent(&mut self, clock: &mut Clock) {
        if !self.is_lending() && self.lending.is_told && self.lending.ended_at.is_none() {
            let now = clock.now();
            self.lending.ended_at = Some(now);
            clock.tick_by(now + TOLD_AFTER);
        }
    }

    /// Tells the raylet if nothing has been lent for long. Says when to come again.
    pub(in crate::core) fn lending_tick(
        &mut self,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Duration> {
        let left = (self.lending.ended_at? + TOLD_AFTER).saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        self.lending = Lending::default();
        effects.push(Effect::TellLending { is_lending: false });
        None
    }

    /// The code of this process has ended, and with it the handles that it held on actors. Those that nobody else holds end;
    /// to be called when no task of this process needs them.
    pub(in crate::core) fn let_actors_go(&mut self, effects: &mut Effects) {
        let kept = self.needed_by_others();
        let entries = self.entries.iter();
        let unneeded: Vec<(ObjectId, ActorId)> = entries
            .filter(|(id, entry)| entry.owner().is_none() && !kept.contains(id))
            .filter_map(|(id, entry)| Some((*id, entry.actor()?)))
            .collect();
        for (lifetime, actor) in unneeded {
            if let Some(entry) = self.entries.get_mut(&lifetime) {
                entry.elsewhere().actor = None;
            }
            effects.push(Effect::EndActor { actor });
        }
    }

    /// Own objects that are lent, and those that their values refer to.
    fn needed_by_others(&self) -> FxHashSet<ObjectId> {
        let mut open = self.ids(|_, entry| entry.is_lent());
        let mut needed = FxHashSet::default();
        while let Some(id) = open.pop() {
            if needed.insert(id)
                && let Some(entry) = self.get(id)
            {
                open.extend(entry.contained().iter().map(|inner| inner.id()));
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::ids::{NodeId, WorkerId};

    use super::*;
    use crate::core::objects::ObjectState;
    use crate::reference::ProcessAddress;
    use crate::value::Value;

    struct Fixture {
        objects: ReferenceTable,
        clock: Clock,
        effects: Effects,
    }

    impl Fixture {
        fn new() -> Self {
            let mut clock = Clock::default();
            clock.set(Instant::now());
            Self {
                objects: ReferenceTable::new(ProcessAddress {
                    node: NodeId::random(),
                    worker: WorkerId::random(),
                }),
                clock,
                effects: Effects::default(),
            }
        }

        fn put(&mut self) -> ObjectId {
            let id = ObjectId::for_put();
            self.objects.hold(id, ObjectState::Inline(Value::default()));
            id
        }

        fn borrow_delta(&mut self, object: ObjectId, reader: WorkerId, delta: i64) {
            let Self {
                objects,
                clock,
                effects,
            } = self;
            objects.borrow_delta(object, reader, delta, clock, effects);
            assert_eq!(self.objects.check(), Ok(()));
        }

        fn tick(&mut self) -> Option<Duration> {
            let now = self.clock.now();
            self.objects.lending_tick(now, &mut self.effects)
        }

        fn told(&mut self) -> Vec<bool> {
            std::mem::take(&mut self.effects.list)
                .into_iter()
                .filter_map(|effect| match effect {
                    Effect::TellLending { is_lending } => Some(is_lending),
                    _ => None,
                })
                .collect()
        }
    }

    #[test]
    fn raylet_is_told_of_the_first_reference_and_a_while_after_the_last() {
        let (mut fixture, reader) = (Fixture::new(), WorkerId::random());
        for _ in 0..3 {
            let object = fixture.put();
            fixture.borrow_delta(object, reader, 1);
            fixture.borrow_delta(object, reader, -1);
        }
        assert_eq!(fixture.told(), [true]);
        assert_eq!(fixture.tick(), Some(TOLD_AFTER));
        fixture.clock.set(fixture.clock.now() + TOLD_AFTER);
        assert_eq!(fixture.tick(), None);
        assert_eq!(fixture.told(), [false]);
    }

    /// LEND-1.
    #[test]
    fn process_owes_what_others_hold_and_not_what_it_held_itself() {
        let (mut fixture, reader) = (Fixture::new(), WorkerId::random());
        let (lent, _own) = (fixture.put(), fixture.put());
        assert!(!fixture.objects.is_lending());
        fixture.borrow_delta(lent, reader, 2);
        fixture.borrow_delta(lent, reader, -1);
        assert!(fixture.objects.is_lending());
        let Fixture {
            objects,
            clock,
            effects,
        } = &mut fixture;
        objects.borrower_died(reader, clock, effects);
        assert!(!fixture.objects.is_lending());
        // News of two processes may overtake each other.
        fixture.borrow_delta(lent, reader, -1);
        assert!(!fixture.objects.is_lending());
        fixture.borrow_delta(lent, reader, 1);
        assert!(!fixture.objects.is_lending());
    }

    #[test]
    fn actors_that_only_the_ended_code_held_are_let_go() {
        let mut fixture = Fixture::new();
        let [held, lent] = [ActorId::random(), ActorId::random()];
        for actor in [held, lent] {
            let lifetime = fixture.put();
            fixture.objects.bind_actor(lifetime, actor);
            if actor == lent {
                fixture.borrow_delta(lifetime, WorkerId::random(), 1);
            }
        }
        fixture.objects.let_actors_go(&mut fixture.effects);
        fixture.objects.let_actors_go(&mut fixture.effects);
        let ended: Vec<ActorId> = fixture
            .effects
            .list
            .iter()
            .filter_map(|effect| match effect {
                Effect::EndActor { actor } => Some(*actor),
                _ => None,
            })
            .collect();
        assert_eq!(ended, [held]);
    }
}
