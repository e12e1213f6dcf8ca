//! Whatever happens in whatever order: every invariant holds after each event, every task ends, everybody who waits is told,
//! and when nobody refers to anything nothing is left.

use proptest::prelude::*;

use super::*;

/// Numbers of any size pick one of what there is.
#[derive(Debug, Clone)]
enum Event {
    Submit {
        /// Of the class, or of an actor.
        actor: Option<usize>,
        given: Vec<usize>,
        retries: i32,
        is_generator: bool,
    },
    Put,
    PutStored(usize),
    Borrow,
    OwnerAnswers(usize, End),
    OwnerDies,
    Grant(usize),
    Refuse(usize),
    End(usize, [End; 2]),
    Item(usize, End),
    GiveBack(usize),
    LaneCloses(usize),
    ActorLives(usize),
    ActorRestarts(usize),
    ActorIsAway(usize),
    ActorDies(usize),
    TakeItem(usize),
    DropStream(usize),
    Release(usize),
    Lend(usize, usize, i64),
    ReaderDies(usize),
    CopyLost(usize),
    NodeDies(usize),
    Watch(usize),
    Cancel(usize, bool),
    Wait(u64),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Inline),
        3 => (0..NODES).prop_map(End::Stored),
        1 => Just(End::Raised),
        1 => Just(End::RaisedAndRetried),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let number = any::<usize>;
    let given = || prop::collection::vec(any::<usize>(), 0..3);
    let actor = prop_oneof![2 => Just(None), 1 => (0..ACTORS).prop_map(Some)];
    let submit = (actor, given(), -1..3i32, prop::bool::weighted(0.2));
    prop_oneof![
        12 => submit.prop_map(|(actor, given, retries, is_generator)| Event::Submit {
            actor, given, retries, is_generator,
        }),
        1 => Just(Event::Put),
        1 => (0..NODES).prop_map(Event::PutStored),
        1 => Just(Event::Borrow),
        1 => (number(), end()).prop_map(|(at, end)| Event::OwnerAnswers(at, end)),
        1 => Just(Event::OwnerDies),
        6 => number().prop_map(Event::Grant),
        1 => number().prop_map(Event::Refuse),
        12 => (number(), [end(), end()]).prop_map(|(at, ends)| Event::End(at, ends)),
        8 => (number(), end()).prop_map(|(at, end)| Event::Item(at, end)),
        2 => number().prop_map(Event::GiveBack),
        2 => number().prop_map(Event::LaneCloses),
        3 => (0..ACTORS).prop_map(Event::ActorLives),
        1 => (0..ACTORS).prop_map(Event::ActorRestarts),
        1 => (0..ACTORS).prop_map(Event::ActorIsAway),
        1 => (0..ACTORS).prop_map(Event::ActorDies),
        4 => number().prop_map(Event::TakeItem),
        1 => number().prop_map(Event::DropStream),
        6 => number().prop_map(Event::Release),
        2 => (number(), 0..2usize, prop_oneof![Just(1i64), Just(-1)])
            .prop_map(|(at, reader, delta)| Event::Lend(at, reader, delta)),
        1 => (0..2usize).prop_map(Event::ReaderDies),
        2 => number().prop_map(Event::CopyLost),
        1 => (0..NODES).prop_map(Event::NodeDies),
        6 => number().prop_map(Event::Watch),
        2 => (number(), any::<bool>()).prop_map(|(at, is_forced)| Event::Cancel(at, is_forced)),
        3 => (0..3000u64).prop_map(Event::Wait),
    ]
}

impl World {
    fn take(&mut self, event: Event) {
        match event {
            Event::Submit {
                actor,
                given,
                retries,
                is_generator,
            } => self.submit(actor, &given, retries, is_generator),
            Event::Put => self.put(End::Inline),
            Event::PutStored(node) => self.put(End::Stored(node)),
            Event::Borrow => {
                let (id, owner) = (ObjectId::for_put(), self.other);
                self.held.push((id, owner));
                self.event(|core, _| core.objects.count_handle(id, owner, true));
            }
            Event::Release(at) => {
                if !self.held.is_empty() {
                    let (object, _) = self.held.swap_remove(at % self.held.len());
                    self.release(object);
                }
            }
            Event::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Event::ActorLives(actor) => self.actor_lives(actor),
            Event::Item(at, end) => self.item(at, end),
            event => self.take_other(event),
        }
    }

