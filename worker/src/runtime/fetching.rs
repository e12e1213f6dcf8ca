//! Bringing many stored objects here side by side.
//!
//! Each takes a question to the raylet, and perhaps a transfer from another node. So the questions for the next
//! [`READS_AHEAD`] are sent before the first is answered; those for objects that become ready meanwhile are sent then.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::ids::{NodeId, ObjectId};
use aktis_lane::Waiter;
use aktis_proto::v1 as wire;
use rustc_hash::FxHashMap;

use super::at_work::Subject;
use super::waiting::{EnteredGetter, Interrupt, Waiting};
use super::{GetError, Runtime};
use crate::core::Watcher;
use crate::core::objects::ObjectState;
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::store::client::{BegunRead, ObjectPlace, ReadError};
use crate::value::Value;

/// Reads that are under way at once for one caller.
const READS_AHEAD: usize = 64;

/// Reads that were begun for objects further on in a list.
#[derive(Default)]
pub(super) struct ReadsAhead {
    begun: FxHashMap<ObjectId, BegunRead>,
    /// Up to here the list was looked through.
    position: usize,
    /// What stands there is not ready yet.
    is_held_up: bool,
}

impl ReadsAhead {
    /// Begins reads of stored objects behind `position`, whose turn it is.
    fn fill(&mut self, runtime: &Runtime, references: &[ObjectRef], position: usize) {
        self.position = self.position.max(position + 1);
        let was_held_up = std::mem::take(&mut self.is_held_up);
        let are_enough = self.begun.len() * 2 > READS_AHEAD && !was_held_up;
        if are_enough || self.position >= references.len() {
            return;
        }
        let mut places = Vec::new();
        runtime.0.core.look(|core| {
            while self.begun.len() + places.len() < READS_AHEAD
                && let Some(reference) = references.get(self.position)
            {
                let object = reference.id();
                match core.objects.state(object) {
                    Some(ObjectState::Stored(stored)) if !self.begun.contains_key(&object) => {
                        places.push(ObjectPlace {
                            object,
                            owner: reference.owner(),
                            nodes: stored.nodes.clone(),
                            size_bytes: stored.size_bytes,
                            making: stored.making,
                        });
                    }
                    Some(ObjectState::Pending | ObjectState::Lost) => {
                        self.is_held_up = true;
                        break;
                    }
                    _ => {}
                }
                self.position += 1;
            }
        });
        for place in places {
            let object = place.object;
            self.begun
                .entry(object)
                .or_insert_with(|| runtime.0.store.begin_read(place));
        }
    }

    /// What has to become ready before more can be asked for.
    fn awaits(&self, references: &[ObjectRef]) -> Option<ObjectId> {
        let held_up = references.get(self.position).filter(|_| self.is_held_up);
        held_up.map(ObjectRef::id)
    }
}

