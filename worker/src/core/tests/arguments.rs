//! What a task takes is there when it runs again.

use super::*;

/// A task whose only result lies in a store.
struct Taker {
    task: TaskId,
    /// Its results among those that are held.
    results: [ObjectId; 2],
}

impl World {
    fn given(&mut self, value: Value) -> ObjectId {
        let id = ObjectId::for_put();
        self.held.push((id, self.me));
        self.event(|core, effects| {
            core.objects.hold(id, ObjectState::Pending);
            core.resolve_object(id, ResultValue::Inline(value), effects);
        });
        id
    }

    fn borrowed(&mut self) -> ObjectId {
        let (id, owner) = (ObjectId::for_put(), self.other);
        self.held.push((id, owner));
        self.event(|core, _| core.objects.count_handle(id, owner, true));
        id
    }

    /// The task runs and ends with its results in the store of the first node; nobody but it has had the argument.
    fn taker_of(&mut self, argument: ObjectId, retries: i32) -> Taker {
        self.taker_of_all(&[argument], retries)
    }

    fn taker_of_all(&mut self, arguments: &[ObjectId], retries: i32) -> Taker {
        let position = |argument: &ObjectId| {
            let is_argument = |(held, _): &(ObjectId, _)| held == argument;
            self.held.iter().position(is_argument).expect("held")
        };
        let given: Vec<usize> = arguments.iter().map(position).collect();
        self.submit(None, &given, retries, false);
        self.held.retain(|(held, _)| !arguments.contains(held));
        let task = *self.tasks.last().expect("submitted");
        for argument in arguments {
            self.release(*argument);
        }
        self.finish_with(End::Stored(0));
        let results = [0, 1].map(|index| ObjectId::of_return(task, index));
        Taker { task, results }
    }

    /// Whatever runs ends, and what is asked of others is answered.
    fn finish_with(&mut self, end: End) {
        while !self.requests.is_empty() || !self.sent.is_empty() || !self.asked.is_empty() {
            for key in std::mem::take(&mut self.requests) {
                self.grant(key);
            }
            for object in std::mem::take(&mut self.asked) {
                self.answer(object, End::Inline);
            }
            for sent in self.sent.clone() {
                self.end(sent, [end; 2]);
            }
        }
    }

    fn first_node_dies(&mut self) {
        let node = self.nodes[0];
        self.event(|core, effects| core.node_died(node, "killed", effects));
    }

    /// The task runs again, without a question to anybody, and its result is there.
    fn is_made_again(&mut self, taker: &Taker) {
        self.first_node_dies();
        self.watch(taker.results[0]);
        assert_eq!(self.asked, [], "its argument is here");
        (self.requests.clone().into_iter()).for_each(|key| self.grant(key));
        assert!(self.sent.iter().any(|sent| sent.task == taker.task));
        self.finish_with(End::Stored(1));
        let state = self.core.objects.state(taker.results[0]);
        assert!(matches!(state, Some(ObjectState::Stored(_))), "{state:?}");
    }

    fn why_not(&mut self, taker: &Taker) -> String {
        self.first_node_dies();
        self.watch(taker.results[0]);
        match self.core.objects.state(taker.results[0]) {
            Some(ObjectState::Failed(failure)) => failure.message.clone(),
            other => panic!("it cannot be made again, but it is {other:?}"),
        }
    }
}

#[test]
fn small_value_that_only_a_task_took_is_there_when_it_runs_again() {
    let mut world = World::new();
    let argument = world.given(Value::default());
    let taker = world.taker_of(argument, 3);
    world.is_made_again(&taker);
    // And a second time.
    let node = world.nodes[1];
    world.event(|core, effects| core.node_died(node, "killed", effects));
    world.is_made_again(&taker);
}

#[test]
fn small_result_that_only_a_task_took_is_there_when_it_runs_again() {
    let mut world = World::new();
    let first = world.submitted(None, &[]);
    let argument = world.held[first].0;
    world.finish_with(End::Inline);
    let taker = world.taker_of(argument, 3);
    world.is_made_again(&taker);
}

/// The owner has its borrow back, and may be gone.
#[test]
fn small_value_of_another_process_is_there_when_a_task_that_took_it_runs_again() {
    let mut world = World::new();
    let argument = world.borrowed();
    let taker = world.taker_of(argument, 3);
    let owner = world.other;
    world.event(|core, effects| core.process_died(owner, "ended", effects));
    world.is_made_again(&taker);
}

