//! Counted references to objects.

use std::fmt;
use std::sync::Arc;

use aktis_common::ids::{InvalidId, NodeId, ObjectId, WorkerId};
use aktis_proto::v1 as wire;

use crate::runtime::Runtime;
use aktis_common::marks::{Point, mark};

/// Where a process lives: its node and its worker id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessAddress {
    /// The node that runs it.
    pub node: NodeId,
    /// The process.
    pub worker: WorkerId,
}

impl ProcessAddress {
    /// Reads the wire form.
    pub fn from_wire(address: &wire::Address) -> Result<Self, InvalidId> {
        let node = NodeId::from_bytes(&address.node_id)?;
        Ok(Self {
            node,
            worker: WorkerId::from_bytes(&address.worker_id)?,
        })
    }

    /// The wire form.
    pub fn to_wire(self) -> wire::Address {
        wire::Address {
            node_id: self.node.to_wire(),
            worker_id: self.worker.to_wire(),
        }
    }
}

/// A counted reference to an object.
///
/// Clones share one count; when the last clone in this process goes, the owner is told, and when no process holds
/// one any more the object is freed.
#[derive(Clone)]
pub struct ObjectRef {
    held: Arc<HeldRef>,
}

struct HeldRef {
    id: ObjectId,
    /// `None`: this process.
    owner: Option<Box<ProcessAddress>>,
    runtime: Runtime,
}

impl ObjectRef {
    /// Wraps a reference that the object table has counted already.
    pub(crate) fn from_counted(id: ObjectId, owner: ProcessAddress, runtime: &Runtime) -> Self {
        Self {
            held: Arc::new(HeldRef {
                id,
                owner: (owner != runtime.address()).then(|| Box::new(owner)),
                runtime: runtime.clone(),
            }),
        }
    }

    /// The object.
    pub fn id(&self) -> ObjectId {
        self.held.id
    }

    /// The process that owns the object.
    pub fn owner(&self) -> ProcessAddress {
        let owner = self.held.owner.as_deref().copied();
        owner.unwrap_or_else(|| self.held.runtime.address())
    }

    /// The runtime this reference belongs to.
    pub fn runtime(&self) -> &Runtime {
        &self.held.runtime
    }

    /// Bytes of the object once it is ready; `None` while it is being made, or when that failed.
    pub fn size_bytes(&self) -> Option<u64> {
        self.held.runtime.object_size(self.held.id)
    }

    /// The wire form.
    pub fn to_wire(&self) -> wire::ObjectRef {
        wire::ObjectRef {
            object_id: self.held.id.to_wire(),
            owner: Some(self.owner().to_wire()),
        }
    }
}

impl Drop for HeldRef {
    fn drop(&mut self) {
        mark(Point::Releasing);
        self.runtime.release_reference(self.id);
        mark(Point::Released);
    }
}

impl fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectRef({})", self.held.id)
    }
}

impl PartialEq for ObjectRef {
    fn eq(&self, other: &Self) -> bool {
        self.held.id == other.held.id
    }
}

impl Eq for ObjectRef {}
