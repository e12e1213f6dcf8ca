//! Making results again that were lost with their node, and forgetting how.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ObjectId, TaskId};

use crate::core::tasks::{Dependencies, Remake};
use crate::core::{Core, Effects};
use crate::error::TaskFailure;

impl Core {
    /// After a task has ended: keeps it as lineage if a result lies in a store, else forgets it.
    pub(super) fn retire(&mut self, id: TaskId, effects: &mut Effects) {
        let Some(retired) = self.tasks.retire(id, effects) else {
            return;
        };
        if retired.is_kept {
            for (object, _) in &retired.dependencies {
                self.objects.pin_lineage(*object);
            }
        }
        for (object, _) in retired.dependencies {
            self.release_handle(object, effects);
        }
        if let Some(name) = retired.rerun {
            self.fail_missing(id, &not_made_again(&name), effects);
        }
        if retired.is_missed {
            for object in self.objects.waited_for_of(id) {
                self.bring_about(object, effects);
            }
        }
        self.keep_lineage_bounded(effects);
    }

    /// Forgets the oldest tasks while what is kept of tasks, and for them, takes too much.
    pub(in crate::core) fn keep_lineage_bounded(&mut self, effects: &mut Effects) {
        while let Some(pinned) = self.tasks.evict(self.objects.kept_bytes(), effects) {
            self.unpin(pinned, effects);
            self.pass_on(effects);
        }
    }

    /// A result of a task that lay in a store will not be made again.
    pub(super) fn forget_result(&mut self, object: ObjectId, effects: &mut Effects) {
        if let Some(pinned) = self.tasks.forget_result(object, effects) {
            self.unpin(pinned, effects);
        }
    }

    fn unpin(&mut self, pinned: Dependencies, effects: &mut Effects) {
        for (object, _) in pinned {
            self.objects.unpin_lineage(object, effects);
        }
    }

    /// The task has ended for the second time: results that it did not make again are not waited for any more.
    pub(super) fn fail_missing(
        &mut self,
        id: TaskId,
        failure: &TaskFailure,
        effects: &mut Effects,
    ) {
        for object in self.objects.unready_of(id) {
            self.fail_object(object, failure.clone(), effects);
        }
    }

    /// All copies of an own object are gone: runs its task again, or says why that is impossible.
    pub(super) fn reconstruct(&mut self, object: ObjectId, effects: &mut Effects) {
        let loss = self.objects.take_loss(object);
        match self.tasks.remake(object) {
            Remake::UnderWay => {}
            Remake::Again {
                dependencies,
                num_returns,
            } => {
                let id = object.task();
                for index in 0..num_returns {
                    self.objects.is_made_again(ObjectId::of_return(id, index));
                }
                for (object, owner) in dependencies {
                    self.objects.count_handle(object, owner, false);
                    self.objects.unpin_lineage(object, effects);
                }
                self.resolve_dependencies(id, effects);
                self.settle(effects);
            }
            Remake::Impossible(reason) => {
                let loss = loss.map_or_else(
                    || "was lost with its node".to_owned(),
                    |loss| format!("was lost ({loss})"),
                );
                let message = format!("object {object} {loss} and cannot be recomputed: {reason}");
                let failure = TaskFailure::new(ErrorCode::ReconstructionFailed, message);
                self.fail_object(object, failure, effects);
            }
        }
    }
}