/// As many small values of another process as do not all travel with a task that runs for the first time.
fn many_borrowed(world: &mut World, bytes: usize) -> Taker {
    let value = Value::native(vec![7; bytes]);
    let arguments: Vec<ObjectId> = (0..100).map(|_| world.borrowed()).collect();
    for argument in &arguments {
        let answer = Ok(ResultValue::Inline(value.clone()));
        let argument = *argument;
        world.event(|core, effects| core.owner_answered(argument, answer, effects));
    }
    let taker = world.taker_of_all(&arguments, 3);
    let owner = world.other;
    world.event(|core, effects| core.process_died(owner, "ended", effects));
    taker
}

/// Their owner has its borrows back and cannot be asked, so they travel, however many they are.
#[test]
fn many_small_values_of_another_process_travel_when_a_task_that_took_them_runs_again() {
    let mut world = World::with_lineage(1 << 30);
    let taker = many_borrowed(&mut world, 90_000);
    world.first_node_dies();
    world.watch(taker.results[0]);
    (world.requests.clone().into_iter()).for_each(|key| world.grant(key));
    let again = world.sent.iter().find(|sent| sent.task == taker.task);
    assert_eq!(again.map(|sent| sent.inlined), Some(100));
    world.finish_with(End::Stored(1));
    let state = world.core.objects.state(taker.results[0]);
    assert!(matches!(state, Some(ObjectState::Stored(_))), "{state:?}");
}

/// But not more than a frame may have.
#[test]
fn more_small_values_of_another_process_than_one_frame_has_room_for_are_named_in_the_error() {
    let mut world = World::with_lineage(1 << 40);
    let taker = many_borrowed(&mut world, 6 << 20);
    world.first_node_dies();
    world.watch(taker.results[0]);
    (world.requests.clone().into_iter()).for_each(|key| world.grant(key));
    match world.core.objects.state(taker.results[0]) {
        Some(ObjectState::Failed(failure)) => {
            assert_eq!(failure.code, ErrorCode::ReconstructionFailed);
            assert!(failure.message.contains("512 MiB"), "{failure:?}");
        }
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// TASK-4, REF-1.
#[test]
fn value_that_a_task_took_goes_with_the_last_result_that_may_be_missed() {
    let mut world = World::new();
    let argument = world.given(Value::native(vec![0; 100]));
    let taker = world.taker_of(argument, 3);
    assert_eq!(world.core.objects.kept_bytes(), 100);
    world.held.clear();
    taker
        .results
        .iter()
        .for_each(|result| world.release(*result));
    assert_eq!(world.core.objects.kept_bytes(), 0);
    assert_eq!(world.core.objects.len(), 0);
}

/// TASK-4. Values that somebody refers to are not counted: they are there anyway.
#[test]
fn values_beyond_the_limit_of_lineage_are_forgotten_with_their_tasks_which_the_error_says() {
    let mut world = World::new();
    let arguments = [0, 1].map(|_| world.given(Value::native(vec![0; 1500])));
    world
        .core
        .objects
        .count_handle(arguments[0], world.me, false);
    let takers = arguments.map(|argument| world.taker_of(argument, 3));
    assert_eq!(world.core.objects.kept_bytes(), 1500);
    world.release(arguments[0]);
    assert_eq!(
        world.core.objects.kept_bytes(),
        1500,
        "3000 with two records are too much"
    );
    let why = world.why_not(&takers[0]);
    assert!(
        why.contains("evicted") && why.contains("AKTIS_LINEAGE_BYTES"),
        "{why}"
    );
    world.is_made_again(&takers[1]);
}

/// Whoever reads that may look at the right cause.
#[test]
fn error_of_a_value_that_was_put_does_not_speak_of_eviction_since_others_were_evicted() {
    let mut world = World::new();
    for _ in 0..2 {
        let argument = world.given(Value::native(vec![0; 2000]));
        world.taker_of(argument, 3);
    }
    let (put, node) = (ObjectId::for_put(), world.nodes[0]);
    world.event(|core, effects| {
        core.objects.hold(put, ObjectState::Pending);
        let stored = ResultValue::Stored {
            node,
            size_bytes: 1,
            making: 0,
            contained: ThinVec::new(),
        };
        core.resolve_object(put, stored, effects);
    });
    world.first_node_dies();
    world.watch(put);
    let Some(ObjectState::Failed(failure)) = world.core.objects.state(put) else {
        panic!("it cannot be made again");
    };
    assert!(failure.message.contains("made by put()"), "{failure}");
}

/// A large value is storage, and goes with its last reference.
#[test]
fn error_of_a_large_value_that_was_freed_with_its_last_reference_says_so() {
    let mut world = World::new();
    world.put(End::Stored(1));
    let argument = world.held[0].0;
    let taker = world.taker_of(argument, 3);
    let why = world.why_not(&taker);
    assert!(why.contains("freed with its last reference"), "{why}");
}