impl Runtime {
    /// The stored object at `position` of a list. `None`: the list is to be looked at again, since its copies turn out to be
    /// lost, or something further on is ready to be asked for, or has failed.
    pub(super) fn read_in_turn<'a>(
        &'a self,
        references: &[ObjectRef],
        position: usize,
        place: ObjectPlace,
        ahead: &mut ReadsAhead,
        getter: &mut Option<EnteredGetter<'a>>,
        waiting: &mut Waiting<'_>,
    ) -> Result<Option<Value>, GetError> {
        ahead.fill(self, references, position);
        let (object, owner) = (place.object, place.owner);
        let begun = match ahead.begun.remove(&object) {
            Some(begun) => begun,
            None => match self.0.store.read_again(object) {
                Some(bytes) => return self.value_of(&bytes).map(Some).map_err(GetError::Failed),
                None => self.0.store.begin_read(place),
            },
        };
        if !begun.is_answered() {
            let next = ahead.awaits(references);
            if next.is_some() && getter.is_none() {
                *getter = Some(self.look_ahead(&references[position..])?);
            }
            self.wait_for_read(&begun, object, next, getter.as_ref(), waiting)?;
            if !begun.is_answered() {
                ahead.begun.insert(object, begun);
                return Ok(None);
            }
        }
        match begun.take() {
            Ok(bytes) => self.value_of(&bytes).map(Some).map_err(GetError::Failed),
            Err(ReadError::Failed(failure)) => Err(GetError::Failed(failure)),
            Err(ReadError::Lost(missed)) => {
                self.report_lost(object, owner, &missed);
                Ok(None)
            }
        }
    }

    /// Waits until the read of `object` is answered, `next` is ready, or the getter is told of a failure.
    fn wait_for_read(
        &self,
        begun: &BegunRead,
        object: ObjectId,
        next: Option<ObjectId>,
        getter: Option<&EnteredGetter<'_>>,
        waiting: &mut Waiting<'_>,
    ) -> Result<(), GetError> {
        let waiter = Waiter::new(1);
        begun.tell(&waiter);
        if next.is_some() || getter.is_some() {
            self.with_core(|core, effects| {
                if let Some(getter) = getter {
                    core.objects.getter_waits(getter.number(), &waiter);
                }
                if let Some(next) = next {
                    core.watch(next, Watcher::Thread(Arc::clone(&waiter)), effects);
                }
            });
        }
        let waited = waiting.wait_for(&waiter, Subject::object(object));
        if let Some(next) = next {
            self.unwatch_all(&[next], &waiter);
        }
        waited
    }

    /// The values of dependencies that did not come along with a call: those that the caller says are in a store, and those
    /// that their owner is to be asked for. With their positions among `dependencies`.
    pub(super) fn fetch_dependencies(
        &self,
        dependencies: &[wire::ObjectRef],
        locations: &[wire::DependencyLocation],
        asked: &[usize],
        interrupt: Interrupt<'_>,
    ) -> Result<Vec<(usize, Value)>, TaskFailure> {
        let mut values = Vec::with_capacity(locations.len() + asked.len());
        let mut waiting = Waiting::new(self, None, interrupt);
        let (mut begun, mut next) = (VecDeque::new(), locations.iter());
        loop {
            while begun.len() < READS_AHEAD
                && let Some(location) = next.next()
            {
                let index = location.position as usize;
                let reference = dependencies
                    .get(index)
                    .ok_or_else(|| super::calls::bad_frame("a dependency out of range"))?;
                let place = place_of(reference, location)?;
                let (object, owner) = (place.object, place.owner);
                let read = match self.0.store.read_again(object) {
                    Some(bytes) => Err(bytes),
                    None => Ok(self.0.store.begin_read(place)),
                };
                begun.push_back((index, object, owner, read));
            }
            let Some((index, object, owner, read)) = begun.pop_front() else {
                break;
            };
            let read = read.map_or_else(Ok, |begun| {
                begun.finish(|waiter| waiting.wait_for(waiter, Subject::object(object)))
            });
            let value = match read {
                Ok(bytes) => self.value_of(&bytes)?,
                Err(Ok(ReadError::Failed(failure))) => return Err(failure),
                Err(Err(error)) => return Err(error.into_failure()),
                Err(Ok(ReadError::Lost(missed))) => {
                    self.report_lost(object, owner, &missed);
                    let reference = std::slice::from_ref(&dependencies[index]);
                    self.ask_owners(reference, interrupt)?.remove(0)
                }
            };
            values.push((index, value));
        }
        if !asked.is_empty() {
            let references: Vec<wire::ObjectRef> = asked
                .iter()
                .map(|index| dependencies[*index].clone())
                .collect();
            let from_owners = self.ask_owners(&references, interrupt)?;
            values.extend(asked.iter().copied().zip(from_owners));
        }
        Ok(values)
    }

    fn ask_owners(
        &self,
        references: &[wire::ObjectRef],
        interrupt: Interrupt<'_>,
    ) -> Result<Vec<Value>, TaskFailure> {
        let references = self
            .import_refs(references, false)
            .map_err(|error| super::calls::bad_frame(&error))?;
        self.get_interruptibly(&references, None, interrupt)
            .map_err(GetError::into_failure)
    }
}

fn place_of(
    reference: &wire::ObjectRef,
    location: &wire::DependencyLocation,
) -> Result<ObjectPlace, TaskFailure> {
    let broken = |error: String| super::calls::bad_frame(&format!("bad dependency: {error}"));
    let object =
        ObjectId::from_bytes(&reference.object_id).map_err(|error| broken(error.to_string()))?;
    let owner = reference
        .owner
        .as_ref()
        .ok_or_else(|| broken("no owner".to_owned()))?;
    let owner = ProcessAddress::from_wire(owner).map_err(|error| broken(error.to_string()))?;
    let nodes = location
        .node_ids
        .iter()
        .filter_map(|node| NodeId::from_bytes(node).ok())
        .collect();
    Ok(ObjectPlace {
        object,
        owner,
        nodes,
        size_bytes: location.size_bytes,
        making: location.making,
    })
}