fn not_made_again(name: &str) -> TaskFailure {
    let message = format!(
        "it was lost with its node, and {name} did not make it again when it ran anew: a generator has to yield the same items \
         each time"
    );
    TaskFailure::new(ErrorCode::ReconstructionFailed, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use aktis_common::ids::{JobId, NodeId, WorkerId};
    use aktis_proto::v1 as wire;
    use thin_vec::ThinVec;

    use super::*;
    use crate::core::objects::{ObjectState, ResultValue};
    use crate::core::tasks::{CallTemplate, Place, Target, TaskRecord};
    use crate::core::{Effect, Watcher};
    use crate::reference::ProcessAddress;
    use crate::value::Value;
    use aktis_lane::Waiter;

    const RETRIES: i32 = 3;

    struct Fixture {
        core: Core,
        task: TaskId,
        effects: Effects,
    }

    impl Fixture {
        fn new(is_streaming: bool) -> Self {
            Self::with(is_streaming, RETRIES, Vec::new())
        }

        fn with(is_streaming: bool, retries: i32, given: Dependencies) -> Self {
            let me = ProcessAddress {
                node: NodeId::random(),
                worker: WorkerId::random(),
            };
            let mut core = Core::new(me, 1 << 20, Duration::from_secs(1));
            core.clock.set(Instant::now());
            let class = core
                .leases
                .class_of(&wire::ResourceRequest::default(), JobId::random());
            let template = Arc::new(CallTemplate {
                shared: wire::CallTemplate {
                    num_returns: u32::from(!is_streaming),
                    is_streaming,
                    ..Default::default()
                },
                target: Target::Class(class),
                group: String::new(),
                retries,
            });
            let (task, mut effects) = (TaskId::next(), Effects::default());
            if is_streaming {
                core.streams.open(task);
            } else {
                let result = ObjectId::of_return(task, 0);
                core.objects.hold(result, ObjectState::Pending);
            }
            let record = TaskRecord::new(task, template, Value::default(), given);
            core.submit(record, &mut effects);
            Self {
                core,
                task,
                effects,
            }
        }

        fn stored(node: NodeId) -> ResultValue {
            ResultValue::Stored {
                node,
                size_bytes: 1,
                making: 0,
                contained: ThinVec::new(),
            }
        }

        fn item(&mut self, index: u64, node: NodeId) {
            let item = Self::stored(node);
            self.core
                .stream_item(self.task, index, item, &mut self.effects)
                .expect("in order");
        }

        fn end(&mut self, length: u64) {
            let (task, effects) = (self.task, &mut self.effects);
            self.core.end_stream(task, length, None, effects);
            self.core.finish_task(task, Vec::new(), effects);
        }

        fn place(&self) -> Option<Place> {
            self.core.tasks.place(self.task)
        }

        fn state(&self, index: u32) -> &ObjectState {
            let object = ObjectId::of_return(self.task, index);
            self.core.objects.state(object).expect("held")
        }

        fn making(&self) -> u64 {
            match self.state(0) {
                ObjectState::Stored(stored) => stored.making,
                other => panic!("it is stored, and not {other:?}"),
            }
        }

        fn ask_for(&mut self, index: u32) -> Arc<Waiter> {
            let waiter = Waiter::new(1);
            let watcher = Watcher::Thread(Arc::clone(&waiter));
            let object = ObjectId::of_return(self.task, index);
            self.core.watch(object, watcher, &mut self.effects);
            waiter
        }
    }

    /// Two readers miss the copy on `old`; when the second says so, the object was made again, on `new`.
    fn two_readers_miss_a_copy(old: NodeId, new: NodeId) {
        let mut fixture = Fixture::new(false);
        let object = ObjectId::of_return(fixture.task, 0);
        let (task, core, effects) = (fixture.task, &mut fixture.core, &mut fixture.effects);
        core.finish_task(task, vec![Fixture::stored(old)], effects);
        let told = fixture.making();
        let (core, effects) = (&mut fixture.core, &mut fixture.effects);
        core.objects.copy_lost(object, old, told, effects);
        let waiter = fixture.ask_for(0);
        assert_eq!(fixture.place(), Some(Place::Queued));
        let (core, effects) = (&mut fixture.core, &mut fixture.effects);
        core.finish_task(task, vec![Fixture::stored(new)], effects);
        core.objects.copy_lost(object, old, told, effects);
        assert!(waiter.is_done());
        assert!(matches!(fixture.state(0), ObjectState::Stored(stored) if stored.nodes == [new]));
        assert_eq!(fixture.place(), Some(Place::Lineage));
        // Whoever misses the new one is believed.
        let told = fixture.making();
        let (core, effects) = (&mut fixture.core, &mut fixture.effects);
        core.objects.copy_lost(object, new, told, effects);
        assert!(matches!(fixture.state(0), ObjectState::Lost));
    }

    #[test]
    fn copy_that_was_made_since_stays_when_a_late_reader_misses_the_old_one() {
        two_readers_miss_a_copy(NodeId::random(), NodeId::random());
    }

    #[test]
    fn copy_that_was_made_since_on_the_same_node_stays_too() {
        let node = NodeId::random();
        two_readers_miss_a_copy(node, node);
    }

    #[test]
    fn lost_item_of_a_generator_is_made_again() {
        let mut fixture = Fixture::new(true);
        let (old, new) = (NodeId::random(), NodeId::random());
        (0..3).for_each(|index| fixture.item(index, old));
        fixture.end(3);
        assert_eq!(fixture.place(), Some(Place::Lineage));
        fixture.core.node_died(old, "lost", &mut fixture.effects);
        let waiter = fixture.ask_for(1);
        assert_eq!(fixture.place(), Some(Place::Queued));
        (0..3).for_each(|index| fixture.item(index, new));
        fixture.end(3);
        assert!(waiter.is_done());
        assert!(matches!(fixture.state(1), ObjectState::Stored(_)));
        assert_eq!(fixture.place(), Some(Place::Lineage));
        // Nobody needs any of them any more.
        fixture.core.drop_stream(fixture.task, &mut fixture.effects);
        assert_eq!(fixture.place(), None);
    }

    #[test]
    fn item_that_a_generator_does_not_make_again_is_not_waited_for() {
        let mut fixture = Fixture::new(true);
        let (old, new) = (NodeId::random(), NodeId::random());
        (0..3).for_each(|index| fixture.item(index, old));
        fixture.end(3);
        fixture.core.node_died(old, "lost", &mut fixture.effects);
        let waiter = fixture.ask_for(2);
        fixture.item(0, new);
        fixture.end(1);
        assert!(waiter.is_done());
        let ObjectState::Failed(failure) = fixture.state(2) else {
            panic!("it cannot be had");
        };
        assert_eq!(failure.code, ErrorCode::ReconstructionFailed);
        assert!(failure.message.contains("same items"), "{failure}");
    }

    /// TASK-4.
    #[test]
    fn task_is_forgotten_with_a_lost_result_that_it_may_not_make_again() {
        let (given, elsewhere) = (ObjectId::for_put(), NodeId::random());
        let owner = ProcessAddress {
            node: elsewhere,
            worker: WorkerId::random(),
        };
        let mut fixture = Fixture::with(false, 0, vec![(given, owner)]);
        let (task, core, effects) = (fixture.task, &mut fixture.core, &mut fixture.effects);
        let inline = ResultValue::Inline(Value::default());
        core.owner_answered(given, Ok(inline), effects);
        core.finish_task(task, vec![Fixture::stored(elsewhere)], effects);
        assert_eq!(fixture.place(), Some(Place::Lineage));
        fixture
            .core
            .objects
            .node_died(elsewhere, &mut fixture.effects);
        let waiter = fixture.ask_for(0);
        assert!(waiter.is_done());
        assert!(matches!(fixture.state(0), ObjectState::Failed(_)));
        assert_eq!(fixture.place(), None);
        assert_eq!(fixture.core.objects.counts(given), (0, 0));
    }

    /// TASK-4.
    #[test]
    fn generator_is_forgotten_when_its_items_fail_or_come_inline_the_second_time() {
        let mut fixture = Fixture::new(true);
        let node = NodeId::random();
        (0..2).for_each(|index| fixture.item(index, node));
        fixture.end(2);
        fixture.core.node_died(node, "lost", &mut fixture.effects);
        let waiter = fixture.ask_for(0);
        let inline = ResultValue::Inline(Value::default());
        let (task, core, effects) = (fixture.task, &mut fixture.core, &mut fixture.effects);
        core.stream_item(task, 0, inline, effects)
            .expect("in order");
        assert!(waiter.is_done());
        fixture.end(1);
        assert!(matches!(fixture.state(1), ObjectState::Failed(_)));
        assert_eq!(fixture.place(), None);
    }

    /// TASK-4.
    #[test]
    fn reference_to_a_result_that_is_gone_costs_the_others_nothing() {
        let mut fixture = Fixture::new(false);
        let (task, core, effects) = (fixture.task, &mut fixture.core, &mut fixture.effects);
        core.finish_task(task, vec![Fixture::stored(NodeId::random())], effects);
        let (gone, me) = (ObjectId::of_return(task, 1), core.objects.me());
        core.objects.count_handle(gone, me, false);
        core.release_handle(gone, effects);
        assert_eq!(fixture.place(), Some(Place::Lineage));
    }

    /// TASK-4.
    #[test]
    fn result_that_was_left_when_its_task_failed_the_second_time_can_still_be_made_again() {
        let mut fixture = Fixture::new(false);
        let nodes = [NodeId::random(), NodeId::random()];
        let (task, core, effects) = (fixture.task, &mut fixture.core, &mut fixture.effects);
        let second = ObjectId::of_return(task, 1);
        core.objects.hold(second, ObjectState::Pending);
        core.finish_task(task, nodes.map(Fixture::stored).into(), effects);
        core.node_died(nodes[0], "lost", effects);
        let waiter = fixture.ask_for(0);
        let failure = TaskFailure::new(ErrorCode::Application, "raised");
        fixture.core.fail_task(task, failure, &mut fixture.effects);
        assert!(waiter.is_done());
        assert_eq!(fixture.place(), Some(Place::Lineage));
        fixture.core.release_handle(second, &mut fixture.effects);
        assert_eq!(fixture.place(), None);
    }

    #[test]
    fn item_that_is_lost_while_its_generator_still_runs_is_made_again_after_its_end() {
        let mut fixture = Fixture::new(true);
        let (old, new) = (NodeId::random(), NodeId::random());
        fixture.item(0, old);
        fixture.core.node_died(old, "lost", &mut fixture.effects);
        let waiter = fixture.ask_for(0);
        fixture.item(1, new);
        fixture.end(2);
        assert_eq!(fixture.place(), Some(Place::Queued));
        (0..2).for_each(|index| fixture.item(index, new));
        fixture.end(2);
        assert!(waiter.is_done());
        assert!(matches!(fixture.state(0), ObjectState::Stored(_)));
    }

    #[test]
    fn copy_that_comes_when_its_result_has_failed_is_freed() {
        let mut fixture = Fixture::new(false);
        let (result, node) = (ObjectId::of_return(fixture.task, 0), NodeId::random());
        let (core, effects) = (&mut fixture.core, &mut fixture.effects);
        let failure = TaskFailure::new(ErrorCode::WorkerCrashed, "killed");
        core.fail_object(result, failure, effects);
        core.resolve_object(result, Fixture::stored(node), effects);
        let is_freed = |effect: &Effect| matches!(effect, Effect::FreeStored { object, nodes } if *object == result && *nodes == [node]);
        assert!(effects.list.iter().any(is_freed));
    }
}
