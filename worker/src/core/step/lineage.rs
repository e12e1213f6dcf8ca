//! Making results again that were lost with their node: what is kept of tasks that have ended, and for how long.
//!
//! A generator's items count like results, from the moment they come.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ObjectId, TaskId};

use crate::core::objects::{ObjectEntry, ObjectState, shrink_if_sparse};
use crate::core::tasks::{Place, Target};
use crate::core::{Core, Effects};
use crate::error::TaskFailure;

impl Core {
    /// An item of a generator lies in a store: the generator is kept as long as somebody may miss it.
    pub(in crate::core) fn item_is_stored(&mut self, id: TaskId) {
        if let Some(record) = self.tasks.records.get_mut(&id)
            && !record.is_rerun
        {
            record.live_results += 1;
        }
    }

    /// After a task has ended: keeps it as lineage if a result lies in a store, else forgets it. A generator's results were
    /// counted when they came.
    pub(in crate::core) fn retire(
        &mut self,
        id: TaskId,
        stored_results: u32,
        effects: &mut Effects,
    ) {
        let Some(record) = self.tasks.records.get_mut(&id) else {
            return;
        };
        let stored_results = match record.template.shared.is_streaming {
            true => record.live_results,
            false => stored_results,
        };
        let rerun = record.is_rerun.then(|| record.name());
        let dependencies = record.dependencies.clone();
        if record.place != Place::Lineage {
            self.tasks.queued_bytes -= record.args_bytes();
        }
        if stored_results > 0 && matches!(record.template.target, Target::Class(_)) {
            record.place = Place::Lineage;
            record.live_results = stored_results;
            self.tasks.lineage_bytes += record.lineage_bytes();
            self.tasks.lineage.push_back(id);
            for (object, _) in &dependencies {
                if let Some(entry) = self.objects.get_mut(*object) {
                    entry.lineage_pins += 1;
                }
            }
        } else if let Some(record) = self.tasks.records.remove(&id) {
            effects.discard_value(record.args);
            shrink_if_sparse(&mut self.tasks.records, &mut self.tasks.peak);
        }
        for (object, _) in dependencies {
            self.release_handle(object, effects);
        }
        if let Some(name) = rerun {
            self.fail_missing(id, &not_made_again(&name), effects);
        }
        self.bound_lineage(effects);
    }

    fn bound_lineage(&mut self, effects: &mut Effects) {
        while self.tasks.lineage_bytes > self.tasks.lineage_limit_bytes {
            let Some(oldest) = self.tasks.lineage.pop_front() else {
                return;
            };
            if self.drop_lineage(oldest, effects) {
                self.tasks.evicted += 1;
            }
        }
        // Records that were dropped leave their ids behind; sweep them when they are the majority.
        if self.tasks.lineage.len() > 1024
            && self.tasks.lineage.len() > 2 * self.tasks.records.len()
        {
            let records = &self.tasks.records;
            self.tasks.lineage.retain(|id| {
                records
                    .get(id)
                    .is_some_and(|record| record.place == Place::Lineage)
            });
        }
    }

    /// Forgets how to recompute the task's results. False: it was forgotten before.
    fn drop_lineage(&mut self, id: TaskId, effects: &mut Effects) -> bool {
        if self
            .tasks
            .records
            .get(&id)
            .is_none_or(|record| record.place != Place::Lineage)
        {
            return false;
        }
        let Some(record) = self.tasks.records.remove(&id) else {
            return false;
        };
        self.tasks.lineage_bytes -= record.lineage_bytes();
        for (object, _) in &record.dependencies {
            self.unpin_lineage(*object, effects);
        }
        effects.discard_value(record.args);
        true
    }

    fn unpin_lineage(&mut self, object: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.objects.get_mut(object) else {
            return;
        };
        entry.lineage_pins = entry.lineage_pins.saturating_sub(1);
        self.free_if_unreferenced(object, effects);
    }

    /// A result of a task that lay in a store is not referenced any more.
    pub(in crate::core) fn forget_result(&mut self, object: ObjectId, effects: &mut Effects) {
        let id = object.task();
        let Some(record) = self.tasks.records.get_mut(&id) else {
            return;
        };
        record.live_results = record.live_results.saturating_sub(1);
        if record.place == Place::Lineage && record.live_results == 0 {
            self.drop_lineage(id, effects);
        }
    }

    /// The task has ended for the second time: results that it did not make again are not waited for any more.
    pub(in crate::core) fn fail_missing(
        &mut self,
        id: TaskId,
        failure: &TaskFailure,
        effects: &mut Effects,
    ) {
        let is_missing = |(object, entry): &(&ObjectId, &ObjectEntry)| {
            object.task() == id && entry.owner().is_none() && !entry.state.is_ready()
        };
        let entries = self.objects.entries.iter().filter(is_missing);
        let missing: Vec<ObjectId> = entries.map(|(object, _)| *object).collect();
        for object in missing {
            self.fail_object(object, failure.clone(), effects);
        }
    }

