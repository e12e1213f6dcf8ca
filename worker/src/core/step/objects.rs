//! What follows from what becomes of objects: tasks have their arguments, or are run again, or are forgotten.

use aktis_common::ids::{NodeId, ObjectId, WorkerId};

use crate::core::objects::ResultValue;
use crate::core::{Core, Effects, Watcher};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;

impl Core {
    /// The last clone of a handle is gone.
    pub(crate) fn release_handle(&mut self, id: ObjectId, effects: &mut Effects) {
        self.objects.release_handle(id, effects);
        self.pass_on(effects);
    }

    /// A process holds `delta` more references to an object of this process.
    pub(crate) fn borrow_delta(
        &mut self,
        id: ObjectId,
        borrower: WorkerId,
        delta: i64,
        effects: &mut Effects,
    ) {
        let clock = &mut self.clock;
        self.objects
            .borrow_delta(id, borrower, delta, clock, effects);
        self.pass_on(effects);
    }

    /// A process died: what it borrowed is given back, and what it owned is gone.
    pub(crate) fn process_died(
        &mut self,
        process: ProcessAddress,
        cause: &str,
        effects: &mut Effects,
    ) {
        let clock = &mut self.clock;
        self.objects.borrower_died(process.worker, clock, effects);
        self.pass_on(effects);
        self.owner_died(process, cause, effects);
    }

    /// What a process owned is gone.
    pub(crate) fn owner_died(&mut self, owner: ProcessAddress, cause: &str, effects: &mut Effects) {
        self.objects.owner_died(owner, cause, effects);
        self.settle(effects);
    }

    /// A node died with everything its store held, and with it the owners that lived there.
    pub(crate) fn node_died(&mut self, node: NodeId, cause: &str, effects: &mut Effects) {
        self.objects.node_died(node, effects);
        for owner in self.objects.owners_on(node) {
            self.owner_died(owner, cause, effects);
        }
    }

    /// Registers who is to be told when the object is ready. Ready objects tell at once.
    pub(crate) fn watch(&mut self, id: ObjectId, watcher: Watcher, effects: &mut Effects) {
        self.objects.watch(id, watcher, effects);
        self.pass_on(effects);
    }

    /// Does what it takes for a pending object to become ready.
    pub(crate) fn bring_about(&mut self, id: ObjectId, effects: &mut Effects) {
        self.objects.bring_about(id, effects);
        self.pass_on(effects);
    }

    /// A borrower asks for an own object.
    pub(crate) fn peer_asks(
        &mut self,
        object: ObjectId,
        connection: ConnectionId,
        request_id: u64,
        wants_readiness_only: bool,
        effects: &mut Effects,
    ) {
        let watcher = Watcher::Peer {
            connection,
            request_id,
            wants_readiness_only,
        };
        self.watch(object, watcher, effects);
        self.settle(effects);
    }

    /// The owner of a borrowed object has answered.
    pub(crate) fn owner_answered(
        &mut self,
        object: ObjectId,
        answer: Result<ResultValue, TaskFailure>,
        effects: &mut Effects,
    ) {
        match answer {
            Ok(result) => self.resolve_object(object, result, effects),
            Err(failure) => self.fail_object(object, failure, effects),
        }
        self.settle(effects);
    }

    /// An object has its value; one that nobody holds any more is freed.
    pub(crate) fn resolve_object(
        &mut self,
        object: ObjectId,
        result: ResultValue,
        effects: &mut Effects,
    ) {
        self.objects.resolve(object, result, effects);
        self.pass_on(effects);
    }

    pub(super) fn fail_object(
        &mut self,
        object: ObjectId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        self.objects.fail(object, failure, effects);
        self.pass_on(effects);
    }

    /// Whether other processes need this one, or may: only the answer of a call that is under way says whether the references
    /// that it took along were kept.
    pub(crate) fn may_be_lending(&self) -> bool {
        self.objects.is_lending() || self.tasks.have_taken_references()
    }

    /// Whether other processes, or tasks of this one that have not ended, need this process.
    pub(crate) fn owes(&self) -> bool {
        self.objects.is_lending() || self.tasks.has_pending()
    }

    /// The code of this process has ended: actors that only it held end, as soon as no task of this process needs them.
    pub(crate) fn let_actors_go(&mut self, effects: &mut Effects) {
        if !self.tasks.has_pending() {
            self.objects.let_actors_go(effects);
        }
    }
}
