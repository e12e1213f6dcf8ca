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

use aktis_common::ids::{ActorId, ObjectId, TaskId};
use rustc_hash::FxHashSet;

use crate::core::tasks::Place;
use crate::core::{Core, Effect, Effects};

/// How long after the last reference is gone the raylet is told: calls that return references come one after the other.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// What the raylet was told.
#[derive(Debug, Default)]
pub(in crate::core) struct Lending {
    is_told: bool,
    /// Since when nothing is lent, while the raylet believes otherwise.
    ended_at: Option<Instant>,
}

impl Core {
    /// To be called when the holders of an own object have changed.
    pub(in crate::core) fn note_lending(&mut self, effects: &mut Effects) {
        let is_lending = self.is_lending();
        match (self.lending.is_told, is_lending) {
            (false, true) => {
                self.lending.is_told = true;
                effects.push(Effect::TellLending { is_lending });
            }
            (true, true) => self.lending.ended_at = None,
            (true, false) if self.lending.ended_at.is_none() => {
                let now = self.clock.now();
                self.lending.ended_at = Some(now);
                self.clock.tick_by(now + TOLD_AFTER);
            }
            (_, false) => {}
        }
    }

    /// Says when to come again.
    pub(in crate::core) fn lending_tick(&mut self, effects: &mut Effects) -> Option<Duration> {
        let left =
            (self.lending.ended_at? + TOLD_AFTER).saturating_duration_since(self.clock.now());
        if !left.is_zero() {
            return Some(left);
        }
        self.lending = Lending::default();
        effects.push(Effect::TellLending { is_lending: false });
        None
    }

    /// Whether other processes need this one.
    pub(crate) fn is_lending(&self) -> bool {
        self.objects.lent() > 0
    }

    /// Whether other processes, or tasks of this one that have not ended, need this process.
    pub(crate) fn owes(&self) -> bool {
        self.is_lending() || self.has_pending_tasks()
    }

    fn has_pending_tasks(&self) -> bool {
        let mut records = self.tasks.records.values();
        records.any(|record| record.place != Place::Lineage)
    }

    /// The code of this process has ended: nobody reads its generators, and they need not wait for anybody.
    pub(crate) fn drop_streams(&mut self, effects: &mut Effects) {
        let open: Vec<TaskId> = self.streams.open().collect();
        for task in open {
            self.drop_stream(task, effects);
        }
    }

    /// The code of this process has ended, and with it the handles that it held on actors. Those that nobody else holds end,
    /// as soon as no task of this process needs them.
    pub(crate) fn let_actors_go(&mut self, effects: &mut Effects) {
        if self.has_pending_tasks() {
            return;
        }
        let kept = self.needed_by_others();
        let entries = self.objects.entries.iter();
        let unneeded: Vec<(ObjectId, ActorId)> = entries
            .filter(|(id, entry)| entry.owner().is_none() && !kept.contains(id))
            .filter_map(|(id, entry)| Some((*id, entry.actor()?)))
            .collect();
        for (lifetime, actor) in unneeded {
            if let Some(entry) = self.objects.get_mut(lifetime) {
                entry.elsewhere().actor = None;
            }
            effects.push(Effect::EndActor { actor });
        }
    }

    /// Own objects that are lent, and those that their values refer to.
    fn needed_by_others(&self) -> FxHashSet<ObjectId> {
        let entries = self.objects.entries.iter();
        let mut open: Vec<ObjectId> = entries
            .filter(|(_, entry)| entry.is_lent())
            .map(|(id, _)| *id)
            .collect();
        let mut needed = FxHashSet::default();
        while let Some(id) = open.pop() {
            if needed.insert(id)
                && let Some(entry) = self.objects.get(id)
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

    fn core() -> Core {
        let me = ProcessAddress {
            node: NodeId::random(),
            worker: WorkerId::random(),
        };
        let mut core = Core::new(me, 1 << 20, Duration::from_secs(1));
        core.clock.set(Instant::now());
        core
    }

    fn put(core: &mut Core) -> ObjectId {
        let id = ObjectId::for_put();
        let state = ObjectState::Inline(Value::default());
        core.objects.insert_owned(id, state).handles = 1;
        id
    }

    fn told(effects: &mut Effects) -> Vec<bool> {
        std::mem::take(&mut effects.list)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::TellLending { is_lending } => Some(is_lending),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn raylet_is_told_of_the_first_reference_and_a_while_after_the_last() {
        let (mut core, mut effects, reader) = (core(), Effects::default(), WorkerId::random());
        for _ in 0..3 {
            let object = put(&mut core);
            core.borrow_delta(object, reader, 1, &mut effects);
            core.borrow_delta(object, reader, -1, &mut effects);
        }
        assert_eq!(told(&mut effects), [true]);
        assert_eq!(core.lending_tick(&mut effects), Some(TOLD_AFTER));
        core.clock.set(core.clock.now() + TOLD_AFTER);
        assert_eq!(core.lending_tick(&mut effects), None);
        assert_eq!(told(&mut effects), [false]);
    }

    /// LEND-1.
    #[test]
    fn process_owes_what_others_hold_and_not_what_it_held_itself() {
        let (mut core, mut effects, reader) = (core(), Effects::default(), WorkerId::random());
        let (lent, _own) = (put(&mut core), put(&mut core));
        assert!(!core.owes());
        core.borrow_delta(lent, reader, 2, &mut effects);
        core.borrow_delta(lent, reader, -1, &mut effects);
        assert!(core.owes());
        core.borrower_died(reader, &mut effects);
        assert!(!core.owes());
        // News of two processes may overtake each other.
        core.borrow_delta(lent, reader, -1, &mut effects);
        assert!(!core.owes());
        core.borrow_delta(lent, reader, 1, &mut effects);
        assert!(!core.owes());
    }

    #[test]
    fn actors_that_only_the_ended_code_held_are_let_go() {
        let (mut core, mut effects) = (core(), Effects::default());
        let [held, lent] = [ActorId::random(), ActorId::random()];
        for actor in [held, lent] {
            let lifetime = put(&mut core);
            core.bind_actor(lifetime, actor);
            if actor == lent {
                core.borrow_delta(lifetime, WorkerId::random(), 1, &mut effects);
            }
        }
        core.let_actors_go(&mut effects);
        core.let_actors_go(&mut effects);
        let ended: Vec<ActorId> = effects
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
