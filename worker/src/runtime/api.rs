//! What callers do with single objects.

use std::sync::Arc;

use aktis_common::ids::{NodeId, ObjectId};

use super::Runtime;
use crate::core::Watcher;
use crate::core::objects::{ObjectState, ResultValue};
use crate::error::TaskFailure;
use crate::reference::ObjectRef;
use crate::value::Value;

impl Runtime {
    /// Stores a value and returns the reference that owns it.
    pub fn put(&self, value: Value) -> Result<ObjectRef, TaskFailure> {
        if value.data_bytes() as u64 <= self.0.hello.max_inline_bytes {
            self.check_open()?;
            let (id, me) = (ObjectId::for_put(), self.0.me);
            let state = ObjectState::Inline(value);
            self.0.core.note(|core| core.objects.hold(id, state));
            return Ok(ObjectRef::from_counted(id, me, self));
        }
        self.put_stored(value)
    }

    /// [`Self::put`] that writes into the object store, however short the value is.
    pub fn put_stored(&self, value: Value) -> Result<ObjectRef, TaskFailure> {
        self.check_open()?;
        let (id, me) = (ObjectId::for_put(), self.0.me);
        self.0
            .core
            .note(|core| core.objects.hold(id, ObjectState::Pending));
        let reference = ObjectRef::from_counted(id, me, self);
        let size_bytes = self.0.store.write(id, me, &value)?;
        let stored = ResultValue::Stored {
            node: me.node,
            size_bytes,
            making: 0,
            contained: value.contained,
        };
        self.with_core(|core, effects| core.resolve_object(id, stored, effects));
        Ok(reference)
    }

    /// Whether the object is ready, or has failed.
    pub fn is_ready(&self, reference: &ObjectRef) -> bool {
        self.0
            .core
            .look(|core| core.objects.is_ready(reference.id()))
    }

    /// Whether the value, or the failure, is in this process.
    pub fn is_inline(&self, reference: &ObjectRef) -> bool {
        self.0.core.look(|core| {
            let state = core.objects.state(reference.id());
            matches!(state, Some(ObjectState::Inline(_) | ObjectState::Failed(_)))
        })
    }

    /// The nodes whose stores are known to have the object; none if its value is in this process, or is not there.
    pub fn nodes_of(&self, reference: &ObjectRef) -> Vec<NodeId> {
        self.0
            .core
            .look(|core| match core.objects.state(reference.id()) {
                Some(ObjectState::Stored(stored)) => stored.nodes.clone(),
                _ => Vec::new(),
            })
    }

    pub(crate) fn failed_object(&self, failure: &TaskFailure) -> Result<ObjectRef, TaskFailure> {
        self.check_open()?;
        let id = ObjectId::for_put();
        let state = ObjectState::Failed(Arc::new(failure.clone()));
        self.0.core.note(|core| core.objects.hold(id, state));
        Ok(ObjectRef::from_counted(id, self.0.me, self))
    }

    /// Calls back once, when the object is ready or has failed; from whatever thread polls, so that the callback must be quick
    /// and wait for nothing.
    pub fn on_ready(&self, reference: &ObjectRef, callback: Box<dyn FnOnce() + Send>) {
        self.with_core(|core, effects| {
            core.watch(reference.id(), Watcher::Callback(callback), effects)
        });
    }
}