    /// A node says how it lost its copy.
    pub(crate) fn note_loss(&mut self, object: ObjectId, loss: String) {
        self.losses.insert(object, loss);
    }

    /// All copies of an own object are gone: runs its task again, or says why that is impossible.
    pub(in crate::core) fn reconstruct(&mut self, object: ObjectId, effects: &mut Effects) {
        let id = object.task();
        let loss = self.losses.remove(&object);
        let evicted = self.tasks.evicted;
        let is_cancelled = self.tasks.cancelled.contains(&id);
        let refusal = match self.tasks.records.get_mut(&id) {
            None if is_cancelled => Some("TASK_CANCELLED: the task that made it was cancelled".to_owned()),
            None if evicted > 0 => Some(format!(
                "lineage of {evicted} tasks was evicted to stay within {} bytes; raise AKTIS_LINEAGE_BYTES",
                self.tasks.lineage_limit_bytes
            )),
            None => Some(
                "it was made by put() or by an actor, which cannot be run again; compute it in a task instead".to_owned(),
            ),
            Some(record) if record.place != Place::Lineage => None,
            Some(record) => {
                let has_retry = record.take_retry();
                (!has_retry).then(|| format!("task {} has no retries left; raise max_retries", record.name()))
            }
        };
        let is_lineage = self
            .tasks
            .records
            .get(&id)
            .is_some_and(|record| record.place == Place::Lineage);
        if refusal.is_none() && is_lineage {
            self.run_again(id, effects);
        }
        if let Some(reason) = refusal {
            let loss = loss.map_or_else(
                || "was lost with its node".to_owned(),
                |loss| format!("was lost ({loss})"),
            );
            let message = format!("object {object} {loss} and cannot be recomputed: {reason}");
            self.fail_object(
                object,
                TaskFailure::new(ErrorCode::ReconstructionFailed, message),
                effects,
            );
        }
    }

    fn run_again(&mut self, id: TaskId, effects: &mut Effects) {
        let Some(record) = self.tasks.records.get_mut(&id) else {
            return;
        };
        record.place = Place::Queued;
        record.is_rerun = true;
        self.tasks.lineage_bytes -= record.lineage_bytes();
        self.tasks.queued_bytes += record.args_bytes();
        let (dependencies, num_returns) = (
            record.dependencies.clone(),
            record.template.shared.num_returns,
        );
        for index in 0..num_returns {
            let entry = self.objects.get_mut(ObjectId::of_return(id, index));
            if let Some(entry) = entry
                && matches!(entry.state, ObjectState::Lost)
            {
                entry.state = ObjectState::Pending;
            }
        }
        for (object, owner) in dependencies {
            self.count_handle(object, owner, false);
            if let Some(entry) = self.objects.get_mut(object) {
                entry.lineage_pins = entry.lineage_pins.saturating_sub(1);
            }
        }
        self.resolve_dependencies(id, effects);
        self.settle(effects);
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
    use aktis_lane::Waiter;
    use aktis_proto::v1 as wire;
    use thin_vec::ThinVec;

    use super::*;
    use crate::core::ResultValue;
    use crate::core::Watcher;
    use crate::core::tasks::{CallTemplate, TaskRecord};
    use crate::reference::ProcessAddress;
    use crate::value::Value;

    struct Fixture {
        core: Core,
        task: TaskId,
        effects: Effects,
    }

    impl Fixture {
        fn new(is_streaming: bool) -> Self {
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
                retries: 3,
            });
            let (task, mut effects) = (TaskId::next(), Effects::default());
            if is_streaming {
                core.open_stream(task);
            } else {
                let result = ObjectId::of_return(task, 0);
                core.objects
                    .insert_owned(result, ObjectState::Pending)
                    .handles = 1;
            }
            let record = TaskRecord::new(task, template, Value::default(), Vec::new());
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
            Some(self.core.tasks.records.get(&self.task)?.place)
        }

        fn state(&self, index: u32) -> &ObjectState {
            let object = ObjectId::of_return(self.task, index);
            &self.core.objects.get(object).expect("held").state
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
        fixture
            .core
            .copy_lost(object, old, told, &mut fixture.effects);
        let waiter = fixture.ask_for(0);
        assert_eq!(fixture.place(), Some(Place::Queued));
        let (core, effects) = (&mut fixture.core, &mut fixture.effects);
        core.finish_task(task, vec![Fixture::stored(new)], effects);
        core.copy_lost(object, old, told, effects);
        assert!(waiter.is_done());
        assert!(matches!(fixture.state(0), ObjectState::Stored(stored) if stored.nodes == [new]));
        assert_eq!(fixture.place(), Some(Place::Lineage));
        // Whoever misses the new one is believed.
        let told = fixture.making();
        fixture
            .core
            .copy_lost(object, new, told, &mut fixture.effects);
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
        fixture.core.node_died(old, &mut fixture.effects);
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
        fixture.core.node_died(old, &mut fixture.effects);
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
}