    fn take_other(&mut self, event: Event) {
        match event {
            Event::OwnerAnswers(at, end) => {
                if let Some(object) = pick(&self.asked, at) {
                    self.answer(object, end);
                }
            }
            Event::OwnerDies => {
                let owner = self.other;
                self.event(|core, effects| core.process_died(owner, "killed", effects));
            }
            Event::Grant(at) => {
                if let Some(key) = pick(&self.requests, at) {
                    self.grant(key);
                }
            }
            Event::Refuse(at) => {
                if let Some(key) = pick(&self.requests, at) {
                    self.requests.retain(|open| *open != key);
                    let failure = failure(ErrorCode::Unschedulable);
                    self.event(|core, effects| core.lease_refused(key, &failure, effects));
                }
            }
            Event::End(at, ends) => {
                if let Some(sent) = pick(&self.sent, at) {
                    self.end(sent, ends);
                }
            }
            Event::GiveBack(at) => self.give_back(at),
            Event::LaneCloses(at) => {
                if let Some((lane, _)) = pick(&self.lanes, at) {
                    self.close(lane);
                }
            }
            Event::ActorRestarts(actor) => {
                self.addresses[actor] = process();
                let actor = self.actors[actor];
                self.event(|core, effects| core.actor_restarting(actor, effects));
            }
            Event::ActorIsAway(actor) => {
                let actor = self.actors[actor];
                self.event(|core, effects| core.actor_unreachable(actor, None, effects));
            }
            Event::ActorDies(actor) => {
                let (actor, death) = (self.actors[actor], failure(ErrorCode::ActorDied));
                self.event(|core, effects| core.actor_dead(actor, death, effects));
            }
            event => self.take_of_objects(event),
        }
    }

    fn take_of_objects(&mut self, event: Event) {
        match event {
            Event::TakeItem(at) => {
                if let Some(task) = pick(&self.generators, at) {
                    let next = self.event(|core, effects| core.stream_next(task, effects));
                    if let StreamNext::Item(item) = next {
                        self.held.push((item, self.me));
                    }
                }
            }
            Event::DropStream(at) => {
                if let Some(task) = pick(&self.generators, at) {
                    self.event(|core, effects| core.drop_stream(task, effects));
                }
            }
            Event::Lend(at, reader, delta) => {
                let own = pick(&self.held, at).filter(|(_, owner)| *owner == self.me);
                if let Some((object, _)) = own {
                    let reader = self.readers[reader];
                    self.event(|core, effects| core.borrow_delta(object, reader, delta, effects));
                }
            }
            Event::ReaderDies(reader) => {
                let worker = self.readers[reader];
                let reader = ProcessAddress {
                    worker,
                    ..self.other
                };
                self.event(|core, effects| core.process_died(reader, "killed", effects));
            }
            Event::CopyLost(at) => {
                let Some((object, _)) = pick(&self.held, at) else {
                    return;
                };
                if let Some(ObjectState::Stored(stored)) = self.core.objects.state(object) {
                    let (node, making) = (stored.nodes[0], stored.making);
                    self.event(|core, effects| {
                        core.objects.copy_lost(object, node, making, effects)
                    });
                }
            }
            Event::NodeDies(node) => {
                let node = self.nodes[node];
                self.event(|core, effects| core.node_died(node, "killed", effects));
            }
            Event::Watch(at) => {
                if let Some((object, _)) = pick(&self.held, at) {
                    self.watch(object);
                }
            }
            Event::Cancel(at, is_forced) => {
                if let Some(task) = pick(&self.tasks, at) {
                    let how = Cancel {
                        is_forced,
                        is_recursive: true,
                    };
                    let _ = self.event(|core, effects| core.cancel(task, how, effects));
                }
            }
            other => unreachable!("{other:?} is handled before"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// REF-1, TASK-1, TASK-2, TASK-3, TASK-4, CLASS-1, LEND-1, ACTOR-1, STREAM-1, STREAM-2.
    #[test]
    fn invariants_hold_whatever_happens(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.take(event);
        }
        world.finish();
        prop_assert_eq!(world.waited_for(), None, "TASK-1: whoever waits is told");
        world.watch_all();
        world.finish();
        prop_assert_eq!(world.waited_for(), None, "TASK-1: whoever asks now is told, too");
        world.let_go();
        prop_assert_eq!(world.core.tasks.ids().count(), 0, "TASK-4: nobody refers to anything");
        prop_assert_eq!(world.core.objects.len(), 0, "REF-1: nobody refers to anything");
    }
}
